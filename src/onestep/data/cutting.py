"""One source file: read, found to be shots, cut into clips for each of its rows; or refused, with the reason."""

import errno
import hashlib
import math
import os
import posixpath
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec

from onestep.core.storage import MachineFailed, StorageError, fetch, open_folder, sha256_file
from onestep.data.fingerprints import Look, look_at
from onestep.data.finished import key_of, look_from_json, look_to_json, read_outcome, write_outcome
from onestep.data.ingest_settings import IngestSettings
from onestep.data.listing import Refusal, is_local
from onestep.data.metadata import ROUNDING_S, Caption, captions_of
from onestep.data.quarantine import REASONS
from onestep.data.schema import LICENCE
from onestep.data.shots import Shot, find_shots, windows_of
from onestep.media.errors import MACHINE, said_by
from onestep.media.video import Framing, VideoError, VideoInfo, decode, transcode


@dataclass(frozen=True)
class Source:
    """One file to ingest: how it is called, its path below the footage, its rows of metadata, and why it is refused."""

    name: str
    path: str | None
    captions: tuple[Caption, ...]
    refusal: Refusal | None = None


@dataclass(frozen=True)
class Clip:
    """One finished clip: its row of the index, its look, the name of its MP4 file, its shot, its line of metadata."""

    row: dict[str, Any]
    look: Look
    video: str
    shot: int
    line: int


@dataclass
class Outcome:
    """What became of one source file."""

    clips: list[Clip] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)

    def refuse(
        self, source: Source, reason: str, detail: str, shot: Shot | None = None, line: int | None = None
    ) -> None:
        """Put a row of the file, or one shot of it, into quarantine; the whole file is one entry for each of its rows."""
        assert reason in REASONS, reason
        lines = [caption.line for caption in source.captions] if shot is None and line is None else [line]
        number = None if shot is None else shot.index
        for place in lines or [None]:
            said = " ".join(detail.encode("utf-8", "backslashreplace").decode().split())
            self.refused.append(
                {"source": source.name, "shot": number, "line": place, "reason": reason, "detail": said}
            )


@dataclass(frozen=True)
class _Cut:
    """One clip to be: where it lies, what it is called, and by which row."""

    clip_id: str
    shot: Shot
    caption: Caption
    start_s: float
    end_s: float


def take(source: Source, footage: str, folder: Path, settings: IngestSettings) -> Outcome:
    """What becomes of one file, or became of it when an earlier run was broken off; its clips lie in `folder`.

    Whatever the file makes a library do ends in the outcome. Raises `MachineFailed` where the machine is at fault.
    """
    outcome = Outcome()
    if source.refusal is not None:
        outcome.refuse(source, source.refusal.reason, source.refusal.detail)
        return outcome
    if not any(caption.text for caption in source.captions):
        outcome.refuse(source, "no caption", "its rows of metadata.csv have an empty caption")
        return outcome
    with _local(source, footage, folder) as path:
        try:
            if isinstance(path, Refusal):
                outcome.refuse(source, path.reason, path.detail)
                return outcome
            return _taken(source, path, folder, settings)
        except MachineFailed:
            raise
        except Exception as error:
            return _refused(source, error, str(path), settings)


def _refused(source: Source, error: Exception, path: str, settings: IngestSettings) -> Outcome:
    """The outcome of a file whose reading raised this; raises `MachineFailed` where the machine is at fault."""
    outcome = Outcome()
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError) or number == errno.ENOMEM:
        detail = f"it needs more memory than limits.memory_gb, {settings.limits.memory_gb:g} GB"
        outcome.refuse(source, "too large", detail)
    elif number in MACHINE:
        named = error.filename if isinstance(error, OSError) else None
        raise MachineFailed(f"{source.name} could not be taken: {said_by(error)}: {named or path}") from error
    elif isinstance(error, OSError):
        outcome.refuse(source, "cannot be read", said_by(error))
    else:
        said = f"{type(error).__name__}: {error}".replace(path, source.name)
        outcome.refuse(source, "cannot be read", said)
    return outcome


def _taken(source: Source, path: Path, folder: Path, settings: IngestSettings) -> Outcome:
    before = path.stat()
    sha256 = sha256_file(path)
    key = key_of(source.name, sha256, source.captions)
    if found := read_outcome(folder, key):
        clips = [Clip(**{**clip, "row": dict(clip["row"]), "look": look_from_json(clip["look"])}) for clip in found[0]]
        return Outcome(clips, found[1])
    outcome = Outcome()
    try:
        _cut_file(source, path, sha256, folder, settings, outcome)
    except VideoError as error:
        outcome = Outcome()
        outcome.refuse(source, error.reason, str(error).replace(str(path), source.name))
    after = path.stat()
    if (before.st_size, before.st_mtime_ns, before.st_ino) != (after.st_size, after.st_mtime_ns, after.st_ino):
        outcome = Outcome()
        outcome.refuse(source, "cannot be read", "it changed while it was read: is it still being written?")
        return outcome
    # pairs, as a JSON object forgets the order of metadata.csv's columns
    kept = [{**vars(clip), "row": list(clip.row.items()), "look": look_to_json(clip.look)} for clip in outcome.clips]
    write_outcome(folder, key, kept, outcome.refused)
    return outcome


def _cut_file(
    source: Source, path: Path, sha256: str, folder: Path, settings: IngestSettings, outcome: Outcome
) -> None:
    if path.stat().st_size == 0:
        return outcome.refuse(source, "empty file", "it holds zero bytes")
    info, shots = find_shots(path, settings.cut_threshold, settings.limits)
    cuts = list(_cuts(source, info, shots, settings, outcome))
    targets = [folder / f"{cut.clip_id}.mp4" for cut in cuts]
    framing = Framing(settings.fps, settings.frames, settings.height, settings.width, settings.fit, settings.crf)
    transcode(path, info, [(cut.start_s, cut.end_s) for cut in cuts], targets, framing)
    for cut, target in zip(cuts, targets, strict=True):
        row = {
            "clip_id": cut.clip_id,
            "source": source.name,
            "source_sha256": sha256,
            "start_s": round(cut.start_s, 6),
            "end_s": round(cut.end_s, 6),
            "caption": cut.caption.text,
            "split": cut.caption.split or split_of(source.name, settings.dev_share, settings.test_share),
            "held_out": cut.caption.held_out,
            **({} if cut.caption.licence is None else {LICENCE: cut.caption.licence}),
            **dict(cut.caption.attributes),
        }
        _judge_clip(source, cut, row, target, settings, outcome)
    return None


def _cuts(
    source: Source, info: VideoInfo, shots: Sequence[Shot], settings: IngestSettings, outcome: Outcome
) -> Iterator[_Cut]:
    """The windows of each row in each shot that it speaks of; what comes to nothing is refused, row by row and shot by shot."""
    length_s = settings.frames / settings.fps
    spoken: dict[int, list[Caption]] = {}
    windows: dict[tuple[int, int], Sequence[tuple[float, float]]] = {}
    for shot in shots:
        spoken[shot.index] = [c for c in captions_of(source.captions, shot.start_s, shot.end_s) if c.text]
        for caption in spoken[shot.index]:
            windows[shot.index, caption.line] = windows_of(
                shot, caption.start_s, caption.end_s, length_s, settings.clips_per_shot
            )
    cut_shots = {shot for (shot, _), found in windows.items() if found}
    cut_lines = {line for (_, line), found in windows.items() if found}
    used: dict[str, int] = {}
    for shot in shots:
        for caption in spoken[shot.index]:
            found = windows[shot.index, caption.line]
            if not found and not (shot.index in cut_shots and caption.line in cut_lines):
                seconds = caption.overlap_s(shot.start_s, shot.end_s)
                detail = f"{seconds:.3f} s are captioned, a clip needs {length_s:.3f} s"
                outcome.refuse(source, "too short", detail, shot, caption.line)
            for start, end in found:
                clip_id = clip_id_of(source.name, start)
                used[clip_id] = used.get(clip_id, 0) + 1
                again = f"-{used[clip_id]}" if used[clip_id] > 1 else ""
                yield _Cut(f"{clip_id}{again}", shot, caption, start, end)
        if not spoken[shot.index]:
            outcome.refuse(source, "no caption", "no row of metadata.csv captions this time window", shot)
    _refuse_rows(source, info, shots, {line for _, line in windows}, outcome)


def _refuse_rows(source: Source, info: VideoInfo, shots: Sequence[Shot], spoke: set[int], outcome: Outcome) -> None:
    """Name the rows that spoke of no shot."""
    for caption in source.captions:
        if caption.line in spoke:
            continue
        if not caption.text:
            outcome.refuse(source, "no caption", "the row's caption is empty", line=caption.line)
        elif any(caption.overlap_s(shot.start_s, shot.end_s) > ROUNDING_S for shot in shots):
            detail = "a row for the whole file, and every shot has rows with windows of their own"
            outcome.refuse(source, "captioned otherwise", detail, line=caption.line)
        else:
            end = "" if math.isinf(caption.end_s) else f" to {caption.end_s:.3f} s"
            film = f"the film is shown from {shots[0].start_s:.3f} s to {info.duration_s:.3f} s"
            detail = f"its window from {caption.start_s:.3f} s{end} holds no picture: {film}"
            outside = caption.start_s >= info.duration_s - ROUNDING_S or caption.end_s <= shots[0].start_s + ROUNDING_S
            outcome.refuse(source, "outside the file" if outside else "too short", detail, line=caption.line)


def _judge_clip(
    source: Source, cut: _Cut, row: dict[str, Any], video: Path, settings: IngestSettings, outcome: Outcome
) -> None:
    frames = decode(video)
    where = (cut.shot, cut.caption.line)
    if len(frames) != settings.frames:
        return outcome.refuse(source, "too short", f"{len(frames)} frames of {settings.frames} needed", *where)
    look = look_at(frames)
    if look.brightness < settings.min_brightness:
        detail = f"brightness {look.brightness:.4f} is below {settings.min_brightness}"
        return outcome.refuse(source, "black", detail, *where)
    if look.movement < settings.min_movement:
        detail = f"movement {look.movement:.6f} is below {settings.min_movement}"
        return outcome.refuse(source, "static", detail, *where)
    row |= {"frames": len(frames), "height": frames.shape[1], "width": frames.shape[2], "fps": float(settings.fps)}
    row |= {"brightness": look.brightness, "movement": look.movement, "phash": look.phash}
    outcome.clips.append(Clip(row, look, video.name, cut.shot.index, cut.caption.line))
    return None


def split_of(name: str, dev_share: float, test_share: float) -> str:
    """The split of a source by a hash of its path without extension: it never changes when footage is added."""
    stem = posixpath.splitext(name)[0]
    place = int.from_bytes(hashlib.sha256(stem.encode()).digest()[:8]) / 2**64
    return "test" if place < test_share else "dev" if place < test_share + dev_share else "train"


def clip_id_of(source: str, start_s: float) -> str:
    """Readable, unique for source and window, and without a dot, at which WebDataset would cut it."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", posixpath.splitext(source)[0]).strip("-")[-48:]
    return f"{stem}-{hashlib.sha256(source.encode()).hexdigest()[:8]}-{round(start_s * 1000):08d}"


@contextmanager
def _local(source: Source, footage: str, folder: Path) -> Iterator[Path | Refusal]:
    """A source file as a local path, fetched first where the footage is remote; or why it cannot be had.

    Raises `MachineFailed` where the footage has gone as a whole, or goes away while it is read.
    """
    name = str(source.path)
    try:
        fs, root = open_folder(footage)
    except StorageError as error:
        raise MachineFailed(f"{source.name} could not be read, for its folder has gone: {error}") from error
    if is_local(fs):
        yield Path(os.path.realpath(root)) / name
        return
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        path = Path(scratch) / f"source{posixpath.splitext(name)[1].lower()}"
        try:
            fetch(fs, posixpath.join(root, name), path)
        except Exception as error:
            if not isinstance(error, FileNotFoundError | PermissionError) or not _listed(fs, root):
                raise MachineFailed(f"{source.name} could not be fetched: {said_by(error)}") from error
            yield Refusal("cannot be read", said_by(error))
            return
        yield path


def _listed(fs: fsspec.AbstractFileSystem, root: str) -> bool:
    """Whether the footage can still be listed, so that a refusal is about one file of it."""
    try:
        fs.invalidate_cache()
        return bool(fs.ls(root, detail=False))
    except Exception:
        return False
