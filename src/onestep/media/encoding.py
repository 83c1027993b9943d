"""Raw frames to a file by ffmpeg: one thread, bit-exact flags and no metadata, so that encoding is byte-stable.

The file appears whole or not at all. ffmpeg never sees a file of the footage: its input is raw pixels on a pipe.
"""

import os
import re
import resource
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import ffmpeg
import imageio_ffmpeg

from onestep.core.storage import MachineFailed, replacing
from onestep.media.errors import VideoError, video_errors

Options = Mapping[str, str | int]  # of ffmpeg's output, by name without the dash
SCALER = "bicubic+accurate_rnd+full_chroma_int+bitexact"
_BITEXACT: Options = {"fflags": "+bitexact", "map_metadata": -1, "threads": 1}
GIF: Options = {"format": "gif", "loop": 0, **_BITEXACT}
_TARGET = "file:target"  # stands for the path, which need not be UTF-8 and ffmpeg-python takes no other
_QUIET = ("-hide_banner", "-nostdin", "-loglevel", "error", "-filter_threads", "1", "-filter_complex_threads", "1")
_STOPPED_BY_ITSELF = {"SIGSEGV", "SIGABRT", "SIGFPE", "SIGILL", "SIGBUS", "SIGSYS", "SIGTRAP"}
_ENDED_FROM_OUTSIDE = 255  # ffmpeg's own exit status after SIGTERM or SIGINT
_MACHINE = re.compile(
    r"No space left on device|Disk quota exceeded|Input/output error|Cannot allocate memory|File too large|"
    r"Read-only file system|Too many open files|Stale file handle|Resource temporarily unavailable"
)


def h264(crf: int) -> Options:
    """Output options for H.264 in MP4; crf: quality, 0 to 51, lower is better and larger."""
    options: Options = {
        "format": "mp4",
        "vcodec": "libx264",
        "pix_fmt": "yuv420p",
        "crf": crf,
        "movflags": "+faststart",
    }
    return {**options, "flags:v": "+bitexact", "sws_flags": SCALER, **_BITEXACT}


def ffmpeg_executable() -> str:
    """The path of the ffmpeg binary that a wheel brings; raises `MachineFailed` where there is none."""
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise MachineFailed(f"ffmpeg is missing: {error}") from error


def encode(
    frames: Iterable[bytes | memoryview],
    pixels: str,
    size: tuple[int, int],
    fps: float,
    path: Path,
    options: Options,
    about: str | None = None,
) -> None:
    """Encode raw frames, one after the other, into `path`.

    pixels: ffmpeg's name of their format; size: width and height; about: what a message names, `path` by default.
    Raises `VideoError` where ffmpeg refuses the frames or the place, `MachineFailed` where it was killed or a disk is
    full.
    """
    name = about or str(path)
    source = ffmpeg.input(
        "pipe:", format="rawvideo", pix_fmt=pixels, s=f"{size[0]}x{size[1]}", framerate=str(Fraction(fps))
    )
    with video_errors(str(path), "cannot be written", "not transcodable"), replacing(path.absolute()) as partial:
        with tempfile.TemporaryFile() as words:
            stream = source.output(_TARGET, **options).global_args(*_QUIET).overwrite_output()
            command = stream.compile(cmd=ffmpeg_executable())
            code = _feed([f"file:{partial}" if word == _TARGET else word for word in command], frames, words.fileno())
            words.seek(0)
            said = words.read(1 << 16).decode(errors="replace").strip().splitlines()
        if code or not partial.stat().st_size:
            raise _failure(name, path, code, [line.replace(str(partial), str(path)) for line in said])


def _feed(command: list[str], frames: Iterable[bytes | memoryview], words: int) -> int:
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=words)
    except OSError as error:
        raise MachineFailed(f"ffmpeg cannot be run: {command[0]}: {error.strerror}") from error
    with process:
        assert process.stdin is not None
        try:
            with suppress(BrokenPipeError):
                for frame in frames:
                    process.stdin.write(frame)
                process.stdin.flush()
        except BaseException:
            process.kill()
            raise
        finally:
            with suppress(BrokenPipeError):
                process.stdin.close()
        return process.wait()


def _failure(name: str, path: Path, code: int, said: list[str]) -> Exception:
    last = said[-1] if said else f"it ended with status {code} and gave no reason"
    if code < 0:
        number = -code
        word = signal.Signals(number).name if number in signal.Signals._value2member_map_ else f"signal {number}"
        if word in _STOPPED_BY_ITSELF:
            return VideoError(f"ffmpeg crashed on {name} ({word})")
        return MachineFailed(f"ffmpeg was killed ({word}) while it wrote {path}: is memory short?")
    if code == _ENDED_FROM_OUTSIDE and not said:
        return MachineFailed(f"ffmpeg was ended from outside while it wrote {path}")
    for line in said:
        if found := _MACHINE.search(line):
            if found[0].startswith("Cannot allocate") and resource.getrlimit(resource.RLIMIT_AS)[0] != -1:
                return VideoError(f"{name} needs more memory than this process may take", "too large")
            return MachineFailed(f"{path} cannot be written: {found[0]} ({_free(path)})")
    return VideoError(f"ffmpeg failed on {name}: {last}")


def _free(path: Path) -> str:
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return "how much is free is not known"
    return f"{found.f_bavail * found.f_frsize / 1e6:.1f} MB are free there"
