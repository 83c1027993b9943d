"""Every block and every command of README and docs, typed as its reader would type it.

`make test-slow` runs the demo at a small size, in a git clone, and types all pages in copies of it. `ONESTEP_DEMO=FOLDER`
takes a checkout after `make demo` instead; it stays as it is.
"""

import configparser
import contextlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import fsspec
import httpx
import pytest
import typer

from onestep.cli import entry
from onestep.cli.params import load_params
from onestep.core.child_environment import for_child
from onestep.core.params import merged
from onestep.core.yaml_files import dump_yaml, parse_yaml, read_yaml
from tests import documented
from tests.documented import PAGES, ROOT, Block, Command, Shell, all_blocks, all_commands, blocks, commands
from tests.flows.asking import wait_for
from tests.flows.conftest import free_port

ON_THE_PATH = 'export PATH="$PWD/.venv/bin:$PATH"'
SMALL = {
    "machine": {"threads": 1},
    "footage": {"shots": 120, "evaluation_shots": 300},
    "ingest": {"dev_share": 0.15, "workers": 1},
    "validate": {"min_train_clips": 32, "min_test_clips": 32, "max_quarantine_rate": 0.6},
    "consistency": {
        "updates": 2, "batch": 4, "pairs": 4, "warmup": 1, "teacher_steps": 2, "dmd": {"updates": 2, "warmup": 1},
    },
    "adversarial": {
        "updates": 2, "batch": 4, "discriminator_warmup": 1, "ema": [0.9], "evaluate_every": 2, "evaluate_clips": 8,
    },
    "samples": {"prompts": 4, "teacher": [[1, 1.0], [2, 1.0], [4, 1.0], [25, 1.0], [50, 1.0], [8, 4.0], [25, 4.0]], "batch": 4},
    "evaluate": {"resamples": 20, "gallery": 2},
    "latency": {"repeats": 1},
    "gate": {"min_prompts": 4},
}  # fmt: skip


ON_THE_DEMO = (  # typed by one test, each in a copy of the demo; README.md and docs/nightly.md have tests of their own
    "CONTRIBUTING.md", "docs/ablations.md", "docs/audit.md", "docs/gate.md", "docs/method.md", "docs/results.md",
    "docs/your-own-footage.md",
    "data/bundled/README.md", "data/seeds/README.md",
)  # fmt: skip


class Instead(NamedTuple):
    """A command that a test cannot type as it stands: why not, and what is typed in its place (None: nothing)."""

    page: str
    start: str  # of the command
    typed: str | None
    reason: str
    nth: int | None = None  # of the page's commands that start so; None = all
    small: bool = False  # it stands in the way of the small demo alone

    def replaces(self, command: Command, nth: int) -> bool:
        here = not (self.small and "ONESTEP_DEMO" in os.environ)
        return here and command.page == self.page and starts(command.text, self.start) and self.nth in (None, nth)


DEMO = "the demo of these tests was made by it"
ITSELF = "this test run is in it"
NAMED = "says what a command is called, not how it is typed; the command line has it"
HOURS = "takes hours"
PROMOTE = 'onestep ledger override promote --reason "so that there are tags" && onestep promote'
WORKERS = "the page says that it was typed but not run: needs Docker or Kubernetes, and a package index"
POSTGRES = "needs root, Debian's package index and the address 127.0.0.1:5432"
INSTEAD = (
    Instead("README.md", "make demo", None, DEMO),
    Instead("README.md", "make test ", "make test ARGS='-n 0 tests/core/test_yaml_files.py'",
            "this test run is in `make test-slow`"),
    Instead("README.md", "make long", "make --dry-run long && onestep profile profiles/long.yaml", "takes 87 minutes"),
    Instead("README.md", "make server", "make --dry-run server", "runs until Ctrl-C; typed with docs/nightly.md"),
    Instead("README.md", "onestep lineage reproduce", "onestep lineage reproduce --help", "docs/audit.md types it"),
    Instead("README.md", "make lint", "make --dry-run lint", "`.ci/run` types it"),
    Instead("README.md", "dvc import-url", "dvc import-url --help", NAMED),
    Instead("CONTRIBUTING.md", "make setup", None, DEMO),
    Instead("CONTRIBUTING.md", "pytest -n 0", "pytest --help >/dev/null", ITSELF),
    Instead("CONTRIBUTING.md", "make lint typecheck", "make --dry-run lint typecheck", "CI runs it"),
    Instead("docs/ablations.md", "python benchmarks/ablations.py", "python benchmarks/ablations.py --help", HOURS),
    Instead("docs/audit.md", "make demo", None, DEMO),
    Instead("docs/audit.md", "python benchmarks/tamperings.py", "python benchmarks/tamperings.py --help",
            "takes minutes; tests/provenance/test_verify.py runs each of its tamperings"),
    Instead("docs/audit.md", "git tag --list", f"{PROMOTE} && git tag --list 'onestep*' | xargs -r -n 1 git -c gpg.format=ssh "
            "-c gpg.ssh.allowedSignersFile=.onestep/allowed tag --verify", "a model that was not promoted has no tags to verify"),
    Instead("docs/audit.md", "onestep keygen FILE", "onestep keygen .onestep/another", "FILE stands for a name"),
    Instead("docs/audit.md", "ssh-keygen -t ed25519", "ssh-keygen -q -t ed25519 -N '' -f .onestep/third && "
            "onestep record --key .onestep/third", "asks for a file and a password"),
    Instead("docs/audit.md", "onestep keygen", "mv .onestep/signing-key.pub .onestep/old.pub && rm .onestep/signing-key && "
            "onestep keygen && cat .onestep/old.pub .onestep/signing-key.pub > .onestep/trusted && "
            "onestep lineage verify onestep --trust .onestep/trusted", "its sentence as a whole", nth=2),
    Instead("docs/audit.md", "onestep rollback v1.0.0", "onestep rollback --help",
            "needs a second version; tests/registry/test_rollback.py rolls back"),
    Instead("docs/audit.md", "dvc gc", None, "shown beside `onestep gc`, which is typed", nth=1),
    Instead("docs/audit.md", "dvc gc --workspace", "dvc gc --workspace --force", "asks whether it is meant"),
    Instead("docs/gate.md", "make demo", None, DEMO),
    Instead("docs/gate.md", "onestep gate", "onestep gate --help", "a stage of dvc.yaml, where its words are"),
    Instead("docs/gate.md", "git fetch origin ledger:ledger", "git push origin ledger && git fetch origin ledger:ledger",
            "the repository that the demo was cloned from has no ledger before one is pushed"),
    Instead("docs/gate.md", "python benchmarks/nightly_gate.py", "python benchmarks/nightly_gate.py --help", "takes minutes"),
    Instead("docs/gate.md", "python benchmarks/candidates.py", "python benchmarks/candidates.py --help", HOURS),
    Instead("docs/gate.md", "onestep lineage verify", "onestep lineage verify onestep", NAMED),
    Instead("docs/method.md", "make demo", None, DEMO),
    Instead("docs/method.md", "make long", "make --dry-run long", "takes 87 minutes"),
    Instead("docs/method.md", "python benchmarks/step_cost.py", "python benchmarks/step_cost.py --repeats 1", "takes minutes"),
    Instead("docs/method.md", "python benchmarks/ablations.py", "python benchmarks/ablations.py --help",
            "takes a quarter of an hour; tests/test_ablations.py runs ablations"),
    Instead("docs/method.md", "dvc get . models/consistency", "cp -r models/consistency started",
            "takes the student of the ablation above"),
    Instead("docs/method.md", "python benchmarks/collapse.py", "python benchmarks/collapse.py --start started "
            '--start-name "from consistency distillation" --discriminator-factor 5 --updates 2 --every 2 --threads 1 '
            '--forms "as set" "as set, no penalty"', "200 updates take minutes"),
    Instead("docs/results.md", "make demo", None, DEMO),
    Instead("docs/results.md", "make full", "make --dry-run full && onestep profile profiles/full.yaml", "takes half an hour"),
    Instead("docs/results.md", "make long", "make --dry-run long", "takes 87 minutes"),
    Instead("docs/results.md", "dvc exp run $(onestep profile profiles/long.yaml)", "onestep profile profiles/long.yaml",
            "takes 87 minutes"),
    Instead("docs/results.md", "dvc exp run $(onestep profile profiles/full.yaml)", "onestep profile profiles/full.yaml",
            "takes half an hour"),
    Instead("docs/results.md", "dvc exp run --name long-3", "echo dvc exp run --name long-3 $(onestep profile "
            "profiles/long.yaml) -S consistency.seed=3 -S adversarial.seed=3", "takes 87 minutes"),
    Instead("data/bundled/README.md", "(cd data/bundled && dvc repro)", "(cd data/bundled && dvc repro --dry --single-item "
            "footage)", "takes 80 minutes; tests/pretraining runs its methods"),
    Instead("data/bundled/README.md", "dvc init --subdir", "mkdir of-its-own && cd of-its-own && dvc init --subdir && cd ..",
            "the folder is one already"),
    Instead("data/bundled/README.md", "dvc repro vae", "(cd data/bundled && dvc dag vae)",
            "takes 19 minutes"),
    Instead("data/bundled/README.md", "du -sh tiny-wan", "du -sh data/bundled/tiny-wan", "names the folder as the page does"),
    Instead("docs/nightly.md", "onestep promote", None, "docs/audit.md types it"),
    Instead("docs/nightly.md", "git clone <your repository> onestep && cd onestep", 'git clone "$REPOSITORY" onestep && '
            "cd onestep && eval $LEND", "the address stands for a team's own", nth=1),
    Instead("docs/nightly.md", "make server ARGS='--host 0.0.0.0'", "make --dry-run server ARGS='--host 0.0.0.0'",
            "opens a port to the network"),
    Instead("docs/nightly.md", "make server ARGS='--port 4201'", "make --dry-run server ARGS='--port 4201'",
            "runs until Ctrl-C, as the one of this page does"),
    Instead("docs/nightly.md", "export PREFECT_API_URL=http://127.0.0.1:4200/api", 'export PREFECT_API_URL="$SERVER"',
            "port 4200 may be taken where tests run"),
    Instead("docs/nightly.md", "onestep lineage verify", None, "docs/audit.md types it, on a clone with a record"),
    Instead("docs/nightly.md", "dvc update", "dvc update --help", NAMED),
    Instead("docs/nightly.md", "git merge runs/<id>", "git merge --help >/dev/null", "<id> stands for a run's id"),
    Instead("docs/nightly.md", "make test-slow", None, ITSELF),
    Instead("docs/nightly.md", "prefect deploy", "prefect deploy --help", "typed with `--all` above"),
    Instead("docs/nightly.md", "apt-get install postgresql", None, POSTGRES),
    Instead("docs/nightly.md", "pg_ctlcluster", None, POSTGRES),
    Instead("docs/nightly.md", "su postgres", None, POSTGRES),
    Instead("docs/nightly.md", "export PREFECT_API_DATABASE_CONNECTION_URL", "python -c 'import asyncpg, sqlalchemy; "
            'sqlalchemy.engine.make_url("postgresql+asyncpg://prefect:choose-one@127.0.0.1:5432/prefect").get_dialect()\'',
            POSTGRES),
    Instead("docs/nightly.md", "make server", None, POSTGRES, nth=4),
    Instead("docs/nightly.md", "git clone <your repository>", "make setup && make doctor",
            "the clone of section 1 serves as the worker's", nth=2),
    Instead("docs/nightly.md", "export PREFECT_API_URL=http://the-server", 'export PREFECT_API_URL="$SERVER" '
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY=30", "the-server stands for a machine"),
    Instead("docs/nightly.md", "prefect worker start --pool gpu", "prefect worker start --pool gpu --run-once",
            "runs until Ctrl-C", nth=1),
    Instead("docs/nightly.md", "pip install prefect-docker", None, WORKERS),
    Instead("docs/nightly.md", "prefect work-pool create gpu-docker", "prefect work-pool create --help", WORKERS),
    Instead("docs/nightly.md", "prefect worker start --pool gpu-docker", "prefect worker start --help", WORKERS),
    Instead("docs/nightly.md", "python benchmarks/flow_overhead.py", "python benchmarks/flow_overhead.py --help",
            "takes minutes"),
    Instead("docs/your-own-footage.md", "python -m benchmarks.odd_footage", "python -m benchmarks.odd_footage --help",
            "takes a minute; tests/data/test_odd_footage.py runs it"),
    Instead("docs/your-own-footage.md", "dvc remove --outs footage", None, "tests/test_own_footage.py types it"),
    Instead("docs/your-own-footage.md", "dvc import-url", None, "tests/test_own_footage.py types it"),
    Instead("docs/your-own-footage.md", "onestep margins", "onestep margins data/clips models/judge --out data/margins.json",
            "no caption of the small demo's training clips repeats", small=True),
    Instead("docs/your-own-footage.md", "dvc update data/footage.dvc", None, "tests/test_own_footage.py types it"),
)  # fmt: skip


class Says(NamedTuple):
    """What a page says that a command prints."""

    page: str
    start: str
    pattern: str
    nth: int = 1


REPRODUCED = r"(?s)environment: the recorded one, package for package\nrunning by force: consistency, adversarial, "
SAYS = (
    Says("README.md", "make doctor", "(?s)ok +python.*ready for a night"),
    Says("README.md", "onestep lineage show", "lineage.html"),
    Says("README.md", "onestep lineage verify", r"passed: runs/\w+ is what its record says"),
    Says("README.md", "onestep lineage blame", r"runs/\w+ .*shots/00000.mp4"),
    Says("docs/audit.md", "onestep lineage list", r"runs/\w+ +(promote|hold|reject) +\w{12} +SHA256:"),
    Says("docs/audit.md", "onestep ledger show", r"(?s)attempt .*verdict .*2 entries, head"),
    Says("docs/audit.md", 'git show "$run:records/onestep.intoto', '"_type": "https://in-toto.io/Statement/v1"'),
    Says("docs/audit.md", "onestep lineage verify", "exit code 0"),
    Says("docs/audit.md", "onestep lineage verify", r"(?s)BROKEN  files of DVC: .*its bytes in the cache.*exit code 3", 2),
    Says("docs/audit.md", "onestep lineage reproduce", REPRODUCED + "samples-onestep, samples-consistency, "
         "evaluate\n.*runs/\\w+: identical by 5 "
         "stages run again\n  weights  distance 0; metrics distance 0\nexit code 0"),
    Says("docs/audit.md", "onestep lineage diff", "(?s)footage: the same.*metrics: the same"),
    Says("docs/audit.md", "onestep lineage blame", "trained on it"),
    Says("docs/audit.md", "onestep lineage without", "(?s)retrain.*stages +ingest, validate"),
    Says("docs/audit.md", "onestep lineage card", "(?s)card/README.md.*card/bom.cdx.json"),
    Says("docs/audit.md", "git tag --list", 'Good "git" signature'),
    Says("docs/gate.md", "onestep ledger show", r"entries, head \w{64}"),
    Says("docs/gate.md", "onestep ledger close", r"comparison 2: (promote|hold|reject)"),
    Says("docs/nightly.md", "prefect deployment run nightly/nightly", "Completed"),
    Says("docs/nightly.md", "make doctor", "(?s)ok +remote.*ready for a night"),
    Says("docs/your-own-footage.md", "dvc repro", "up to date"),
    Says("data/bundled/README.md", "onestep margins", ""),
)  # fmt: skip


def typed_on(page: str, shell: Shell, meanwhile: Mapping[str, Callable[[], None]] | None = None) -> None:
    """Type all commands of a page, in its order; raises with the first that fails or does not say what the page says."""
    seen: list[str] = []
    for command in commands(page):
        found = [each for each in INSTEAD if each.replaces(command, nth(command, each.start, seen))]
        done = (meanwhile or {}).get(command.text)
        if found or not done:
            if text := found[0].typed if found else command.text:
                answer = shell.type(text)
                assert not answer.failed, f"{command}\n{answer}"
                for says in SAYS:
                    if (
                        says.page == page
                        and starts(command.text, says.start)
                        and says.nth == nth(command, says.start, seen)
                    ):
                        assert re.search(says.pattern, answer.said), f"{command}: not {says.pattern!r}\n{answer}"
        else:
            done()
        seen.append(command.text)


def nth(command: Command, start: str, before: list[str]) -> int:
    return 1 + sum(starts(text, start) for text in before)


def starts(text: str, words: str) -> bool:
    """Whether a command starts with these words, the last one whole."""
    return re.match(rf"{re.escape(words)}(?![a-z-])", text) is not None


# what the pages say, held against the code


def test_the_pages_are_all_of_the_repository() -> None:
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(listed.split()) == {*PAGES, *documented.WITHOUT_COMMANDS}


def test_blocks_and_commands_are_found() -> None:
    assert len(all_blocks()) >= 50
    assert len(all_blocks("sh")) >= 30
    assert {"sh", "python", "yaml", "csv", "json", "ini", ""} == {block.language for block in all_blocks()}
    assert len(all_commands()) >= 110
    assert all(commands(page) for page in PAGES)


@pytest.mark.parametrize("instead", INSTEAD, ids=lambda instead: f"{instead.page}: {instead.start[:30]}")
def test_what_is_typed_differently_still_stands_in_its_page(instead: Instead) -> None:
    found = [command for command in commands(instead.page) if starts(command.text, instead.start)]
    assert len(found) >= (instead.nth or 1), f"{instead.page} has no {instead.start!r} (any more)"


@pytest.mark.parametrize("says", SAYS, ids=lambda says: f"{says.page}: {says.start[:30]}")
def test_what_is_expected_of_a_command_has_its_command(says: Says) -> None:
    assert sum(starts(command.text, says.start) for command in commands(says.page)) >= says.nth


@pytest.mark.parametrize("page", [page for page in PAGES if page != "docs/ablations.md"])
def test_a_page_says_how_its_programs_come_on_the_path_before_it_uses_them(page: str) -> None:
    text = (ROOT / page).read_text()
    first = min(
        block.line
        for block in blocks(page)
        if re.search(r"^\W*(onestep|dvc|prefect|python) ", block.text, re.MULTILINE)
    )
    assert ON_THE_PATH in "\n".join(text.splitlines()[: first + 10])


def named_by(words: list[str]) -> tuple[Any, list[str]]:
    """The command that these words after `onestep` name, and its own words."""
    found, words = typer.main.get_command(entry.app), list(words)
    while hasattr(found, "commands") and words and not words[0].startswith("-"):
        assert words[0] in found.commands, f"onestep has no {words[0]!r}: it has {sorted(found.commands)}"
        found = found.commands[words.pop(0)]
    return found, words


def onestep_commands() -> list[tuple[str, list[str]]]:
    """Where a page or the Makefile runs `onestep`, and the words after it, up to the end of the shell's command."""
    texts = [(str(command), command.text) for command in all_commands()]
    texts += [(f"Makefile: {line.strip()}", line) for line in (ROOT / "Makefile").read_text().splitlines()]
    found = []
    for where, text in texts:
        for rest in re.findall(r"(?:^|[\s(/])onestep ([^|;&)#\n]*)", text):
            words = rest.replace('"', " ").replace("'", " ").split()
            if words and re.fullmatch(r"-*[a-z][\w-]*", words[0]):
                found.append((where, words))
    return found


def test_every_command_and_option_that_a_page_shows_exists() -> None:
    shown = onestep_commands()
    assert len(shown) >= 45
    for where, words in shown:
        command, own = named_by(words)
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {
            "--help"
        }
        unknown = [word for word in own if word.startswith("--") and word.partition("=")[0] not in known]
        assert not unknown, f"{where}: {unknown} not among {sorted(known)}"


def test_every_command_tells_what_it_does() -> None:
    def leaves(command: Any) -> Iterator[Any]:
        yield command
        for below in getattr(command, "commands", {}).values():
            yield from leaves(below)

    everything = list(leaves(typer.main.get_command(entry.app)))
    assert len(everything) >= 45
    assert all(command.help for command in everything)


def test_every_option_in_a_sentence_belongs_to_a_command_of_its_page() -> None:
    def options(command: Any) -> set[str]:
        below = [options(inner) for inner in getattr(command, "commands", {}).values()]
        return {name for each in command.params for name in (*each.opts, *each.secondary_opts)}.union(*below)

    known = options(typer.main.get_command(entry.app))
    for page in PAGES:
        for line, text in documented.inline_code(page):
            if re.fullmatch(r"--[a-z][a-z-]+( [A-Z]+)?", text):
                assert text.split()[0] in known, f"{page}:{line}: {text}"


def test_every_target_of_make_that_a_page_shows_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = {target for command in all_commands() for target in re.findall(r"(?:^|&& )make ([a-z-]+)", command.text)}
    assert {"demo", "test", "setup", "server", "doctor", "long"} <= shown <= targets


def test_every_script_that_a_page_shows_exists() -> None:
    shown = {path for command in all_commands() for path in re.findall(r"python (\S+\.py)", command.text)}
    assert len(shown) >= 9
    assert all((ROOT / path).is_file() for path in shown)


def test_every_link_of_a_page_leads_somewhere() -> None:
    shown = 0
    for page in (*PAGES, *documented.WITHOUT_COMMANDS):
        anchors: dict[Path, set[str]] = {}
        for line, target in documented.links(page):
            if re.match(r"https?://", target):
                continue
            path, _, anchor = target.partition("#")
            file = ((ROOT / page).parent / path).resolve() if path else ROOT / page
            assert file.exists(), f"{page}:{line}: {target}"
            if anchor:
                known = anchors.setdefault(file, documented.anchors(file))
                assert anchor in known, f"{page}:{line}: {target} not among {sorted(known)}"
            shown += 1
    assert shown >= 60


def test_every_setting_that_a_page_names_exists() -> None:
    groups, shown = read_yaml(ROOT / "params.yaml"), 0
    for page in PAGES:
        for line, text in documented.inline_code(page):
            path = re.match(r"([a-z]+(?:\.[a-z_0-9]+)+)(: \S+|=\S+)?$", text)
            keys = path[1].split(".") if path else []
            if (
                not keys
                or keys[0] not in (*groups, "dmd")
                or keys[-1] in ("md", "py", "json", "dvc", "yaml", "parquet")
            ):
                continue
            value: Any = groups["consistency"] if keys[0] == "dmd" else groups
            for key in keys:
                assert isinstance(value, dict) and key in value, f"{page}:{line}: params.yaml has no {text}"
                value = value[key]
            shown += 1
    assert shown >= 25


def exit_codes(page: str) -> list[set[int]]:
    """The codes of each table of a page whose first column is called `exit code`, in the page's order."""
    tables = re.findall(r"^\| exit code \|.*\n\|[-| ]+\n((?:\|.*\n)+)", (ROOT / page).read_text(), re.MULTILINE)
    return [{int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} for table in tables]


def test_the_exit_codes_of_a_page_are_those_of_the_code() -> None:
    from onestep.provenance import reproduce, store, verify

    of_verify = {verify.PASSED, verify.BROKEN, verify.UNSIGNED, verify.UNKNOWN_SIGNER, verify.OTHER_COPY}
    of_reproduce = {*reproduce.EXIT_CODES.values(), reproduce.ReproduceFailed.exit_code}
    assert exit_codes("docs/audit.md") == [of_verify | {store.NoRecord.exit_code}, of_reproduce]
    for command, codes in zip(("verify", "reproduce"), exit_codes("docs/audit.md"), strict=True):
        told = named_by(["lineage", command])[0].help.partition("Exit codes:")[2]
        assert {int(code) for code in re.findall(r"\b(\d)\b", told)} == codes


# blocks that are read, not typed


def legal_settings(block: Block, folder: Path) -> None:
    changes = parse_yaml(block.text, str(block))
    (folder / "params.yaml").write_text(dump_yaml(merged(read_yaml(ROOT / "params.yaml"), changes)))
    load_params(folder / "params.yaml")


def parameters_of_promote(block: Block, folder: Path) -> None:
    from flows.promote import promote

    shown = parse_yaml(block.text, str(block))
    shipped = next(each for each in read_yaml(ROOT / "prefect.yaml")["deployments"] if each["name"] == "promote")
    assert set(shown) <= set(shipped["parameters"])
    assert promote.validate_parameters({"project": ".", "branch": "runs/1", **shown})["silence"] == shown["silence"]


def meta_of_a_stage(block: Block, folder: Path) -> None:
    named = parse_yaml(block.text, str(block))["meta"]["environment"]
    assert for_child(named, {named[0]: "x", "OTHER": "y"}) == {named[0]: "x"}


def work_pool(block: Block, folder: Path) -> None:
    shown = parse_yaml(block.text, str(block))["work_pool"]
    assert shown["name"] == "gpu-docker" and {"image", "env", "volumes"} <= set(shown["job_variables"])


def table_of_footage(block: Block, folder: Path) -> None:
    from onestep.data.metadata import read_metadata

    (folder / "metadata.csv").write_text(block.text)
    found = read_metadata(fsspec.filesystem("file"), str(folder))
    listing = documented.block_that_starts("docs/your-own-footage.md", "our-footage/").text
    assert set(found) == set(re.findall(r"takes/\S+", listing)) and len(found) == 2


def unmeasured_metrics(block: Block, folder: Path) -> None:
    code = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    shown = json.loads(f"{{{block.text}}}")["unmeasured"]
    assert len(shown) == 2
    assert all(f'"{reason}"' in code for reason in shown.values())


def unit_of_systemd(block: Block, folder: Path) -> None:
    unit = configparser.ConfigParser(strict=True)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(block.text)
    service = unit["Service"]
    assert service["ExecStart"].removeprefix(service["WorkingDirectory"]) == "/.venv/bin/python -m flows.server"
    if analyse := shutil.which("systemd-analyze"):
        here = str(folder)
        text = block.text.replace("/srv/onestep/.venv/bin/python", sys.executable).replace("/srv/onestep", here)
        (folder / "onestep.service").write_text(text.replace("User=onestep", "User=root"))
        done = subprocess.run(
            [analyse, "verify", folder / "onestep.service"], capture_output=True, text=True, check=False
        )
        assert "onestep.service:" not in done.stderr, done.stderr


def times_of_stages(block: Block, folder: Path) -> None:
    stages = read_yaml(ROOT / "dvc.yaml")["stages"]
    shown = dict(re.findall(r"^(\S+) +(\d+) s +(?:\d+ s|cached)$", block.text, re.MULTILINE))
    total = shown.pop("stages")
    assert shown == {name: str(stage["meta"]["budget_s"]) for name, stage in stages.items()}
    assert total == str(sum(map(int, shown.values())))


def is_a_loss(block: Block, folder: Path) -> None:
    import torch

    names: dict[str, Any] = {"Tensor": torch.Tensor, "relu": torch.relu}
    exec(block.text, names)
    low, high = torch.full((4,), -3.0), torch.full((4,), 3.0)
    assert names["hinge_discriminator"](high, low) < names["hinge_discriminator"](low, high)
    assert names["hinge_generator"](low, high) < names["hinge_generator"](high, low)


def forbids_a_holiday(block: Block, folder: Path) -> None:
    from onestep.nightly import retrain_policy
    from tests.nightly.test_retrain_policy import NOW, QUIET, SETTINGS

    names = dict(vars(retrain_policy))
    exec(block.text, names)
    settings = SimpleNamespace(**SETTINGS.model_dump(), holidays=(f"{NOW:%m-%d}",))
    rules = (*retrain_policy.RULES, names["holiday"])
    for by_hand in (False, True):
        situation = replace(QUIET, new_clips=99, by_hand=by_hand)
        assert retrain_policy.decide(situation, settings, rules).retrain is by_hand


def uploads_a_model(block: Block, folder: Path) -> None:
    from flows import after_promotion

    uploaded: dict[str, Any] = {}
    hub = SimpleNamespace(upload_folder=lambda **given: uploaded.update(given))
    names = {**vars(after_promotion), "HfApi": lambda: hub, "REPOSITORY": "our/model"}
    exec(block.text, names)
    promotion = SimpleNamespace(version_tag="onestep@v1.0.0")
    promoted = after_promotion.Promoted(SimpleNamespace(root=ROOT), promotion, "main")
    notes = after_promotion.follow_up(promoted, logging.getLogger(), [names["upload"]])
    assert notes == ["uploaded onestep@v1.0.0 to our/model"]
    assert uploaded["folder_path"] == ROOT / "models" / "onestep"


def compiles(block: Block, folder: Path) -> None:
    compile(block.text, str(block), "exec")  # and it runs on the demo's model, below


FORMULA = "a formula, not something to type"
READ: tuple[tuple[str, str, str, Callable[[Block, Path], None] | str], ...] = (
    ("CONTRIBUTING.md", "python", "def hinge_discriminator(", is_a_loss),
    ("CONTRIBUTING.md", "python", "def holiday(", forbids_a_holiday),
    ("CONTRIBUTING.md", "python", "def upload(", uploads_a_model),
    ("README.md", "python", "from diffusers import WanPipeline", compiles),
    ("docs/audit.md", "", "environment: the recorded one", "what `reproduce` prints; the walk compares it"),
    ("docs/method.md", "", "x̂_w = ", FORMULA),
    ("docs/method.md", "", "score model: ", FORMULA),
    ("docs/method.md", "", "G(z, c) = ", FORMULA),
    ("docs/nightly.md", "ini", "# /etc/systemd/system/onestep.service", unit_of_systemd),
    ("docs/nightly.md", "yaml", "      approver: Ada", parameters_of_promote),
    ("docs/nightly.md", "yaml", "    meta: {environment:", meta_of_a_stage),
    ("docs/nightly.md", "yaml", "    work_pool:", work_pool),
    ("docs/results.md", "", "stage  ", times_of_stages),
    ("docs/your-own-footage.md", "", "our-footage/", "a folder; its names are those of the table below it"),
    ("docs/your-own-footage.md", "csv", "file_name,caption", table_of_footage),
    ("docs/your-own-footage.md", "json", '"unmeasured"', unmeasured_metrics),
    ("docs/your-own-footage.md", "yaml", "evaluate:", legal_settings),
    ("docs/your-own-footage.md", "yaml", "base:", legal_settings),
)


def test_every_block_is_typed_read_or_listed_and_all_that_is_listed_is_there() -> None:
    others = {(block.page, block.language, block.text) for block in all_blocks() if block.language != "sh"}
    matched = [
        [block for block in others if block[:2] == (page, kind) and block[2].startswith(start)]
        for page, kind, start, _ in READ
    ]
    assert all(len(found) == 1 for found in matched), matched
    assert others == {block for found in matched for block in found}
    assert {block.page for block in all_blocks("sh")} <= {"README.md", "docs/nightly.md", *ON_THE_DEMO}


@pytest.mark.parametrize(
    ("page", "language", "start", "check"), READ, ids=lambda value: getattr(value, "__name__", str(value))[:30]
)
def test_a_block_that_is_not_typed_says_what_is_so(
    page: str, language: str, start: str, check: Callable[[Block, Path], None] | str, tmp_path: Path
) -> None:
    if isinstance(check, str):
        assert check
    else:
        check(documented.block_that_starts(page, start), tmp_path)


# the demo, and each page typed in a copy of it


class Demo(NamedTuple):
    """A checkout after `make demo`, the repository that it was cloned from, and the environment of who typed it."""

    project: Path
    repository: Path
    environment: dict[str, str]
    said: str | None


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("documented")
    environment = documented.readers_environment(folder / "home")
    if finished := os.environ.get("ONESTEP_DEMO"):
        project = Path(finished).resolve()
        documented.run(folder, "git", "clone", "--quiet", "--bare", str(project), "repository.git")
        return Demo(project, folder / "repository.git", environment, None)
    documented.working_tree(folder / "tree")
    settings = folder / "tree" / "params.yaml"
    settings.write_text(dump_yaml(merged(read_yaml(settings), SMALL)))
    documented.commit(folder / "tree", "Small")
    documented.run(folder, "git", "clone", "--quiet", "--bare", "tree", "repository.git")
    documented.run(folder, "git", "clone", "--quiet", "repository.git", "onestep")
    documented.lend_environment(folder / "onestep")
    with Shell(folder / "onestep", environment, folder / "typed") as shell:
        answer = shell.type("make demo")
    assert not answer.failed, str(answer)
    return Demo(folder / "onestep", folder / "repository.git", environment, answer.said)


@pytest.fixture
def repository(demo: Demo, tmp_path: Path) -> Path:
    """A copy of the repository that the demo was cloned from, since some pages push to it."""
    shutil.copytree(demo.repository, tmp_path / "repository.git", symlinks=True)
    return tmp_path / "repository.git"


@pytest.fixture
def copy(demo: Demo, repository: Path, tmp_path: Path) -> Path:
    """A copy of the demo's checkout, with a cache of its own."""
    skip = shutil.ignore_patterns(".venv")
    shutil.copytree(demo.project, tmp_path / "onestep", symlinks=True, ignore=skip)
    documented.lend_environment(tmp_path / "onestep")
    documented.run(tmp_path / "onestep", "git", "config", "remote.origin.url", str(repository))
    return tmp_path / "onestep"


@pytest.fixture
def shell(demo: Demo, copy: Path, tmp_path: Path) -> Iterator[Shell]:
    """A reader's terminal at the top of a copy of the demo."""
    with Shell(copy, demo.environment, tmp_path / "typed") as opened:
        yield opened


@pytest.mark.slow
def test_the_demo_ends_with_the_times_of_all_stages_and_commands_that_work(demo: Demo, shell: Shell) -> None:
    if demo.said is None:
        pytest.skip("the finished demo of ONESTEP_DEMO was made elsewhere")
    shown = documented.block_that_starts("docs/results.md", "stage  ").text.splitlines()
    said = demo.said.splitlines()
    start = said.index(shown[0])
    assert [line.split()[0] for line in said[start : start + len(shown)]] == [line.split()[0] for line in shown]
    typed = [line for line in demo.said.splitlines() if ".venv/bin/onestep" in line]
    assert len(typed) == 2
    for line in typed:
        command = line[line.index(".venv") :].partition(" (")[0]
        answer = shell.type(command)
        assert not answer.failed, str(answer)


@pytest.mark.slow
def test_the_readme(shell: Shell, copy: Path) -> None:
    typed_on("README.md", shell)
    assert (copy / "clip.mp4").stat().st_size and (copy / "teacher.gif").stat().st_size
    assert (copy / "lineage.html").stat().st_size
    snippet = next(block for block in blocks("README.md") if block.language == "python")
    (copy / "snippet.py").write_text(f"{snippet.text}\nprint(len(video), video[0].shape)\n")
    answer = shell.type("python snippet.py")
    assert "13 (64, 64, 3)" in answer.said, str(answer)


@pytest.mark.slow
@pytest.mark.parametrize("page", ON_THE_DEMO)
def test_a_page_that_is_typed_after_the_demo(page: str, shell: Shell) -> None:
    shell.type(ON_THE_PATH)
    typed_on(page, shell)


@pytest.mark.slow
def test_the_page_of_the_night(demo: Demo, repository: Path, copy: Path, tmp_path: Path) -> None:
    """From a clone to a night that ended; what the demo made is taken from its cache."""
    port = free_port()
    shutil.move(copy, tmp_path / "demo")  # the page's own clone is called onestep
    lend = f"{sys.executable} {ROOT / 'tests' / 'documented.py'} . {tmp_path / 'demo' / '.dvc' / 'cache'}"
    environment = demo.environment | {
        "REPOSITORY": str(repository),
        "LEND": lend,
        "SERVER": f"http://127.0.0.1:{port}/api",
        "PREFECT_HOME": str(tmp_path / "prefect"),
    }
    with contextlib.ExitStack() as until_the_end:
        environment |= until_the_end.enter_context(bucket("our-bucket"))
        log = tmp_path / "server.log"

        def server() -> None:
            words = f"make server ARGS='--port {port}'"
            process = until_the_end.enter_context(documented.started(words, tmp_path / "onestep", environment, log))
            wait_for(lambda: process.poll() is not None or "\nstop " in log.read_text(), 300, "the server's page")
            assert f"page     http://127.0.0.1:{port}" in log.read_text()

        shell = until_the_end.enter_context(Shell(tmp_path, environment, tmp_path / "typed"))
        typed_on("docs/nightly.md", shell, {"make server": server})
    runs = documented.run(tmp_path / "onestep", "git", "branch", "--list", "runs/*", "ledger")
    assert "runs/" in runs and "ledger" in runs, "the night was not recorded"


@contextlib.contextmanager
def bucket(name: str) -> Iterator[dict[str, str]]:
    """An S3 service on loopback with an empty bucket: the settings by which AWS's tools find it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        address = f"http://{host}:{port}"
        assert httpx.put(f"{address}/{name}").is_success
        yield {key.upper(): value for key, value in keys.items()} | {
            "AWS_ENDPOINT_URL": address,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    finally:
        server.stop()
