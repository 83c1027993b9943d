"""The champion: which model is in production, what the graph pins of it, and its bytes for the graph to judge against.

Two things know the champion, on purpose. The tags are the truth: the highest `N` of `onestep#prod#N`. The file
`data/production.json` says what *this* run is judged against; it moves by a commit, so a verdict has no hidden input.
"""

from pathlib import Path, PurePosixPath
from typing import Any

from onestep.core.paths import CLIPS, MODEL, PRODUCTION
from onestep.core.storage import replacing_folder, write_json
from onestep.data.schema import INDEX
from onestep.gate.pin import PinnedChampion, read_pin
from onestep.inference.rows import MARKER
from onestep.registry.reconstruct import ReconstructError, export_model
from onestep.vcs.project import Project
from onestep.vcs.versions import InStage, in_stage


def champion(project: Project) -> InStage | None:
    """The model in production, null before the first; raises `VersionError` when its tags contradict each other."""
    return in_stage(project.git, MODEL, PRODUCTION)


def pinned_as(now: InStage | None) -> PinnedChampion | None:
    """How a run's pin names the model in production."""
    return PinnedChampion(tag=now.version_tag, sha256=now.sha256) if now else None


def champion_content(pinned: PinnedChampion | None) -> dict[str, Any]:
    """What the marker says of the champion."""
    return {"champion": pinned.model_dump() if pinned else None}


def fetch_production(project: Project, pin: Path, out: Path) -> None:
    """Make the folder of the pinned champion: its pipeline, `clips.parquet` of the data it learned from, a marker.

    The bytes come from DVC's cache or remote at the champion's tag. Without a champion the folder holds the marker
    alone: `champion.json`, which says which champion the pin names. Raises `ReconstructError` when the tag is missing or the
    model is not the pinned one, to the byte.
    """
    pinned = read_pin(pin).champion
    with replacing_folder(out) as partial:
        if pinned is not None:
            _export(project, pinned, partial)
        write_json(partial / MARKER, champion_content(pinned))


def _export(project: Project, pinned: PinnedChampion, target: Path) -> None:
    commit = project.git.resolve(f"refs/tags/{pinned.tag}^{{commit}}")
    if commit is None:
        raise ReconstructError(f"the pinned champion {pinned.tag} is not a tag here: run git fetch --tags")
    export_model(project, pinned.tag, commit, pinned.sha256, target)
    try:
        index = PurePosixPath(project.artifact(CLIPS, commit)) / INDEX
        project.files_at(commit).get(str(index), str(target / INDEX))
    except Exception as error:
        raise ReconstructError(f"{pinned.tag} has no {INDEX} to compare new clips with: {error}") from error
