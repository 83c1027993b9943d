"""The champion: which model is in production, what the graph pins of it, and its bytes for the graph to judge against.

Two things know the champion, on purpose. The tags are the truth: the highest `N` of `onestep#prod#N`. The file
`data/production.json` says what *this* run is judged against; it moves by a commit, so a verdict has no hidden input.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from onestep.core.redaction import SafeError
from onestep.core.storage import replacing_folder, sha256_folder, write_json
from onestep.gate.pin import PinnedChampion, read_pin
from onestep.vcs.git import Repository
from onestep.vcs.graph import artifact_path

MODEL = "onestep"
CLIPS = "clips"
STAGE = "prod"
MARKER = "champion.json"
INDEX = "clips.parquet"


@dataclass(frozen=True)
class Champion:
    """The model in production: its stage tag, version tag and version, commit, and the sha256 of its folder."""

    tag: str
    number: int
    version_tag: str
    version: str
    commit: str
    sha256: str


class ProductionError(SafeError):
    """The champion cannot be read or fetched; the message names the tag or file."""


def champion_content(pinned: PinnedChampion | None) -> dict[str, Any]:
    """What the marker says of the champion."""
    return {"champion": pinned.model_dump() if pinned else None}


def champion(root: Path, name: str = MODEL) -> Champion | None:
    """The model in production, by the highest number of its stage tags (two can share a second); null before the first.

    Raises `ProductionError` when that tag does not belong to a registered version.
    """
    last = max((a for a in assignments(root, name) if a.stage == STAGE), key=lambda a: a.number, default=None)
    if last is None or not last.assigned:
        return None
    versions = [known for known in registered(root, name) if known.commit == last.commit]
    if not versions:
        raise ProductionError(f"{last.tag} names a commit that has no {name}@v… tag: was a version tag deleted?")
    version = versions[-1]
    return Champion(last.tag, last.number, version.tag, version.version, last.commit, version.sha256)


@dataclass(frozen=True)
class Assignment:
    """One numbered stage tag: the stage given to a commit, or taken from it."""

    tag: str
    stage: str
    number: int
    assigned: bool
    commit: str


def assignments(root: Path, name: str = MODEL) -> list[Assignment]:
    """All numbered stage tags of a model; the numbers count through all of its stages."""
    from gto.constants import ACTION, COUNTER, STAGE, Action
    from gto.tag import parse_name

    repository = Repository(root)
    found = []
    for tag in repository.tags(f"{name}#*"):
        parsed = parse_name(tag, raise_on_fail=False)
        commit = repository.resolve(f"refs/tags/{tag}^{{commit}}")
        if COUNTER in parsed and STAGE in parsed and commit:
            assigned = parsed[ACTION] is Action.ASSIGN
            found.append(Assignment(tag, parsed[STAGE], parsed[COUNTER], assigned, commit))
    return found


@dataclass(frozen=True)
class Registered:
    """One registered version."""

    tag: str
    version: str
    commit: str
    sha256: str


def registered(root: Path, name: str = MODEL) -> list[Registered]:
    """All registered versions of a model, oldest version first."""
    from gto.constants import ACTION, VERSION, Action
    from gto.tag import parse_name
    from semver import VersionInfo

    repository = Repository(root)
    found = []
    for tag in repository.tags(f"{name}@v*"):
        parsed = parse_name(tag, raise_on_fail=False)
        commit = repository.resolve(f"refs/tags/{tag}^{{commit}}")
        if parsed.get(ACTION) is Action.REGISTER and commit:
            found.append(Registered(tag, parsed[VERSION], commit, _trailer(repository.tag_message(tag), "sha256")))
    return sorted(found, key=lambda version: VersionInfo.parse(version.version.removeprefix("v")))


def fetch_production(pin: Path, out: Path, root: Path = Path()) -> None:
    """Make the folder of the pinned champion: its pipeline, `clips.parquet` of the data it learned from, a marker.

    The bytes come from DVC's cache or remote at the champion's tag. Without a champion the folder holds the marker
    alone: `champion.json`, which says which champion the pin names. Raises `ProductionError` when the tag is missing or the
    model is not the pinned one, to the byte.
    """
    pinned = read_pin(pin).champion
    with replacing_folder(out) as partial:
        if pinned is not None:
            _export(root, pinned, partial)
        write_json(partial / MARKER, champion_content(pinned))


def _export(root: Path, pinned: PinnedChampion, target: Path) -> None:
    from dvc.api import DVCFileSystem

    repository = Repository(root)
    commit = repository.resolve(f"refs/tags/{pinned.tag}^{{commit}}")
    if commit is None:
        raise ProductionError(f"the pinned champion {pinned.tag} is not a tag here: run git fetch --tags")
    model = artifact_path(repository, pinned.tag.split("@")[0], commit)
    try:
        files = DVCFileSystem(str(root), rev=commit)
        files.get(model, str(target / "model"), recursive=True)
        for path in (target / "model").iterdir():
            path.rename(target / path.name)
        (target / "model").rmdir()
    except Exception as error:  # every kind of cache and remote fails in its own way
        raise ProductionError(f"{model} of {pinned.tag} is neither in the cache nor in a remote: {error}") from error
    found = sha256_folder(target)
    if found != pinned.sha256:
        raise ProductionError(f"{model} of {pinned.tag} has sha256 {found}, but {pinned.sha256} is pinned")
    try:
        index = PurePosixPath(artifact_path(repository, CLIPS, commit)) / INDEX
        files.get(str(index), str(target / INDEX))
    except Exception as error:
        raise ProductionError(f"{pinned.tag} has no {INDEX} to compare new clips with: {error}") from error


def _trailer(message: str, key: str) -> str:
    for line in message.splitlines():
        if line.startswith(f"{key}: "):
            return line.removeprefix(f"{key}: ").strip()
    return ""
