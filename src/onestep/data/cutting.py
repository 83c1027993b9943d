"""One source file: read, found to be shots, cut into clips for each of its rows; or refused, with the reason."""

import errno
import hashlib
import math
import os
import posixpath
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import fsspec

from onestep.core.storage import MachineFailed, StorageError, fetch, open_folder, sha256_file
from onestep.data.fingerprints import Fingerprint, fingerprint_of
from onestep.data.ingest_settings import IngestSettings
from onestep.data.listing import Refusal, is_local
from onestep.data.metadata import ROUNDING_S, Caption, captions_of
from onestep.data.quarantine import REASONS
from onestep.data.resume import key_of, read_result, write_result
from onestep.data.schema import LICENCE
from onestep.data.shots import Shot, find_shots, windows_of
from onestep.media.errors import MACHINE, message_of
from onestep.media.video import Framing, VideoError, VideoInfo, decode, transcode


@dataclass(frozen=True)
class Source:
    """One file to ingest: its name, its path below the footage, its rows of `metadata.csv`, and why it is refused."""

    name: str
    path: str | None
    captions: tuple[Caption, ...]
    refusal: Refusal | None = None


@dataclass(frozen=True)
class Clip:
    """One finished clip: its row of the index, its fingerprint, the name of its MP4 file, its shot, its line of metadata."""

    row: dict[str, Any]
    fingerprint: Fingerprint
    video: str
    shot: int
    line: int

    def to_json(self) -> dict[str, Any]:
        """The clip as JSON; its row in pairs, as an object would lose the order of the columns of `metadata.csv`."""
        return {**vars(self), "row": list(self.row.items()), "fingerprint": self.fingerprint.to_json()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        fingerprint = Fingerprint.from_json(content["fingerprint"])
        return cls(**{**content, "row": dict(content["row"]), "fingerprint": fingerprint})


@dataclass
class SourceResult:
    """The clips of one source file, and what of it was refused."""

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
            text = " ".join(detail.encode("utf-8", "backslashreplace").decode().split())
            self.refused.append(
                {"source": source.name, "shot": number, "line": place, "reason": reason, "detail": text}
            )


@dataclass(frozen=True)
class _Cut:
    """One clip to be cut: its id, its shot, the row that captions it, and its window."""

    clip_id: str
    shot: Shot
    caption: Caption
    start_s: float
    end_s: float


def ingest_source(source: Source, footage: str, folder: Path, settings: IngestSettings) -> SourceResult:
    """The result of one file, or that of an earlier run which was broken off; its clips lie in `folder`.

    Whatever a library raises over the file ends in the result. Raises `MachineFailed` where the machine is at fault.
    """
    result = SourceResult()
    if source.refusal is not None:
        result.refuse(source, source.refusal.reason, source.refusal.detail)
        return result
    if not any(caption.text for caption in source.captions):
        result.refuse(source, "no caption", "its rows of metadata.csv have an empty caption")
        return result
    with _local(source, footage, folder) as path:
        try:
            if isinstance(path, Refusal):
                result.refuse(source, path.reason, path.detail)
                return result
            return _ingest_local(source, path, folder, settings)
        except MachineFailed:
            raise
        except Exception as error:
            return _failed(source, error, str(path), settings)


def _failed(source: Source, error: Exception, path: str, settings: IngestSettings) -> SourceResult:
    """The result of a file whose reading raised this; raises `MachineFailed` where the machine is at fault."""
    result = SourceResult()
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError) or number == errno.ENOMEM:
        detail = f"it needs more memory than limits.memory_gb, {settings.limits.memory_gb:g} GB"
        result.refuse(source, "too large", detail)
    elif number in MACHINE:
        named = error.filename if isinstance(error, OSError) else None
        raise MachineFailed(f"{source.name} could not be ingested: {message_of(error)}: {named or path}") from error
    elif isinstance(error, OSError):
        result.refuse(source, "cannot be read", message_of(error))
    else:
        message = f"{type(error).__name__}: {error}".replace(path, source.name)
        result.refuse(source, "cannot be read", message)
    return result


def _ingest_local(source: Source, path: Path, folder: Path, settings: IngestSettings) -> SourceResult:
    before = path.stat()
    sha256 = sha256_file(path)
    key = key_of(source.name, sha256, source.captions)
    if found := read_result(folder, key):
        return SourceResult([Clip.from_json(clip) for clip in found[0]], found[1])
    result = SourceResult()
    try:
        _cut_file(source, path, sha256, folder, settings, result)
    except VideoError as error:
        result = SourceResult()
        result.refuse(source, error.reason, str(error).replace(str(path), source.name))
    after = path.stat()
    if (before.st_size, before.st_mtime_ns, before.st_ino) != (after.st_size, after.st_mtime_ns, after.st_ino):
        result = SourceResult()
        result.refuse(source, "cannot be read", "it changed while it was read: is it still being written?")
        return result
    write_result(folder, key, [clip.to_json() for clip in result.clips], result.refused)
    return result


def _cut_file(
    source: Source, path: Path, sha256: str, folder: Path, settings: IngestSettings, result: SourceResult
) -> None:
    if path.stat().st_size == 0:
        return result.refuse(source, "empty file", "it holds zero bytes")
    info, shots = find_shots(path, settings.cut_threshold, settings.limits)
    cuts = list(_cuts(source, info, shots, settings, result))
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
        _check_clip(source, cut, row, target, settings, result)
    return None


def _cuts(
    source: Source, info: VideoInfo, shots: Sequence[Shot], settings: IngestSettings, result: SourceResult
) -> Iterator[_Cut]:
    """The windows of each row in each shot that it captions; a row or a shot without a clip is refused."""
    length_s = settings.frames / settings.fps
    captions: dict[int, list[Caption]] = {}
    windows: dict[tuple[int, int], Sequence[tuple[float, float]]] = {}
    for shot in shots:
        captions[shot.index] = [c for c in captions_of(source.captions, shot.start_s, shot.end_s) if c.text]
        for caption in captions[shot.index]:
            windows[shot.index, caption.line] = windows_of(
                shot, caption.start_s, caption.end_s, length_s, settings.clips_per_shot
            )
    cut_shots = {shot for (shot, _), found in windows.items() if found}
    cut_lines = {line for (_, line), found in windows.items() if found}
    used: dict[str, int] = {}
    for shot in shots:
        for caption in captions[shot.index]:
            found = windows[shot.index, caption.line]
            if not found and not (shot.index in cut_shots and caption.line in cut_lines):
                seconds = caption.overlap_s(shot.start_s, shot.end_s)
                detail = f"{seconds:.3f} s are captioned, a clip needs {length_s:.3f} s"
                result.refuse(source, "too short", detail, shot, caption.line)
            for start, end in found:
                clip_id = clip_id_of(source.name, start)
                used[clip_id] = used.get(clip_id, 0) + 1
                again = f"-{used[clip_id]}" if used[clip_id] > 1 else ""
                yield _Cut(f"{clip_id}{again}", shot, caption, start, end)
        if not captions[shot.index]:
            result.refuse(source, "no caption", "no row of metadata.csv captions this time window", shot)
    _refuse_rows(source, info, shots, {line for _, line in windows}, result)


def _refuse_rows(
    source: Source, info: VideoInfo, shots: Sequence[Shot], captioning: set[int], result: SourceResult
) -> None:
    """Refuse the rows that caption no shot."""
    for caption in source.captions:
        if caption.line in captioning:
            continue
        if not caption.text:
            result.refuse(source, "no caption", "the row's caption is empty", line=caption.line)
        elif any(caption.overlap_s(shot.start_s, shot.end_s) > ROUNDING_S for shot in shots):
            detail = "a row for the whole file, and every shot has rows with windows of their own"
            result.refuse(source, "captioned otherwise", detail, line=caption.line)
        else:
            end = "" if math.isinf(caption.end_s) else f" to {caption.end_s:.3f} s"
            film = f"the film is shown from {shots[0].start_s:.3f} s to {info.duration_s:.3f} s"
            detail = f"its window from {caption.start_s:.3f} s{end} holds no picture: {film}"
            outside = caption.start_s >= info.duration_s - ROUNDING_S or caption.end_s <= shots[0].start_s + ROUNDING_S
            result.refuse(source, "outside the file" if outside else "too short", detail, line=caption.line)


def _check_clip(
    source: Source, cut: _Cut, row: dict[str, Any], video: Path, settings: IngestSettings, result: SourceResult
) -> None:
    frames = decode(video)
    where = (cut.shot, cut.caption.line)
    if len(frames) != settings.frames:
        return result.refuse(source, "too short", f"{len(frames)} frames of {settings.frames} needed", *where)
    fingerprint = fingerprint_of(frames)
    if fingerprint.brightness < settings.min_brightness:
        detail = f"brightness {fingerprint.brightness:.4f} is below {settings.min_brightness}"
        return result.refuse(source, "black", detail, *where)
    if fingerprint.movement < settings.min_movement:
        detail = f"movement {fingerprint.movement:.6f} is below {settings.min_movement}"
        return result.refuse(source, "static", detail, *where)
    row |= {"frames": len(frames), "height": frames.shape[1], "width": frames.shape[2], "fps": float(settings.fps)}
    row |= {"brightness": fingerprint.brightness, "movement": fingerprint.movement, "phash": fingerprint.phash}
    result.clips.append(Clip(row, fingerprint, video.name, cut.shot.index, cut.caption.line))
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
                raise MachineFailed(f"{source.name} could not be fetched: {message_of(error)}") from error
            yield Refusal("cannot be read", message_of(error))
            return
        yield path


def _listed(fs: fsspec.AbstractFileSystem, root: str) -> bool:
    """Whether the footage can still be listed, so that a refusal is about one file of it."""
    try:
        fs.invalidate_cache()
        return bool(fs.ls(root, detail=False))
    except Exception:
        return False
