"""`onestep record`: a finished run becomes commits on `runs/<id>` that carry its record, promoted or not.

The branch grows on the user's commit: the *run* (graph, lock, parameters, code and reports as they made the model, and
the pin it was judged against, so that the lock holds at that commit), then the *record* (`records/`), which names the run's
commit and the ledger's head, and is signed. The ledger gets the run's verdict in the same transaction of refs. The
user's branch, index and working tree stay as they are.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from onestep.core.paths import CLIPS, GRAPH, LOCK, METRICS, MODEL, PIN, RUNS, VERDICT
from onestep.core.redaction import SafeError
from onestep.core.storage import sha256_file, sha256_folder
from onestep.gate.pin import Pin, read_pin
from onestep.gate.verdict import read_verdict
from onestep.provenance import ledger
from onestep.provenance.collect import RunCommits, collect
from onestep.provenance.entries import GENESIS, Content, Entry, Promotion, Rollback, Verdict, head_of, of_kind
from onestep.provenance.record import Record, paths, to_statement
from onestep.provenance.signing import PublicKey, SigningKey, seal
from onestep.provenance.store import Found, load
from onestep.registry.trials import due
from onestep.vcs import graph
from onestep.vcs.git import RefUpdate, Repository
from onestep.vcs.project import Project
from onestep.vcs.transaction import move


class NotReproduced(SafeError):
    """The working copy is not what `dvc.lock` says, so no record of it would be true."""

    exit_code = 4


@dataclass(frozen=True)
class Sources:
    """Where a project has the reports that a record is made from, relative to its root."""

    verdict: str = VERDICT
    metrics: str = METRICS


@dataclass(frozen=True)
class Candidate:
    """A finished run: what git would keep of it, its model, what the gate said, and what it was judged against."""

    run: str
    head: str
    tree: str
    sha256: str
    verdict: Mapping[str, Any]
    verdict_sha256: str
    pin: Pin

    @property
    def branch(self) -> str:
        """The branch that the run is recorded on."""
        return f"{RUNS}{self.run}"


@dataclass(frozen=True)
class Prepared:
    """A record that no ref names yet, or one that is there already (`new` says which), and the entries it needs."""

    candidate: Candidate
    commit: str
    record: Record
    signer: PublicKey | None
    envelope_sha256: str
    entries: tuple[Content, ...]
    new: bool


@dataclass(frozen=True)
class Recorded:
    """A recorded run: its branch, the record's commit, who signed it, and whether data was pushed; `new` if just made."""

    run: str
    branch: str
    commit: str
    verdict: str
    signer: PublicKey | None
    pushed: bool
    new: bool


def record(
    project: Project,
    key: SigningKey | None,
    files: Sources | None = None,
    push: bool = True,
    flow_run: str | None = None,
) -> Recorded:
    """Record the finished run of the working copy, whatever its verdict; a second time changes nothing.

    Data goes to the default DVC remote, where there is one, before any ref names it. Raises `NotReproduced` where the
    working copy is not the run's, `TrialRefused` where the comparison belongs to another candidate, `LedgerMoved`
    where another process wrote meanwhile.
    """
    repository, files = project.git, files or Sources()
    candidate = finished(project, files)
    entries = ledger.read(repository)
    moment = now()
    prepared = prepare(project, candidate, entries, key, files, moment, flow_run)
    candidate = prepared.candidate
    pushed = graph.push(project) if push and prepared.new else False
    if prepared.new or prepared.entries:
        updates = [branch_update(repository, prepared.candidate.branch, prepared.commit)] if prepared.new else []
        if prepared.entries:
            head = head_of(entries)
            updates.append(ledger.appended(repository, *prepared.entries, expected=head, time=moment))
        move(repository, updates)
    said = str(candidate.verdict["verdict"])
    return Recorded(candidate.run, candidate.branch, prepared.commit, said, prepared.signer, pushed, prepared.new)


def finished(project: Project, files: Sources) -> Candidate:
    """The finished run in the working copy; raises `NotReproduced` where `dvc.lock` is not about it."""
    verdict = read_verdict(project.root / files.verdict)
    if found := graph.changes(project):
        raise NotReproduced(f"{LOCK} does not match the working copy: {'; '.join(found)}; run dvc repro first")
    project.artifact(CLIPS)  # later runs compare their clips with these: refuse now, not then
    sha256 = sha256_folder(project.root / project.artifact(MODEL))
    head = project.git.head()
    tree = project.git.tree(head, graph.kept_in_git(project))
    _require_recorded(project.git, tree, (GRAPH, LOCK, files.verdict, files.metrics))
    run = hashlib.sha256(f"{head}\n{tree}\n".encode()).hexdigest()[:12]
    pin, verdict_sha256 = read_pin(project.root / PIN), sha256_file(project.root / files.verdict)
    return Candidate(run, head, tree, sha256, verdict, verdict_sha256, pin)


def prepare(
    project: Project,
    candidate: Candidate,
    entries: Sequence[Entry],
    key: SigningKey | None,
    files: Sources,
    moment: str,
    flow_run: str | None = None,
) -> Prepared:
    """Write the record's objects, which no ref names yet; or find the record that is there, if it can stand.

    moment: UTC, ISO 8601, of the ledger's entries; they are in the result, and must be appended with the record.
    """
    repository = project.git
    candidate, known = _known(project, candidate, entries)
    cut_off = known is not None and cut_off_promotion(entries, known.envelope_sha256) is not None
    contents = () if cut_off else tuple(due(project, entries, candidate.run, files.verdict))
    if known is not None and _can_stand(known, entries, key):
        return Prepared(candidate, known.commit, known.record, known.signer, known.envelope_sha256, contents, False)
    head = head_of(entries)
    if contents:
        head = ledger.appended(repository, *contents, expected=head, time=moment).head
    if known is not None:
        commit = known.record.run_commit
    else:
        message = f"Run {candidate.run}\n\nsha256: {candidate.sha256}\n"
        commit = repository.commit(candidate.tree, candidate.head, message)
    run = RunCommits(candidate.run, candidate.head, commit)
    collected = collect(project, run, MODEL, files.verdict, files.metrics, head, moment, flow_run)
    envelope = seal(to_statement(collected.record), key)
    parent = known.commit if known else commit
    tree, where = parent, paths(MODEL)
    for which, content in (
        ("manifest", collected.manifest),
        ("sources", collected.sources),
        ("envelope", envelope),
    ):
        tree = repository.tree_with(tree, where[which], content)
    message = f"Record of run {candidate.run}\n\nsha256: {candidate.sha256}\n{ledger.trailer(head)}\n"
    written = repository.commit(tree, parent, message)
    signer, digest = key.public if key else None, hashlib.sha256(envelope).hexdigest()
    return Prepared(candidate, written, collected.record, signer, digest, contents, True)


def cut_off_promotion(entries: Sequence[Entry], envelope_sha256: str) -> Promotion | None:
    """The last move in the ledger, where it is the promotion of this very record: one that was cut off before its tags."""
    moves = [entry.content for entry in entries if isinstance(entry.content, Promotion | Rollback)]
    last = moves[-1] if moves else None
    return last if isinstance(last, Promotion) and last.record == envelope_sha256 else None


def branch_update(repository: Repository, branch: str, commit: str) -> RefUpdate:
    """Move or create a branch here."""
    ref = f"refs/heads/{branch}"
    return RefUpdate(ref, commit, repository.resolve(ref))


def now() -> str:
    """The time in UTC to the second, as the ledger writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _known(project: Project, candidate: Candidate, entries: Sequence[Entry]) -> tuple[Candidate, Found | None]:
    """The record of this very run, where there is one; under the id it was recorded with, if only the commit below differs."""
    if found := _recorded_on(project, candidate.run):
        return candidate, found
    for judged in of_kind(entries, Verdict):
        same = (judged.verdict_sha256, judged.model_sha256) == (candidate.verdict_sha256, candidate.sha256)
        if not same or judged.run is None or (found := _recorded_on(project, judged.run)) is None:
            continue
        if found.record.in_git.get(LOCK) == sha256_file(project.root / LOCK):
            return replace(candidate, run=judged.run, head=found.record.source_commit), found
    return candidate, None


def _recorded_on(project: Project, run: str) -> Found | None:
    """The newest record on the run's branch; commits after it only move the pin."""
    name, repository = f"{RUNS}{run}", project.git
    tip = repository.branch(name)
    if tip is None:
        return None
    path = f"./{paths(MODEL)['envelope']}"
    for commit in repository.git("rev-list", "--first-parent", "--max-count=20", tip).split():
        blob = repository.resolve(f"{commit}:{path}")
        if blob is not None and blob != repository.resolve(f"{commit}^:{path}"):
            found = load(project, name, commit)
            return found if found is not None and found.record.run == run else None
    return None


def _can_stand(known: Found, entries: Sequence[Entry], key: SigningKey | None) -> bool:
    """Not where its ledger entry was lost to a cut-off write, and not unsigned where there is a key now."""
    heads = {entry.sha256 for entry in entries} | {GENESIS}
    return known.record.ledger_head in heads and (known.signer is not None or key is None)


def _require_recorded(repository: Repository, tree: str, wanted: tuple[str, ...]) -> None:
    for path in wanted:
        if repository.resolve(f"{tree}:./{path}") is None:
            raise NotReproduced(
                f"{path} would be missing from the record: let git keep it (in dvc.yaml `cache: false`, not ignored)"
            )
