"""A sequence of real candidates through the gate, one night after the other, with the ledger to show for it.

    python benchmarks/candidates.py              # all of profiles/candidates.yaml
    python benchmarks/candidates.py --nights 2   # at most two more nights now
    python benchmarks/candidates.py --report     # run nothing: results, ledger and table from the clone as it is
    python benchmarks/candidates.py --table      # run nothing: the table alone, from results/candidates.json

Each candidate is params.yaml with other settings, and goes the way of a real night, in a clone with the project's cache:
its attempt is entered in the ledger, `dvc repro` trains, samples, measures and judges it, `onestep record` records it
whatever the verdict, and `onestep promote` puts it into production if the gate says so; the next one is then judged
against it. In the end `onestep lineage verify` is asked about every run.

What is done is read from the ledger, so stop it at any moment and start it again: an interrupted night is taken up, with
the alpha and the noise that it was offered. The clone stays, for people to look at.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from onestep.cli.params import Params
from onestep.core.failures import one_sentence
from onestep.core.params import SettingsError, load_group, merged, parse_settings
from onestep.core.paths import METRICS, PARAMS, VERDICT
from onestep.core.storage import read_json, replacing, write_json
from onestep.core.yaml_files import dump_yaml, read_yaml
from onestep.gate.settings import GateSettings
from onestep.gate.spending import wealth
from onestep.models.settings import FetchSettings
from onestep.nightly import workspace
from onestep.provenance import ledger
from onestep.provenance.entries import Promotion, Trial, Verdict, head_of, of_kind
from onestep.provenance.ledger import LedgerMoved
from onestep.provenance.store import find
from onestep.registry.fingerprint import params_sha256
from onestep.registry.history import enter
from onestep.registry.trials import TrialRefused, promoted_by_gate
from onestep.vcs.git import Repository
from onestep.vcs.graph import inputs_of
from onestep.vcs.project import Project
from pages import fill

TOOK = ".onestep/candidates.json"  # in the clone: seconds of each night, which the ledger does not know
SCRIPT = "candidates"


class CandidatesError(RuntimeError):
    """The sequence cannot be run; the message names the file, key or command."""


@dataclass(frozen=True)
class Candidate:
    """One candidate: its name, what it is in words, and all of its params.yaml."""

    name: str
    title: str
    params: Mapping[str, Any]
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Night:
    """What became of one candidate, from the ledger and from what its run recorded."""

    night: int
    candidate: str
    title: str
    changes: Mapping[str, Any]
    alpha: float
    seed: int
    against: str | None  # the champion that it was judged against
    verdict: str
    reason: str
    not_passed: dict[str, str]  # rules by their outcome
    metrics: dict[str, Any]
    wealth: float  # after this night
    champion: str | None  # after this night
    run: str | None
    seconds: float | None
    verified: int | None  # exit code of `onestep lineage verify`; null = not asked yet


def read_profile(profile: Path, params: Path) -> list[Candidate]:
    """The candidates in order, each checked against params.yaml; raises `CandidatesError`."""
    content, shipped = (read_yaml(path) for path in (profile, params))
    common = content.get("settings") or {}
    found = []
    for name, entry in content["candidates"].items():
        changes = entry.get("settings") or {}
        if unknown := sorted({*common, *changes} - set(shipped)):
            raise CandidatesError(f"{profile}: {unknown[0]} is not in {PARAMS}; known are {', '.join(shipped)}")
        params_of = merged(merged(shipped, common), changes)
        for group, values in params_of.items():
            if kind := _kind(group):
                try:
                    parse_settings(kind, values, f"{profile}, candidate {name}: {group}")
                except SettingsError as error:
                    raise CandidatesError(str(error)) from error
        found.append(Candidate(name, entry["title"], params_of, changes))
    return found


def open_clone(project: Path, clone: Path) -> None:
    """The clone that all nights work in, with the project's cache and a key of its own; left alone where it exists."""
    if not clone.exists():
        workspace.open_workspace(Project(project), clone.name, folder=clone.parent).close()
    call(clone, "onestep", "keygen", "--if-missing")


def one_night(clone: Path, candidate: Candidate) -> bool:
    """Let a candidate go through its night; false where it has been through it. Raises `CandidatesError`."""
    started = time.monotonic()
    (clone / PARAMS).write_text(dump_yaml(dict(candidate.params)), encoding="utf-8")
    call(clone, "dvc", "repro", "validate")
    comparison = judged(clone, candidate)
    new = comparison is None
    if new:
        pin = enter(Project(clone), _gate(clone), load_group(FetchSettings, clone / PARAMS, "judge").sha256)
        print(f"comparison {pin.comparison}: {candidate.name}, alpha {pin.alpha:.3g}, seed {pin.seed}", flush=True)
        call(clone, "dvc", "repro")
        call(clone, "onestep", "record")
        comparison = pin.comparison
    entries = ledger.read(Repository(clone))
    said = next(v for v in of_kind(entries, Verdict) if v.comparison == comparison)
    if said.verdict == "promote" and comparison not in {p.comparison for p in of_kind(entries, Promotion)}:
        call(clone, "onestep", "promote", "--merge")
    if new:
        took = _took(clone) | {str(comparison): time.monotonic() - started}
        write_json(clone / TOOK, took)
    return new


def judged(clone: Path, candidate: Candidate) -> int | None:
    """The comparison that gave this candidate its verdict in this clone, null where there is none yet."""
    project = Project(clone)
    repository = project.git
    entries, wanted = ledger.read(repository), params_sha256(project, inputs_of(project, VERDICT), candidate.params)
    done = {said.comparison for said in of_kind(entries, Verdict) if _recorded(repository, said)}
    same = [a.comparison for a in of_kind(entries, Trial) if a.params == wanted and a.comparison in done]
    return same[-1] if same else None


def nights(clone: Path, candidates: list[Candidate], verify: bool) -> list[Night]:
    """What the ledger and the recorded runs say of the candidates that have their verdict, in the ledger's order."""
    project, settings = Project(clone), _gate(clone)
    repository, inputs = project.git, inputs_of(project, VERDICT)
    entries, took = ledger.read(repository), _took(clone)
    attempts, history = list(of_kind(entries, Trial)), promoted_by_gate(entries)
    verdicts = {said.comparison: said for said in of_kind(entries, Verdict) if _recorded(repository, said)}
    promoted = {entry.comparison: entry.tag for entry in of_kind(entries, Promotion)}
    named = {params_sha256(project, inputs, candidate.params): candidate for candidate in candidates}
    found = []
    for place, attempt in enumerate(attempts, start=1):
        candidate, said = named.get(attempt.params), verdicts.get(attempt.comparison)
        if candidate is None or said is None:
            continue
        spent = [each.alpha for each in attempts[:place]]
        branch = f"runs/{said.run}"
        rules = json.loads(repository.read(branch, VERDICT))["rules"]
        verified = subprocess.run(
            ["onestep", "lineage", "verify", branch, "--no-copy"],
            cwd=clone, env=environment(clone), check=False, capture_output=True,
        ).returncode if verify else None  # fmt: skip
        found.append(
            Night(
                night=attempt.comparison,
                candidate=candidate.name,
                title=candidate.title,
                changes=candidate.changes,
                alpha=attempt.alpha,
                seed=attempt.seed,
                against=attempt.champion,
                verdict=said.verdict,
                reason=said.reason,
                not_passed={rule["name"]: rule["outcome"] for rule in rules if rule["outcome"] in ("failed", "held")},
                metrics=json.loads(repository.read(branch, METRICS))["models"].get("onestep", {}),
                wealth=wealth(history[:place], spent, settings),
                champion=promoted.get(attempt.comparison, attempt.champion),
                run=said.run,
                seconds=took.get(str(attempt.comparison)),
                verified=verified,
            )
        )
    return found


def table(found: list[Night]) -> str:
    """The nights as Markdown."""
    lines = [
        "| night | candidate | alpha offered | judged against | verdict | because of | wealth after | champion after |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in found:
        because = ", ".join(f"{name} ({outcome})" for name, outcome in each.not_passed.items()) or "every rule passed"
        cells = (
            each.night, f"`{each.candidate}`: {each.title}", f"{each.alpha:.3g}", each.against or "no champion",
            f"**{each.verdict}**", because, f"{each.wealth:.3g}", each.champion or "none",
        )  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def write_results(clone: Path, found: list[Night], profile: Path, out: Path, page: Path | None) -> None:
    """The nights as JSON, the ledger as it stands beside it, and the table in a page, between its two marks."""
    repository = Repository(clone)
    entries = ledger.read(repository)
    with replacing(out.with_suffix(".ledger.jsonl")) as partial:
        partial.write_bytes(repository.git_bytes("show", f"ledger:{ledger.FILE}"))
    content = {
        "command": f"python benchmarks/candidates.py --profile {profile}",
        "commit": find(Project(clone), f"runs/{found[0].run}").record.source_commit if found else None,
        "gate": _gate(clone).model_dump(mode="json"),
        "ledger": head_of(entries),
        "nights": [asdict(each) for each in found],
    }
    write_json(out, content)
    if page is not None:
        fill(page, SCRIPT, table(found))


def call(clone: Path, *words: str) -> None:
    """Run a command in the clone, with its own code and this environment's tools; raises `CandidatesError`."""
    print(f"$ {' '.join(words)}", flush=True)
    done = subprocess.run(words, cwd=clone, env=environment(clone), check=False)
    if done.returncode:
        raise CandidatesError(f"{' '.join(words)} in {clone} failed with {done.returncode}: its lines above say why")


def environment(clone: Path) -> dict[str, str]:
    """The variables under which commands find the clone's code first, and the tools of this interpreter."""
    search = {"PATH": str(Path(sys.executable).parent), "PYTHONPATH": str(clone / "src")}
    joined = {name: os.pathsep.join(filter(None, (first, os.environ.get(name)))) for name, first in search.items()}
    return {**os.environ, **joined, "DVC_NO_ANALYTICS": "1"}


def _kind(group: str) -> Any:
    for name, field in Params.model_fields.items():
        if group == (field.alias or name):
            return field.annotation
    return None


def _recorded(repository: Repository, said: Verdict) -> bool:
    return said.run is not None and repository.resolve(f"refs/heads/runs/{said.run}") is not None


def _gate(clone: Path) -> GateSettings:
    return load_group(GateSettings, clone / PARAMS, "gate")


def _took(clone: Path) -> dict[str, float]:
    file = clone / TOOK
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", type=Path, default=Path("profiles/candidates.yaml"), help="the candidates")
    parser.add_argument(
        "--clone", type=Path, default=Path(".onestep/candidates"), help="where they go through the gate"
    )
    parser.add_argument(
        "--nights", type=int, default=None, help="at most so many nights now; default all that are left"
    )
    parser.add_argument("--report", action="store_true", help="run nothing, write what is there")
    parser.add_argument("--table", action="store_true", help="run nothing, write the table from the results")
    parser.add_argument("--out", type=Path, default=Path("results/candidates.json"), help="results, ledger beside")
    parser.add_argument("--page", type=Path, default=Path("docs/gate.md"), help="the page that holds the table")
    return parser.parse_args(words)


def _run(arguments: argparse.Namespace, candidates: list[Candidate]) -> Iterator[str]:
    """Each candidate that went through its night now."""
    for candidate in candidates:
        if one_night(arguments.clone, candidate):
            yield candidate.name


def main(words: list[str] | None = None) -> None:
    arguments = _arguments(words)
    if arguments.table:
        fill(arguments.page, SCRIPT, table([Night(**each) for each in read_json(arguments.out)["nights"]]))
        return
    try:
        candidates = read_profile(arguments.profile, Path(PARAMS))
        if not arguments.report:
            open_clone(Path(), arguments.clone)
            done = _run(arguments, candidates)
            for _ in zip(range(arguments.nights or len(candidates)), done, strict=False):
                found = nights(arguments.clone, candidates, verify=False)
                write_results(arguments.clone, found, arguments.profile, arguments.out, arguments.page)
                print(table(found), flush=True)
        found = nights(arguments.clone, candidates, verify=True)
        write_results(arguments.clone, found, arguments.profile, arguments.out, arguments.page)
    except (CandidatesError, TrialRefused, LedgerMoved, workspace.WorkspaceError) as error:
        sys.exit(f"error: {error}")
    print(table(found))
    seconds = sum(each.seconds or 0.0 for each in found)
    print(
        f"{len(found)} nights, {seconds / 60:.0f} minutes; verify: {[each.verified for each in found]}; {arguments.out}"
    )


if __name__ == "__main__":
    with one_sentence("candidates", sys.argv[1:]):
        main()
