"""What `onestep lineage verify` must catch and name, tried on a recorded model: one tampering after the other.

    python benchmarks/tamperings.py              # after `make demo`, or any run that was recorded
    python benchmarks/tamperings.py --report     # run nothing: the table from results/tamperings.json

Works in copies in a temporary folder (hard links: the project's own files stay as they are). A run that was not promoted
is promoted there by an override, so that there are tags to tamper with. Writes `results/tamperings.json` and the
table of docs/audit.md; exits with 1 where a tampering went unseen or another check than the right one named it.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onestep.core.failures import one_sentence
from onestep.core.paths import CLIPS, METRICS, MODEL, SIGNING_KEY, VERDICT
from onestep.core.storage import read_json, write_json
from onestep.nightly.workspace import cache_folder
from onestep.provenance import ledger
from onestep.provenance.entries import Verdict
from onestep.provenance.record import Record, paths
from onestep.provenance.signing import find_key, make_key, seal, sign_tag, unseal
from onestep.provenance.store import everything, find, manifest
from onestep.provenance.verify import BROKEN, PASSED, verify
from onestep.registry.champion import champion
from onestep.registry.promotion import promote
from onestep.registry.recording import record
from onestep.registry.trials import override
from onestep.vcs.git import Repository
from onestep.vcs.project import Project
from pages import fill

PAGE = Path("docs/audit.md")

ENVELOPE = paths(MODEL)["envelope"]


@dataclass(frozen=True)
class Target:
    """What is tampered with: a project with its keys (`own`, and `other`, a stranger's), a run's branch, a promoted version.

    The run is the one in the working copy, for tamperings that write its record anew.
    """

    root: Path
    keys: Path
    branch: str
    version: str

    @property
    def record(self) -> Record:
        """The run's record."""
        return find(Project(self.root), self.branch).record

    def output(self, path: str, ending: str = "") -> str:
        """The largest of the run's files below a path whose names end so."""
        rows = manifest(Project(self.root), find(Project(self.root), self.branch))
        below = [row for row in rows if row["path"].startswith(path) and row["path"].endswith(ending)]
        return str(max(below, key=lambda row: row["size"])["path"])


Tampering = Callable[[Target], tuple[str, str]]  # tampers; whom to ask `verify` about, and what it must name


def in_cache(choose: Callable[[Target], str]) -> Tampering:
    """Flip the last bit of a file that DVC keeps."""

    def tamper(target: Target) -> tuple[str, str]:
        path = choose(target)
        rows = manifest(Project(target.root), find(Project(target.root), target.branch))
        md5 = next(row["md5"] for row in rows if row["path"] == path)
        flip(target.root / ".dvc/cache/files/md5" / md5[:2] / md5[2:])
        return target.branch, path

    return tamper


def in_git(path: str, pattern: str, new: str) -> Tampering:
    """Rewrite the tip of the run's branch with a file in which the first match of a pattern is another."""

    def tamper(target: Target) -> tuple[str, str]:
        content = git(target.root, "show", f"{target.branch}:{path}")
        changed = re.sub(pattern, new, content, count=1)
        assert changed != content, f"{path} has nothing like {pattern}"
        rewrite_branch(target.root, target.branch, path, changed.encode())
        return target.branch, path

    return tamper


def code(target: Target) -> tuple[str, str]:
    """Another line in the last Python file that the run depended on."""
    path = [path for path in target.record.in_git if path.endswith(".py")][-1]
    return in_git(path, r"\Z", "\n# another line\n")(target)


def in_ledger(change: Callable[[list[str]], list[str]], named: str) -> Tampering:
    """Write the ledger's branch anew, with other lines."""

    def tamper(target: Target) -> tuple[str, str]:
        rewrite_ledger(target.root, change(ledger_lines(target.root)))
        return MODEL, named

    return tamper


def signature_of_another(target: Target) -> tuple[str, str]:
    """The same statement in an envelope that a stranger signed."""
    statement, _ = unseal(git(target.root, "show", f"{target.branch}:{ENVELOPE}").encode())
    forged = seal(statement, find_key(Project(target.keys), target.keys / "other"))
    rewrite_branch(target.root, target.branch, ENVELOPE, forged)
    return target.branch, "signed by another key"


def verdict_with_a_record_to_match(target: Target) -> tuple[str, str]:
    """The holder of the key lies: the verdict's file, dvc.lock, the record and the ledger all say the same other thing."""
    root, run = target.root, target.record
    entries = ledger.read(Repository(root))
    place = next(i for i, e in enumerate(entries) if isinstance(e.content, Verdict) and e.content.run == run.run)
    rewrite_ledger(root, [entry.line for entry in entries[:place]])
    git(root, "branch", "--quiet", "--delete", "--force", target.branch)
    for tag in Repository(root).tags(f"{MODEL}[@#]*"):
        if f"run: {run.run}" in Repository(root).tag_message(tag):
            git(root, "tag", "--delete", tag)
    word = run.verdict.verdict
    said = (root / VERDICT).read_text()
    lie = re.sub(rf'("verdict": ?)"{word}"', r'\1"promote"' if word != "promote" else r'\1"hold"', said)
    lie = lie.replace('"held"', '"passed"').replace('"failed"', '"passed"')
    assert lie != said
    (root / VERDICT).unlink()
    (root / VERDICT).write_text(lie)
    touched = [stage.name for stage in run.stages if VERDICT in {item.path for item in (*stage.outs, *stage.deps)}]
    with chdir(root), Project(Path()).graph() as repo:
        for name in touched:
            repo.commit(name, force=True)
    done = record(Project(root), find_key(Project(target.keys), target.keys / "own"))
    return done.branch, f"computed again, {VERDICT} has"


def tag_moved(target: Target) -> tuple[str, str]:
    """The version's ref points to another signed tag object, that of the first stage tag."""
    git(target.root, "update-ref", f"refs/tags/{target.version}", f"refs/tags/{MODEL}#prod#1")
    return target.version, f"{target.version} was moved"


def plain_tag(target: Target) -> tuple[str, str]:
    """A plain tag of the same name, set by hand on another commit that holds a record."""
    git(target.root, "tag", "--force", target.version, target.branch)
    return target.version, f"{target.version} is a plain tag"


def tag_of_another(target: Target) -> tuple[str, str]:
    """The same tag, signed by a stranger."""
    content, _, _ = git(target.root, "cat-file", "tag", target.version).partition("-----BEGIN SSH")
    forged = Repository(target.root).write_tag(sign_tag(content, find_key(Project(target.keys), target.keys / "other")))
    git(target.root, "update-ref", f"refs/tags/{target.version}", forged)
    return target.version, "signed by another key"


def stage_tag_added(target: Target) -> tuple[str, str]:
    """Another stage tag's object under the next number."""
    numbers = [int(tag.rpartition("#")[2]) for tag in git(target.root, "tag", "--list", f"{MODEL}#prod#*").split()]
    name = f"{MODEL}#prod#{max(numbers) + 1}"
    git(target.root, "update-ref", f"refs/tags/{name}", f"refs/tags/{MODEL}#prod#{min(numbers)}")
    return MODEL, name


TAMPERINGS: dict[str, tuple[str, Tampering]] = {
    "a weight byte": ("files of DVC", in_cache(lambda t: t.output(t.record.path, ".safetensors"))),
    "a clip": ("files of DVC", in_cache(lambda t: t.output(Project(t.root).artifact(CLIPS), ".tar"))),
    "a file of the footage": ("files of DVC", in_cache(lambda t: t.output("data/footage"))),
    "the judge's weights": ("files of DVC", in_cache(lambda t: t.output("models/judge", ".safetensors"))),
    "a parameter": ("files in git", in_git("params.yaml", r"seed: 7", "seed: 8")),
    "dvc.lock": ("files in git", in_git("dvc.lock", r"seed: 7", "seed: 8")),
    "a line of code": ("files in git", code),
    "the environment lock": ("files in git", in_git("constraints.txt", r"numpy==\S+", "numpy==2.0.0")),
    "a metrics file": ("files in git", in_git(METRICS, r'"low"', '"lo"')),
    "the verdict": ("files in git", in_git(VERDICT, r'"verdict": "\w+"', '"verdict": "promoted"')),
    "the verdict, with a record to match": ("verdict", verdict_with_a_record_to_match),
    "the list of files": ("lists of files", in_git(paths(MODEL)["manifest"], '"size":', '"size":1')),
    "a ledger entry removed": (
        "ledger", in_ledger(lambda lines: lines[:1] + lines[2:], "entry 2: it was removed"),
    ),
    "ledger entries reordered": (
        "ledger",
        in_ledger(lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "entry 2: entries were reordered"),
    ),
    "a ledger entry edited": (
        "ledger",
        in_ledger(
            lambda lines: [lines[0], re.sub(r'"reason":"(.)', r'"reason":"\1\1', lines[1]), *lines[2:]],
            "entry 2: it was edited",
        ),
    ),
    "the ledger's last entries cut off": ("ledger's heads", in_ledger(lambda lines: lines[:-2], "cut off")),
    "a tag moved": ("tags", tag_moved),
    "a tag set by hand": ("tags", plain_tag),
    "a stage tag added": ("tags", stage_tag_added),
    "a record signed by another key": ("signature", signature_of_another),
    "a tag signed by another key": ("tags", tag_of_another),
}  # fmt: skip


def git(root: Path, *words: str, stdin: bytes | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        ["git", *words], cwd=root, input=stdin, env={**os.environ, **(env or {})}, capture_output=True, check=True
    )
    return done.stdout.decode()


def flip(file: Path) -> None:
    """Another last bit, in a new file: where this one is a hard link, the other names keep their bytes."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.unlink()
    file.write_bytes(content)


def rewrite_branch(root: Path, branch: str, path: str, content: bytes) -> None:
    """Put another file into the commit at the tip of a branch, under the same message and parent."""
    env = {"GIT_INDEX_FILE": str(root / ".git" / "forged-index")}
    git(root, "read-tree", branch, env=env)
    blob = git(root, "hash-object", "-w", "--stdin", stdin=content).strip()
    git(root, "update-index", "--add", "--cacheinfo", f"100644,{blob},{path}", env=env)
    tree, parent = git(root, "write-tree", env=env).strip(), git(root, "rev-parse", f"{branch}^").strip()
    message = git(root, "log", "-1", "--format=%B", branch).encode()
    commit = git(root, "commit-tree", tree, "-p", parent, "-F", "-", stdin=message).strip()
    git(root, "update-ref", f"refs/heads/{branch}", commit)


def ledger_lines(root: Path) -> list[str]:
    return git(root, "show", f"ledger:{ledger.FILE}").splitlines()


def rewrite_ledger(root: Path, lines: list[str]) -> None:
    """Replace the ledger by these lines."""
    repository = Repository(root)
    tree = repository.tree_of({ledger.FILE: "".join(f"{line}\n" for line in lines).encode()})
    git(root, "update-ref", ledger.REF, repository.commit(tree, None, "forged"))


def tamper_and_verify(target: Target, name: str) -> dict[str, Any]:
    """What `verify` says after a tampering: `check` that broke, `said`, whether it was `caught` by the right one, seconds."""
    check, tamper = TAMPERINGS[name]
    model, named = tamper(target)
    started = time.monotonic()
    report = verify(Project(target.root), model, target.keys / "own.pub", copy=False)
    broken, said = report.broken or ("", report.summary)
    caught = report.exit_code == BROKEN and broken == check and named in said
    return {"tampering": name, "caught": caught, "check": broken, "said": said, "s": time.monotonic() - started}


def copy_of(project: Path, folder: Path) -> Path:
    """A copy with all branches, tags and data of the newest recorded run, checked out; its cache is linked."""
    run = everything(Project(project))[-1]
    copy = folder / "copy"
    git(project, "clone", "--quiet", "--no-checkout", "--no-hardlinks", str(project.resolve()), str(copy))
    git(
        copy, "fetch", "--quiet", "--update-head-ok", "origin", "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"
    )
    git(copy, "remote", "remove", "origin")
    git(copy, "checkout", "--quiet", "--detach", run.record.run_commit)
    with Project(project).graph() as repo:
        shutil.copytree(cache_folder(repo) / "files", copy / ".dvc/cache/files", copy_function=_link)
    with Project(copy).graph() as repo:
        repo.checkout(force=True)
    return copy


def prepare(project: Path, folder: Path) -> Target:
    """A copy in which the newest recorded run is in production, and the keys beside it."""
    root, keys = copy_of(project, folder), folder / "keys"
    keys.mkdir()
    for ending in ("", ".pub"):
        shutil.copyfile(project / f"{SIGNING_KEY}{ending}", keys / f"own{ending}")
    make_key(keys / "other")
    found = everything(Project(root))[-1]
    if "@" not in found.name:
        if found.record.verdict.verdict != "promote":
            override(Project(root), "promote", "so that there are tags to tamper with")
        promote(Project(root), find_key(Project(keys), keys / "own"))
    now = champion(Project(root))
    assert now is not None
    return Target(root, keys, f"runs/{found.record.run}", now.version_tag)


def table(found: list[dict[str, Any]]) -> str:
    """The tamperings as Markdown."""
    lines = ["| tampering | caught by | what `verify` says |", "|---|---|---|"]
    for row in found:
        caught = row["check"] if row["caught"] else f"**not as it should be** ({row['check'] or 'unseen'})"
        lines.append(f"| {row['tampering']} | {caught} | {shortened(row['said'])} |")
    return "\n".join(lines)


def shortened(said: str) -> str:
    """A sentence with its hashes cut to what a reader can compare, and without its tail."""
    short = re.sub(r"\b([0-9a-f]{8})[0-9a-f]{24,56}\b", r"\1…", said)
    return short if len(short) <= 150 else f"{short[:149].rstrip()}…"


def _link(source: str, target: str) -> None:
    """Objects and large files, which are not written in place, by a hard link; the rest copied."""
    constant = {"objects", "cache"} & set(Path(source).parts) or Path(source).stat().st_size > 1_000_000
    try:
        os.link(source, target) if constant else shutil.copy2(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/tamperings.json"), help="what was found")
    parser.add_argument("--report", action="store_true", help="run nothing, write the table of what was found")
    arguments = parser.parse_args()
    if arguments.report:
        fill(PAGE, "tamperings", table(read_json(arguments.out)["found"]))
        return
    with tempfile.TemporaryDirectory(prefix="onestep-tamperings-", dir=Path(".onestep").resolve()) as name:
        target = prepare(Path(), Path(name))
        honest = verify(Project(target.root), MODEL, target.keys / "own.pub", copy=False)
        print(honest.summary, flush=True)
        if honest.exit_code != PASSED:
            sys.exit("error: the record does not verify before anything is tampered with")
        found = []
        for tampering in TAMPERINGS:
            scratch = Path(name) / "scratch"
            shutil.copytree(target.root, scratch, symlinks=True, copy_function=_link)
            found.append(tamper_and_verify(Target(scratch, target.keys, target.branch, target.version), tampering))
            print(json.dumps(found[-1]), flush=True)
            shutil.rmtree(scratch)
    caught = sum(row["caught"] for row in found)
    write_json(arguments.out, {"command": "python benchmarks/tamperings.py", "honest": honest.summary, "found": found})
    fill(PAGE, "tamperings", table(found))
    print(f"{caught} of {len(found)} tamperings caught and named")
    sys.exit(caught != len(found))


if __name__ == "__main__":
    with one_sentence("tamperings", sys.argv[1:]):
        main()
