"""Finding records: by model, version, stage tag, run or commit; and all there are."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from onestep.core.paths import MODEL, PRODUCTION, RUNS
from onestep.provenance.record import Record, RecordError, from_lines, from_statement, paths
from onestep.provenance.signing import PublicKey, SigningError, unseal
from onestep.vcs.git import GitError, Repository
from onestep.vcs.project import Project
from onestep.vcs.versions import in_stage


class NoRecord(RuntimeError):
    """There is no such record; the message says which there are."""

    exit_code = 1


@dataclass(frozen=True)
class Found:
    """A record as it lies at a commit: the name it was asked by, what signed it, and the envelope's sha256."""

    name: str
    commit: str
    record: Record
    signer: PublicKey | None
    envelope_sha256: str

    @property
    def title(self) -> str:
        """The version tag, or the run where it has no version."""
        return self.name if "@" in self.name else f"{RUNS}{self.record.run}"


def find(project: Project, name: str) -> Found:
    """The record of a model by name: `onestep` is the champion, else the newest run; or a tag, a run's id, a commit.

    Raises `NoRecord` where there is none, `SigningError` or `RecordError` where it cannot be read.
    """
    where, commit = _resolve(project, name)
    found = load(project, where, commit, name.partition("@")[0].partition("#")[0])
    if found is None:
        raise NoRecord(
            f"{where} holds no record: it was made before records were, or by hand; onestep record makes one"
        )
    return found


def load(project: Project, name: str, commit: str, model: str = MODEL) -> Found | None:
    """The record at a commit, null where that holds none. Raises `SigningError`, `RecordError`."""
    places = (paths(model)["envelope"], paths(MODEL)["envelope"])
    envelope = _read(project.git, commit, places[0]) or _read(project.git, commit, places[1])
    if envelope is None:
        return None
    try:
        statement, signer = unseal(envelope)
        record = from_statement(statement)
    except (SigningError, RecordError) as error:
        raise type(error)(f"the record of {name}: {error}") from error
    return Found(name, commit, record, signer, hashlib.sha256(envelope).hexdigest())


def everything(project: Project, model: str = MODEL) -> list[Found]:
    """One entry per run that has a record, oldest first; registered ones by their version tag."""
    found: dict[str, Found] = {}
    for name, commit in _names(project.git, model):
        known = load(project, name, commit, model)
        if known is not None and known.record.model == model and _is_of_run(known, name):
            found.setdefault(known.record.run, known)
    return sorted(found.values(), key=lambda entry: (entry.record.recorded_at, entry.record.run))


def sources(project: Project, found: Found) -> list[dict[str, Any]]:
    """The source files that the run's clips came from."""
    return _rows(project, found, "sources")


def manifest(project: Project, found: Found) -> list[dict[str, Any]]:
    """Every file that DVC keeps of the run."""
    return _rows(project, found, "manifest")


def _rows(project: Project, found: Found, which: str) -> list[dict[str, Any]]:
    path = paths(found.record.model)[which]
    content = _read(project.git, found.commit, path)
    expected = found.record.sources_sha256 if which == "sources" else found.record.manifest_sha256
    if content is None or hashlib.sha256(content).hexdigest() != expected:
        raise RecordError(f"{path} of {found.title} is not the file that the record names: run onestep lineage verify")
    return from_lines(content)


def _resolve(project: Project, name: str) -> tuple[str, str]:
    repository = project.git
    if "@" not in name and "#" not in name:
        now = in_stage(repository, name, PRODUCTION)
        if now is not None:
            return now.version_tag, now.commit
    for where in (name, f"{RUNS}{name}"):
        commit = repository.resolve(f"refs/tags/{where}^{{commit}}") or repository.branch(where)
        if commit:
            return where, commit
    runs = everything(project, name)
    if runs:
        return runs[-1].title, runs[-1].commit
    commit = repository.resolve(f"{name}^{{commit}}")
    if commit:
        return name, commit
    known = ", ".join(entry.title for entry in everything(project)) or "none yet: onestep record makes one"
    raise NoRecord(f"there is no model, version, run or commit {name!r} here; recorded are {known}")


def _names(repository: Repository, model: str) -> Iterator[tuple[str, str]]:
    """Version tags first, then `runs/*` here and on remotes; each with its commit."""
    for tag in repository.tags(f"{model}@v*"):
        if commit := repository.resolve(f"refs/tags/{tag}^{{commit}}"):
            yield tag, commit
    listed = repository.refs("%(refname) %(objectname)", f"refs/heads/{RUNS}", *repository.on_remotes(RUNS))
    for line in listed.splitlines():
        ref, commit = line.split(" ", 1)
        yield RUNS + ref.rpartition(RUNS)[2], commit


def _is_of_run(found: Found, name: str) -> bool:
    """Whether a branch is the run's own: a branch of a rollback only carries an older record along."""
    return "@" in name or name == f"{RUNS}{found.record.run}"


def _read(repository: Repository, commit: str, path: str) -> bytes | None:
    try:
        return repository.read(commit, path)
    except GitError:
        return None
