"""Versions and stages of a model as git tags in GTO's grammar: `NAME@v1.2.0` registers, `NAME#STAGE#N` assigns.

These are tags and no more: which of them matter, and why, is for their readers.
"""

from dataclasses import dataclass

from onestep.core.redaction import SafeError
from onestep.vcs.git import Repository


class VersionError(SafeError):
    """A version is not there, or its tags contradict each other; the message names the tag."""


@dataclass(frozen=True)
class Version:
    """One registered version: its tag, `v1.2.0`, the tagged commit, and the sha256 of the model's folder."""

    tag: str
    version: str
    commit: str
    sha256: str


@dataclass(frozen=True)
class Assignment:
    """One numbered stage tag: the stage given to a commit, or taken from it."""

    tag: str
    stage: str
    number: int
    assigned: bool
    commit: str


@dataclass(frozen=True)
class InStage:
    """The version that a stage holds, with the stage's tag and number."""

    tag: str
    number: int
    version_tag: str
    version: str
    commit: str
    sha256: str


def versions(repository: Repository, name: str) -> list[Version]:
    """All registered versions of a model, oldest version first."""
    from gto.constants import ACTION, VERSION, Action
    from gto.tag import parse_name
    from semver import VersionInfo

    found = []
    for tag in repository.tags(f"{name}@v*"):
        parsed = parse_name(tag, raise_on_fail=False)
        commit = repository.resolve(f"refs/tags/{tag}^{{commit}}")
        if parsed.get(ACTION) is Action.REGISTER and commit:
            found.append(Version(tag, parsed[VERSION], commit, _trailer(repository.tag_message(tag), "sha256")))
    return sorted(found, key=lambda version: VersionInfo.parse(version.version.removeprefix("v")))


def assignments(repository: Repository, name: str) -> list[Assignment]:
    """All numbered stage tags of a model; the numbers count through all of its stages."""
    from gto.constants import ACTION, COUNTER, STAGE, Action
    from gto.tag import parse_name

    found = []
    for tag in repository.tags(f"{name}#*"):
        parsed = parse_name(tag, raise_on_fail=False)
        commit = repository.resolve(f"refs/tags/{tag}^{{commit}}")
        if COUNTER in parsed and STAGE in parsed and commit:
            assigned = parsed[ACTION] is Action.ASSIGN
            found.append(Assignment(tag, parsed[STAGE], parsed[COUNTER], assigned, commit))
    return found


def in_stage(repository: Repository, name: str, stage: str) -> InStage | None:
    """The version in a stage, by the highest number of the stage's tags (two can share a second); null before the first.

    Raises `VersionError` when that tag does not belong to a registered version.
    """
    given = (known for known in assignments(repository, name) if known.stage == stage)
    last = max(given, key=lambda known: known.number, default=None)
    if last is None or not last.assigned:
        return None
    known = [version for version in versions(repository, name) if version.commit == last.commit]
    if not known:
        raise VersionError(f"{last.tag} names a commit that has no {name}@v… tag: was a version tag deleted?")
    version = known[-1]
    return InStage(last.tag, last.number, version.tag, version.version, last.commit, version.sha256)


def next_number(repository: Repository, name: str) -> int:
    """The number of the next stage tag."""
    return max((given.number for given in assignments(repository, name)), default=0) + 1


def _trailer(message: str, key: str) -> str:
    for line in message.splitlines():
        if line.startswith(f"{key}: "):
            return line.removeprefix(f"{key}: ").strip()
    return ""
