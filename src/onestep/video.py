"""Video files in and out: probe and decode by PyAV, encode and transcode by ffmpeg.

Footage is untrusted: only real container formats are opened (no playlist that names other files), over the file
protocol alone. Encoding is byte-stable: one thread, bit-exact flags, no metadata.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import av
import ffmpeg
import imageio_ffmpeg
import numpy as np

EXTENSIONS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".flv", ".ogv", ".wmv", ".gif")
_CONTAINERS = "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf,gif"
_GUARD = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
_WINDOWS_PER_CALL = 16
_MARGIN_S = 0.001  # cuts lie this much before a frame, so that rounding never moves them past it


class VideoError(RuntimeError):
    """A video could not be read or written, by the file's own fault; the message names the file and says why."""

    def __init__(self, message: str, reason: str = "not transcodable") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class VideoInfo:
    """What a file's header says and what its frames turned out to be."""

    frames: int  # decoded
    declared: int  # what the header promises; from duration and rate where the container holds no count
    fps: float
    height: int  # pixels
    width: int  # pixels
    duration_s: float  # of the decoded frames
    damage: str | None = None  # the decoder's words where decoding broke off

    @property
    def truncated(self) -> bool:
        """Whether frames that the header promises are not there; an edit list may hide one in fifty."""
        return self.damage is not None or self.frames + max(1, self.declared // 50) < self.declared


@dataclass(frozen=True)
class Framing:
    """What every transcoded clip is like."""

    fps: float
    frames: int
    height: int
    width: int
    fit: Literal["crop", "pad"]
    crf: int  # x264 quality, 0 to 51; lower is better and larger


def ffmpeg_executable() -> str:
    """The path of the ffmpeg binary that a wheel brings."""
    return imageio_ffmpeg.get_ffmpeg_exe()


def write_video(frames: np.ndarray, path: Path, fps: float, crf: int = 12) -> None:
    """Encode `[T, H, W, 3]` uint8 RGB frames as H.264 in yuv420p; the same frames give the same bytes.

    Raises `VideoError` for another shape or for odd sides, which yuv420p cannot hold.
    """
    _check_frames(frames, path)
    if frames.shape[1] % 2 or frames.shape[2] % 2:
        raise VideoError(f"{path}: sides of {frames.shape[1]}x{frames.shape[2]} pixels are odd: H.264 needs even sides")
    _run(_raw_input(frames, fps).output(str(path), **_h264(crf)), frames.tobytes(), path)


def write_gif(frames: np.ndarray, path: Path, fps: float) -> None:
    """Write `[T, H, W, 3]` uint8 RGB frames as an endless GIF with a palette of its own."""
    _check_frames(frames, path)
    split = _raw_input(frames, fps).filter_multi_output("split")
    stream = ffmpeg.filter([split[0], split[1].filter("palettegen")], "paletteuse", dither="none")
    _run(stream.output(str(path), format="gif", loop=0, threads=1, fflags="+bitexact"), frames.tobytes(), path)


def scan(source: Path | bytes, visit: Callable[[float, av.VideoFrame], None]) -> VideoInfo:
    """Decode every frame once, pass each with its time in seconds from the file's start to `visit`, and count.

    Raises `VideoError` when there is no video to open; damage later in the file is reported in the result.
    """
    name = "the clip" if isinstance(source, bytes) else str(source)
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else str(source)
        container = av.open(file, mode="r", options=_guard(source))
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f"{name} is not a video that can be opened: {_reason(error)}") from error
    with container:
        if not container.streams.video:
            raise VideoError(f"{name} holds no video stream")
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        fps = float(stream.average_rate or stream.guessed_rate or 0) or 1.0
        start = (container.start_time or 0) / 1_000_000
        declared = stream.frames or round((container.duration or 0) / 1_000_000 * fps)
        count, last, damage = 0, 0.0, None
        try:
            for frame in container.decode(stream):
                last = frame.time - start if frame.time is not None else count / fps
                visit(last, frame)
                count += 1
        except av.error.FFmpegError as error:
            damage = _reason(error)
        return VideoInfo(count, declared, fps, stream.height, stream.width, last + 1 / fps if count else 0.0, damage)


def probe(path: Path) -> VideoInfo:
    """Size, rate and length of a video, its frames counted by decoding them; raises `VideoError`."""
    return scan(path, lambda _time, _frame: None)


def decode(source: Path | bytes) -> np.ndarray:
    """All frames of a file, or of a file's bytes, as `[T, H, W, 3]` uint8 RGB; raises `VideoError` when damaged."""
    frames: list[np.ndarray] = []
    info = scan(source, lambda _time, frame: frames.append(frame.to_ndarray(format="rgb24")))
    name = "the clip" if isinstance(source, bytes) else str(source)
    if info.damage or not frames:
        raise VideoError(f"{name} breaks off after {len(frames)} frames: {info.damage or 'no frame could be decoded'}")
    return np.stack(frames)


def transcode(source: Path, windows: Sequence[tuple[float, float]], targets: Sequence[Path], framing: Framing) -> None:
    """Cut time windows out of one file and bring each to `framing`, one H.264 file per window.

    windows: start and end in seconds from the file's start, in ascending order, each start a frame's own time. A
    window shorter than `frames / fps` gives fewer frames. Raises `VideoError`.
    """
    for first in range(0, len(windows), _WINDOWS_PER_CALL):
        part = slice(first, first + _WINDOWS_PER_CALL)
        seek = max(windows[first][0] - _MARGIN_S, 0.0)
        until = max(end for _, end in windows[part]) - seek + _MARGIN_S
        source_input = ffmpeg.input(str(source), ss=f"{seek:.6f}", t=f"{until:.6f}", threads=1, **_GUARD)
        outputs = []
        for (start, end), target in zip(windows[part], targets[part], strict=True):
            begin, stop = max(start - seek - _MARGIN_S, 0.0), end - seek - _MARGIN_S
            stream = source_input.video.filter("trim", start=f"{begin:.6f}", end=f"{stop:.6f}")
            stream = _fit(stream.filter("setpts", "PTS-STARTPTS").filter("fps", framing.fps), framing)
            outputs.append(stream.output(str(target), **{"frames:v": framing.frames}, **_h264(framing.crf)))
        _run(ffmpeg.merge_outputs(*outputs), None, source)


def _fit(stream: Any, framing: Framing) -> Any:
    width, height = framing.width, framing.height
    aspect = "increase" if framing.fit == "crop" else "decrease"
    stream = stream.filter(
        "scale",
        width,
        height,
        force_original_aspect_ratio=aspect,
        force_divisible_by=2,
        reset_sar=1,
        out_color_matrix="bt601",
        out_range="tv",
        flags="bicubic+accurate_rnd+full_chroma_int+bitexact",
    )
    if framing.fit == "crop":
        return stream.filter("crop", width, height)
    return stream.filter("pad", width, height, -1, -1)


def _raw_input(frames: np.ndarray, fps: float) -> Any:
    size = f"{frames.shape[2]}x{frames.shape[1]}"
    return ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=size, r=fps)


def _h264(crf: int) -> dict[str, Any]:
    return {
        "format": "mp4",
        "vcodec": "libx264",
        "pix_fmt": "yuv420p",
        "crf": crf,
        "threads": 1,
        "fflags": "+bitexact",
        "flags:v": "+bitexact",
        "map_metadata": -1,
        "movflags": "+faststart",
        "sws_flags": "bicubic+accurate_rnd+full_chroma_int+bitexact",
    }


def _run(stream: Any, data: bytes | None, path: Path) -> None:
    flags = ["-hide_banner", "-loglevel", "error", "-filter_threads", "1", "-filter_complex_threads", "1"]
    if data is None:
        flags.append("-nostdin")
    try:
        stream.global_args(*flags).overwrite_output().run(
            cmd=ffmpeg_executable(), input=data, capture_stdout=True, capture_stderr=True
        )
    except ffmpeg.Error as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines()
        raise VideoError(f"ffmpeg failed on {path}: {lines[-1] if lines else 'no reason given'}") from error


def _check_frames(frames: np.ndarray, path: Path) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not len(frames):
        raise VideoError(f"{path}: frames must be uint8 [T, H, W, 3], not {frames.dtype} {list(frames.shape)}")


def _guard(source: Path | bytes) -> dict[str, str]:
    return {"format_whitelist": _CONTAINERS} if isinstance(source, bytes) else dict(_GUARD)


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).strip()
