"""Video files in and out: decode by PyAV, encode by ffmpeg, cut clips of one size, rate and length out of footage."""

import itertools
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np

from onestep.media.colour import Signal, display_size, filters_of, signal_of
from onestep.media.decoding import Limits, VideoInfo, name_of, scan
from onestep.media.encoding import GIF, SCALER, encode, ffmpeg_executable, h264
from onestep.media.errors import VideoError, video_errors
from onestep.media.film import Film, raw_pixels

__all__ = [
    "EXTENSIONS", "Framing", "Limits", "VideoError", "VideoInfo", "decode", "ffmpeg_executable", "probe", "scan",
    "transcode", "write_gif", "write_video",
]  # fmt: skip

EXTENSIONS = (
    ".mp4", ".mov", ".m4v", ".qt", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".divx", ".mpg", ".mpeg", ".vob", ".ts", ".mts",
    ".m2ts", ".flv", ".f4v", ".ogv", ".ogm", ".wmv", ".asf", ".gif",
)  # fmt: skip
_MARGIN_S = 0.001  # windows are cut this much before a frame, so that rounding never moves them past it
_LONGEST_SIDE = 16384  # pixels that a picture may have while it is scaled


@dataclass(frozen=True)
class Framing:
    """What every transcoded clip is like."""

    fps: float
    frames: int
    height: int
    width: int
    fit: Literal["crop", "pad"]
    crf: int  # x264 quality, 0 to 51; lower is better and larger


def write_video(frames: np.ndarray, path: Path, fps: float, crf: int = 12) -> None:
    """Encode `[T, H, W, 3]` uint8 RGB frames as H.264 in yuv420p; the same frames give the same bytes.

    Raises `VideoError` for another shape or for odd sides, which yuv420p cannot hold, and `MachineFailed`.
    """
    _check_frames(frames, path)
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise VideoError(f"{path}: sides of {height}x{width} pixels are odd: H.264 needs even sides")
    encode([frames.tobytes()], "rgb24", (width, height), fps, path, h264(crf))


def write_gif(frames: np.ndarray, path: Path, fps: float) -> None:
    """Write `[T, H, W, 3]` uint8 RGB frames as an endless GIF with a palette of its own."""
    _check_frames(frames, path)
    graph = "split[a][b];[b]palettegen[palette];[a][palette]paletteuse=dither=none"
    size = (frames.shape[2], frames.shape[1])
    encode([frames.tobytes()], "rgb24", size, fps, path, {"filter_complex": graph, **GIF})


def probe(path: Path) -> VideoInfo:
    """Size, rate and length of a video, its frames counted by decoding them; raises `VideoError`."""
    with video_errors(str(path)):
        return scan(path, lambda _time, _frame: None)


def decode(source: Path | bytes) -> np.ndarray:
    """All frames of a file, or of a file's bytes, as `[T, H, W, 3]` uint8 RGB; raises `VideoError` when damaged."""
    frames: list[np.ndarray] = []
    name = name_of(source)
    with video_errors(name):
        info = scan(source, lambda _time, frame: frames.append(frame.to_ndarray(format="rgb24")))
        if info.damage or not frames:
            why = info.damage or "no frame could be decoded"
            raise VideoError(f"{name} breaks off after {len(frames)} frames: {why}", "truncated")
        return np.stack(frames)


def transcode(
    source: Path, info: VideoInfo, windows: Sequence[tuple[float, float]], targets: Sequence[Path], framing: Framing
) -> None:
    """Cut time windows out of one file and bring each to `framing`, one H.264 file per window.

    info: what `scan` found in that file; windows: start and end in seconds from the file's start, each start a frame's
    own time, each window within one shot. Frame n of a clip is the last one of the file that is shown, to the nearest
    frame of the clip, n / fps seconds after the window's start. A window shorter than `frames / fps` gives fewer
    frames. Raises `VideoError`, and `MachineFailed` where the machine failed.
    """
    with video_errors(str(source), "cannot be cut", "not transcodable"), Film(source, info) as film:
        for number in sorted(range(len(windows)), key=lambda number: windows[number]):
            numbers = _sampled(info, *windows[number], framing)
            if not numbers:
                start, end = windows[number]
                raise VideoError(f"{source} shows no frame from {start:.3f} s to {end:.3f} s")
            _cut(source, film, numbers, targets[number], framing)


def _sampled(info: VideoInfo, start_s: float, end_s: float, framing: Framing) -> list[int]:
    """The numbers of the frames that one clip shows."""
    first, last = info.first_from(start_s - _MARGIN_S), info.first_from(end_s - _MARGIN_S)
    step = info.time_base * Fraction(framing.fps)  # frames of the clip in a tick
    places = [int((info.ticks[number] - info.ticks[first]) * step + Fraction(1, 2)) for number in range(first, last)]
    count = min(framing.frames, max(round((end_s - start_s) * framing.fps), 1)) if places else 0
    return [first + bisect_right(places, place) - 1 for place in range(count)]


def _cut(source: Path, film: Film, numbers: list[int], target: Path, framing: Framing) -> None:
    frames = film.frames(numbers)
    first = next(frames)
    try:
        signal = signal_of(first, film.stream)
        filters = [*filters_of(signal), *_fit(signal, framing)]
    except VideoError as error:
        raise VideoError(f"{source}: {error}", error.reason) from error
    pixels = raw_pixels(itertools.chain([first], frames), signal.pixels)
    options = {"vf": ",".join(filters), "frames:v": len(numbers), **h264(framing.crf)}
    encode(pixels, signal.pixels, (first.width, first.height), framing.fps, target, options, str(source))


def _fit(signal: Signal, framing: Framing) -> list[str]:
    """The filters that bring an upright picture to the clip's size; raises `VideoError` where no pixel would be left."""
    width, height = display_size(signal)
    shapes = {"crop": max, "pad": min}
    by = shapes[framing.fit](framing.width / width, framing.height / height)
    side = framing.width if width > height else framing.height
    if framing.fit == "pad" and min(width, height) * by < 2:
        raise _too_long(signal, framing, side / 2)
    if framing.fit == "crop" and max(width, height) * by > _LONGEST_SIDE:
        raise _too_long(signal, framing, _LONGEST_SIDE / (framing.height if width > height else framing.width))
    aspect = "increase" if framing.fit == "crop" else "decrease"
    scale = (
        f"scale={framing.width}:{framing.height}:force_original_aspect_ratio={aspect}:force_divisible_by=2:reset_sar=1:"
        f"out_color_matrix=bt601:out_range=tv:flags={SCALER}"
    )
    place = (
        f"crop={framing.width}:{framing.height}"
        if framing.fit == "crop"
        else f"pad={framing.width}:{framing.height}:-1:-1"
    )
    return [scale, place]


def _too_long(signal: Signal, framing: Framing, most: float) -> VideoError:
    width, height = display_size(signal)
    return VideoError(
        f"its picture of {width:.0f}x{height:.0f} pixels cannot be brought to {framing.width}x{framing.height} by "
        f"'fit: {framing.fit}': the longer side may be {most:.0f} times the shorter at most",
        "extreme aspect ratio",
    )


def _check_frames(frames: np.ndarray, path: Path) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not len(frames):
        raise VideoError(f"{path}: frames must be uint8 [T, H, W, 3], not {frames.dtype} {list(frames.shape)}")
