"""One source file: read, found to be shots, cut into clips for each of its rows; or refused, with the reason."""

import errno
import hashlib
import os
import posixpath
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onestep.config import IngestSettings
from onestep.data.fingerprints import Look, look_at
from onestep.data.finished import key_of, look_from_json, look_to_json, read_outcome, write_outcome
from onestep.data.listing import Refusal, is_local
from onestep.data.metadata import ROUNDING_S, Caption, captions_of
from onestep.data.quarantine import REASONS
from onestep.data.shots import Shot, find_shots, windows_of
from onestep.storage import MachineFailed, fetch, open_folder, sha256_file
from onestep.video import Framing, VideoError, VideoInfo, decode, transcode

_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE)
_UNUSED = float("inf")


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
            said = " ".join(detail.split())
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
    try:
        with _local(footage, str(source.path), folder) as (path, sha256):
            return _taken(source, path, sha256, folder, settings)
    except MachineFailed:
        raise
    except MemoryError:
        detail = f"it needs more memory than limits.memory_gb, {settings.limits.memory_gb:g} GB"
        outcome.refuse(source, "too large", detail)
    except OSError as error:
        if error.errno in _MACHINE:
            raise MachineFailed(
                f"{source.name} could not be taken: {error.strerror}: {error.filename or folder}"
            ) from error
        outcome.refuse(source, "cannot be read", error.strerror or str(error))
    except Exception as error:
        outcome.refuse(source, "cannot be read", f"{type(error).__name__}: {error}")
    return outcome


def _taken(source: Source, path: Path, sha256: str, folder: Path, settings: IngestSettings) -> Outcome:
    key = key_of(source.name, sha256, source.captions)
    if found := read_outcome(folder, key):
        clips = [Clip(**{**clip, "look": look_from_json(clip["look"])}) for clip in found[0]]
        return Outcome(clips, found[1])
    outcome = Outcome()
    try:
        _cut_file(source, path, sha256, folder, settings, outcome)
    except VideoError as error:
        outcome = Outcome()
        outcome.refuse(source, error.reason, str(error).replace(str(path), source.name))
    kept = [{**vars(clip), "look": look_to_json(clip.look)} for clip in outcome.clips]
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
            end = "" if caption.end_s == _UNUSED else f" to {caption.end_s:.3f} s"
            detail = f"its window from {caption.start_s:.3f} s{end} is after the file's end at {info.duration_s:.3f} s"
            outcome.refuse(source, "outside the file", detail, line=caption.line)


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
def _local(footage: str, name: str, folder: Path) -> Iterator[tuple[Path, str]]:
    """A source file as a local path with its sha256, fetched first where the footage is remote."""
    fs, root = open_folder(footage)
    if is_local(fs):
        path = Path(os.path.realpath(root)) / name
        yield path, sha256_file(path)
        return
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        path = Path(scratch) / f"source{posixpath.splitext(name)[1].lower()}"
        try:
            sha256 = fetch(fs, posixpath.join(root, name), path)
        except Exception as error:
            raise MachineFailed(f"{name} could not be fetched: {error}") from error
        yield path, sha256
