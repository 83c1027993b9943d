"""Footage to clips: every source file ends as clips of one size, rate and length, or in quarantine with its reason."""

import functools
import hashlib
import posixpath
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onestep.config import IngestSettings
from onestep.data.clips import QUARANTINE, QUARANTINE_TYPES, table, write_clips
from onestep.data.fingerprints import Look, find_duplicates, look_at
from onestep.data.metadata import FILE, Caption, caption_of, read_metadata
from onestep.data.shots import Shot, find_shots, windows_of
from onestep.processes import map_in_processes
from onestep.storage import fetch, list_files, open_folder, replacing_folder, sha256_file
from onestep.video import EXTENSIONS, Framing, VideoError, decode, transcode


@dataclass(frozen=True)
class Source:
    """One file to ingest: its path in the footage folder, whether it is there, and its rows of metadata."""

    name: str
    present: bool
    captions: tuple[Caption, ...]


@dataclass(frozen=True)
class Clip:
    """One finished clip: its row of the index, its look, its MP4 file, and which shot it comes from."""

    row: dict[str, Any]
    look: Look
    video: Path
    shot: int


@dataclass
class Outcome:
    """What became of one source file."""

    clips: list[Clip] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)

    def refuse(self, source: Source, shot: Shot | None, reason: str, detail: str) -> None:
        """Put the file, or one shot of it, into quarantine."""
        number = None if shot is None else shot.index
        self.refused.append({"source": source.name, "shot": number, "reason": reason, "detail": detail})


def ingest(footage: str, out: Path, settings: IngestSettings) -> None:
    """Turn a folder of footage (a path or any fsspec URL) into a clips folder.

    The same footage and settings give the same bytes, whatever the number of workers. Raises `MetadataError` for a
    broken `metadata.csv` and `StorageError` when the footage cannot be reached.
    """
    fs, root = open_folder(footage)
    sources = _sources(list_files(fs, root), read_metadata(fs, root))
    with replacing_folder(out) as folder, tempfile.TemporaryDirectory(dir=folder.parent, prefix=".ingest.") as scratch:
        work = functools.partial(_ingest_source, footage=footage, scratch=Path(scratch), settings=settings)
        clips: list[Clip] = []
        refused: list[dict[str, Any]] = []
        for outcome in map_in_processes(work, sources, settings.workers, "ingest"):
            clips += outcome.clips
            refused += outcome.refused
        kept, repeats = _without_duplicates(clips, settings.duplicate_distance)
        videos = {clip.row["clip_id"]: clip.video for clip in kept}
        write_clips(folder, [clip.row for clip in kept], videos, settings.shard_clips)
        order = sorted(refused + repeats, key=lambda row: (row["source"], -1 if row["shot"] is None else row["shot"]))
        table(order, QUARANTINE_TYPES).to_parquet(folder / QUARANTINE, index=False)


def split_of(name: str, dev_share: float, test_share: float) -> str:
    """The split of a source by a hash of its path without extension: it never changes when footage is added."""
    stem = posixpath.splitext(name)[0]
    place = int.from_bytes(hashlib.sha256(stem.encode()).digest()[:8]) / 2**64
    return "test" if place < test_share else "dev" if place < test_share + dev_share else "train"


def _sources(files: Sequence[str], captions: dict[str, list[Caption]]) -> list[Source]:
    """Every file that is listed or looks like a video: listed ones in the order of `metadata.csv`, then the others."""
    present = {name for name in files if name != FILE and not posixpath.basename(name).startswith(".")}
    others = sorted(name for name in present - captions.keys() if name.lower().endswith(EXTENSIONS))
    listed = [Source(name, name in present, tuple(rows)) for name, rows in captions.items()]
    return listed + [Source(name, True, ()) for name in others]


def _ingest_source(source: Source, footage: str, scratch: Path, settings: IngestSettings) -> Outcome:
    outcome = Outcome()
    if not source.present:
        outcome.refuse(source, None, "missing", "metadata.csv lists it and the folder does not hold it")
    elif not source.captions:
        outcome.refuse(source, None, "not listed", "metadata.csv has no row for it")
    elif not any(caption.text for caption in source.captions):
        outcome.refuse(source, None, "no caption", "its rows of metadata.csv have an empty caption")
    else:
        with _local(footage, source.name, scratch) as (path, sha256):
            _ingest_file(source, path, sha256, scratch, settings, outcome)
    return outcome


def _ingest_file(
    source: Source, path: Path, sha256: str, scratch: Path, settings: IngestSettings, outcome: Outcome
) -> None:
    if path.stat().st_size == 0:
        return outcome.refuse(source, None, "empty file", "it holds zero bytes")
    try:
        info, shots = find_shots(path, settings.cut_threshold)
    except VideoError as error:
        return outcome.refuse(source, None, error.reason, str(error).replace(str(path), source.name))

    length_s = settings.frames / settings.fps
    cuts: list[tuple[Shot, Caption, float, float]] = []
    for shot in shots:
        caption = caption_of(source.captions, shot.start_s, shot.end_s)
        if caption is None or not caption.text:
            outcome.refuse(source, shot, "no caption", "no row of metadata.csv captions this time window")
            continue
        windows = windows_of(shot, caption.start_s, caption.end_s, length_s, settings.clips_per_shot)
        if not windows:
            seconds = caption.overlap_s(shot.start_s, shot.end_s)
            outcome.refuse(source, shot, "too short", f"{seconds:.3f} s are captioned, a clip needs {length_s:.3f} s")
        cuts += [(shot, caption, start, end) for start, end in windows]
    if not cuts:
        return None

    clip_ids = [_clip_id(source.name, start) for _, _, start, _ in cuts]
    targets = [scratch / f"{clip_id}.mp4" for clip_id in clip_ids]
    framing = Framing(settings.fps, settings.frames, settings.height, settings.width, settings.fit, settings.crf)
    try:
        transcode(path, info, [(start, end) for _, _, start, end in cuts], targets, framing)
    except VideoError as error:
        detail = str(error).replace(str(path), source.name)
        return outcome.refuse(source, None, error.reason, detail)
    for clip_id, target, (shot, caption, start, end) in zip(clip_ids, targets, cuts, strict=True):
        row = {
            "clip_id": clip_id,
            "source": source.name,
            "source_sha256": sha256,
            "start_s": round(start, 6),
            "end_s": round(end, 6),
            "caption": caption.text,
            "split": caption.split or split_of(source.name, settings.dev_share, settings.test_share),
            "held_out": caption.held_out,
            **dict(caption.attributes),
        }
        _judge_clip(source, shot, row, target, settings, outcome)


def _judge_clip(
    source: Source, shot: Shot, row: dict[str, Any], video: Path, settings: IngestSettings, outcome: Outcome
) -> None:
    try:
        frames = decode(video)
    except VideoError:
        return outcome.refuse(source, shot, "too short", f"no frame is left at {settings.fps} frames per second")
    if len(frames) != settings.frames:
        return outcome.refuse(source, shot, "too short", f"{len(frames)} frames of {settings.frames} needed")
    look = look_at(frames)
    if look.brightness < settings.min_brightness:
        detail = f"brightness {look.brightness:.4f} is below {settings.min_brightness}"
        return outcome.refuse(source, shot, "black", detail)
    if look.movement < settings.min_movement:
        return outcome.refuse(source, shot, "static", f"movement {look.movement:.6f} is below {settings.min_movement}")
    row |= {"frames": len(frames), "height": frames.shape[1], "width": frames.shape[2], "fps": float(settings.fps)}
    row |= {"brightness": look.brightness, "movement": look.movement, "phash": look.phash}
    outcome.clips.append(Clip(row, look, video, shot.index))
    return None


def _without_duplicates(clips: list[Clip], distance: int) -> tuple[list[Clip], list[dict[str, Any]]]:
    repeats = find_duplicates([clip.look for clip in clips], [clip.row["caption"] for clip in clips], distance)
    refused = [
        {
            "source": clips[repeat].row["source"],
            "shot": clips[repeat].shot,
            "reason": "duplicate",
            "detail": f"of {clips[first].row['clip_id']} from {clips[first].row['source']}",
        }
        for repeat, first in repeats.items()
    ]
    return [clip for index, clip in enumerate(clips) if index not in repeats], refused


def _clip_id(source: str, start_s: float) -> str:
    """Readable, unique for source and window, and without a dot, at which WebDataset would cut it."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", posixpath.splitext(source)[0]).strip("-")[-48:]
    return f"{stem}-{hashlib.sha256(source.encode()).hexdigest()[:8]}-{round(start_s * 1000):08d}"


@contextmanager
def _local(footage: str, name: str, scratch: Path) -> Iterator[tuple[Path, str]]:
    """A source file as a local path with its sha256, fetched first where the footage is remote."""
    fs, root = open_folder(footage)
    if fs.protocol == "file" or "file" in fs.protocol:
        path = Path(root) / name
        yield path, sha256_file(path)
        return
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        path = Path(folder) / f"source{posixpath.splitext(name)[1].lower()}"
        yield path, fetch(fs, posixpath.join(root, name), path)
