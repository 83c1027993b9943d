"""Footage to clips: every source file ends as clips of one size, rate and length, or in quarantine with its reason."""

import functools
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fsspec

from onestep.core.isolated import Bounds, map_isolated
from onestep.core.storage import open_folder, replacing_folder
from onestep.data.clips import table, write_clips
from onestep.data.cutting import Clip, Source, SourceResult, ingest_source, split_of
from onestep.data.fingerprints import find_duplicates
from onestep.data.ingest_settings import IngestSettings
from onestep.data.listing import CLOSED, Listing, Refusal, explain_missing, list_footage, shown_name
from onestep.data.metadata import FILE, Caption, MetadataError, read_metadata
from onestep.data.resume import ResumeFolder
from onestep.data.schema import QUARANTINE, QUARANTINE_TYPES
from onestep.media.video import EXTENSIONS

_NOT_LISTED = Refusal("not listed", "metadata.csv has no row for it")

__all__ = ["FootageLost", "ingest", "split_of"]


class FootageLost(AssertionError):
    """A file or a row came to nothing without a reason: a fault of this program, not of the footage."""


def ingest(footage: str, out: Path, settings: IngestSettings) -> None:
    """Turn a folder of footage (a path or any fsspec URL) into a clips folder.

    The same footage and settings give the same bytes, whatever the number of workers, and however often it was broken
    off and run again. Raises `MetadataError` for a broken `metadata.csv`, `StorageError` when the footage cannot be
    reached, `MachineFailed` where the machine is at fault.
    """
    fs, root = open_folder(footage)
    sources = _sources(fs, root, list_footage(fs, root), read_metadata(fs, root))
    resume = ResumeFolder(out, {"footage": footage, "settings": settings.model_dump(exclude={"workers"})})
    folder = resume.open()
    work = functools.partial(ingest_source, footage=footage, folder=folder, settings=settings)
    bounds = Bounds(int(settings.limits.memory_gb * 1e9), settings.limits.deadline_s)
    clips: list[Clip] = []
    refused: list[dict[str, Any]] = []
    for result in map_isolated(work, sources, settings.workers, "ingest", bounds, _ended):
        clips += result.clips
        refused += result.refused
    kept, repeats = _without_duplicates(clips, settings.duplicate_distance)
    order = sorted(refused + repeats, key=_place)
    _require_accounted(sources, kept, order)
    with replacing_folder(out) as partial:
        videos = {clip.row["clip_id"]: folder / clip.video for clip in kept}
        write_clips(partial, [clip.row for clip in kept], videos, settings.shard_clips)
        table(order, QUARANTINE_TYPES).to_parquet(partial / QUARANTINE, index=False)
    resume.clear()


def _sources(
    fs: fsspec.AbstractFileSystem, root: str, listing: Listing, captions: Mapping[str, Sequence[Caption]]
) -> list[Source]:
    """Every file that is listed or looks like a video: listed ones in the order of `metadata.csv`, then the others."""
    rows: dict[str, list[Caption]] = {}
    found: dict[str, str | None] = {}
    for written, listed in captions.items():
        file = listing.find(written)
        name = file or shown_name(written)
        found[name] = file
        rows.setdefault(name, []).extend(listed)
        if len({row.split for row in rows[name]}) > 1:
            raise MetadataError(f"{posixpath.join(root, FILE)}: {name} has rows in several splits; keep to one")
    sources = []
    for name, file in found.items():
        refusal = explain_missing(fs, root, name, listing) if file is None else listing.refused.get(file)
        path = None if file is None else listing.files.get(file)
        sources.append(Source(name, path, tuple(rows[name]), refusal))
    for name in sorted({*listing.files, *listing.refused} - rows.keys()):
        refusal = listing.refused.get(name)
        video = name.lower().endswith(EXTENSIONS) and not posixpath.basename(name).startswith(".")
        if name != FILE and (video or (refusal and refusal.reason == CLOSED)):
            sources.append(Source(name, None, (), refusal or _NOT_LISTED))
    return sources


def _ended(source: Source, why: str) -> SourceResult:
    """The result of a file whose process ended before it did."""
    result = SourceResult()
    result.refuse(source, "too long" if "limits.deadline_s" in why else "ended its process", why)
    return result


def _without_duplicates(clips: list[Clip], distance: int) -> tuple[list[Clip], list[dict[str, Any]]]:
    repeats = find_duplicates([clip.fingerprint for clip in clips], [clip.row["caption"] for clip in clips], distance)
    refused = [
        {
            "source": clips[repeat].row["source"],
            "shot": clips[repeat].shot,
            "line": clips[repeat].line,
            "reason": "duplicate",
            "detail": f"of {clips[first].row['clip_id']} from {clips[first].row['source']}",
        }
        for repeat, first in repeats.items()
    ]
    return [clip for index, clip in enumerate(clips) if index not in repeats], refused


def _place(row: Mapping[str, Any]) -> tuple[str, int, int]:
    return row["source"], -1 if row["shot"] is None else row["shot"], row["line"] or 0


def _require_accounted(sources: Sequence[Source], clips: Sequence[Clip], refused: Sequence[Mapping[str, Any]]) -> None:
    """Every row ended as a clip or in quarantine, and so did every file; raises `FootageLost`."""
    lines = {(clip.row["source"], clip.line) for clip in clips} | {(row["source"], row["line"]) for row in refused}
    named = {source for source, _ in lines}
    for source in sources:
        if source.name not in named:
            raise FootageLost(f"{source.name} became neither a clip nor a row of the quarantine: please report this")
        for caption in source.captions:
            if (source.name, caption.line) not in lines:
                raise FootageLost(
                    f"{FILE} line {caption.line} ({source.name}) became neither a clip nor a row of the quarantine: "
                    "please report this"
                )
