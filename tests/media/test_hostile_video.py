"""Whatever a file holds, it ends as shots or as a `VideoError` with its reason, in bounded time and memory."""

import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from onestep.core.storage import MachineFailed
from onestep.data.shots import find_shots, windows_of
from onestep.media.errors import video_errors
from onestep.media.video import Framing, VideoError, probe, transcode
from tests.footage_files import ffmpeg

THRESHOLD = 27.0
FRAMING = Framing(12, 5, 32, 32, "crop", 12)
REASONS = {"not a video", "truncated", "not transcodable", "too large", "too long", "unknown colours", "transparent",
           "extreme aspect ratio"}  # fmt: skip
KINDS: dict[str, tuple[str, ...]] = {
    "a.mp4": (),
    "a.mkv": ("-metadata", "title=a title"),
    "a.webm": ("-c:v", "libvpx", "-cpu-used", "8"),
    "a.ts": (),
    "a.flv": (),
    "a.avi": (),
    "a.gif": (),
    "a.ogv": (),
    "a.mpg": ("-c:v", "mpeg2video", "-r", "25"),
    "a.wmv": (),
    "b.mkv": ("-c:v", "libx265", "-x265-params", "log-level=none:pools=1"),
    "b.mov": ("-c:v", "qtrle"),
}


@dataclass(frozen=True)
class Small:
    """Limits of a small machine."""

    pixels: int = 1 << 20
    frames: int = 1000
    seconds: float = 120.0


def outcome(path: Path, limits: Small = Small()) -> str:
    """What became of a file, cut as ingest does it: `clips`, `no shot`, or the reason of the refusal."""
    try:
        info, shots = find_shots(path, THRESHOLD, limits)
        windows = [window for shot in shots for window in windows_of(shot, shot.start_s, shot.end_s, 5 / 12, 2)][:3]
        targets = [path.with_name(f"out{number}.mp4") for number in range(len(windows))]
        transcode(path, info, windows, targets, FRAMING)
    except VideoError as error:
        assert error.reason in REASONS, error
        assert path.name in str(error)
        assert "\n" not in str(error)
        return error.reason
    return "clips" if windows else "no shot"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    folder = tmp_path_factory.mktemp("kinds")

    def make(name: str) -> bytes:
        if not (folder / name).exists():
            ffmpeg("-f", "lavfi", "-i", "testsrc2=d=2:s=32x32:r=12", *KINDS[name], folder / name)
        return (folder / name).read_bytes()

    return make


def mutated(whole: bytes, rng: random.Random) -> bytes:
    """A file with some bytes changed, a piece cut out, doubled, zeroed or moved, or its head replaced."""
    data = bytearray(whole)
    how = rng.choice(["flip", "flip", "head", "zero", "cut", "double", "swap", "numbers"])
    at = rng.randrange(len(data))
    length = rng.randrange(1, max(len(data) // 8, 2))
    if how == "flip":
        for _ in range(rng.choice([1, 4, 16, 64])):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif how == "head":
        for _ in range(8):
            data[rng.randrange(min(len(data), 512))] = rng.randrange(256)
    elif how == "zero":
        data[at : at + length] = bytes(len(data[at : at + length]))
    elif how == "cut":
        del data[at : at + length]
    elif how == "double":
        data[at:at] = data[at : at + length]
    elif how == "swap":
        other = rng.randrange(len(data))
        piece = data[at : at + 64]
        data[other : other + len(piece)] = piece
    else:
        for _ in range(4):
            place = rng.randrange(len(data))
            data[place : place + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\x80\0\0\0"])
    return bytes(data)


def fuzz(folder: Path, name: str, whole: bytes, seeds: range) -> dict[str, int]:
    found: dict[str, int] = {}
    for seed in seeds:
        path = folder / f"{seed}-{name}"
        path.write_bytes(mutated(whole, random.Random(f"{name} {seed}")))
        started = time.monotonic()
        became = outcome(path)
        assert time.monotonic() - started < 20, f"{path} took too long"
        found[became] = found.get(became, 0) + 1
        path.unlink()
    return found


@pytest.mark.parametrize("name", KINDS)
def test_a_mutated_file_ends_as_clips_or_is_refused(tmp_path: Path, made: Callable[[str], bytes], name: str) -> None:
    assert outcome(_written(tmp_path / name, made(name))) == "clips"
    found = fuzz(tmp_path, name, made(name), range(6))
    assert sum(found.values()) == 6


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_many_mutated_files_end_as_clips_or_are_refused(
    tmp_path: Path, made: Callable[[str], bytes], name: str
) -> None:
    found = fuzz(tmp_path, name, made(name), range(100, 400))
    assert len(found) > 1, found


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.flv"])
def test_a_title_that_is_not_utf8_is_no_reason(tmp_path: Path, name: str) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=d=2:s=32x32:r=12", "-metadata", "title=Caf..", tmp_path / name)
    content = (tmp_path / name).read_bytes()
    path = _written(tmp_path / f"latin-{name}", content.replace(b"Caf..", b"Caf\xe9\xff"))
    assert outcome(path) == "clips"


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 4096, b"GIF89a", b"RIFF", b"FLV\x01", b"OggS", b"\x1aE\xdf\xa3", bytes(range(256)) * 9]
)
def test_what_is_no_video_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    assert outcome(_written(tmp_path / "a.mp4", content)) in ("not a video", "truncated")


@pytest.mark.parametrize(
    ("raised", "becomes", "reason"),
    [
        (AttributeError("'NoneType' object has no attribute 'width'"), VideoError, "not a video"),
        (AssertionError(), VideoError, "not a video"),
        (ZeroDivisionError("division by zero"), VideoError, "not a video"),
        (OverflowError("too big"), VideoError, "not a video"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), VideoError, "not a video"),
        (MemoryError(), VideoError, "too large"),
        (PermissionError(13, "Permission denied"), VideoError, "not a video"),
        (OSError(28, "No space left on device"), MachineFailed, None),
        (OSError(5, "Input/output error"), MachineFailed, None),
        (OSError(24, "Too many open files"), MachineFailed, None),
        (VideoError("a.mp4 is long", "too long"), VideoError, "too long"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_whatever_a_library_raises_becomes_the_files_or_the_machines_fault(
    raised: BaseException, becomes: type[BaseException], reason: str | None
) -> None:
    with pytest.raises(becomes) as caught, video_errors("a.mp4"):
        raise raised
    assert getattr(caught.value, "reason", None) == reason


def gif(path: Path, width: int, height: int, frames: int) -> None:
    """A GIF of one-pixel frames on a screen of any size: five bytes of a picture each."""
    frame = b"!\xf9\x04\x04\x04\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0"
    head = b"GIF89a" + width.to_bytes(2, "little") + height.to_bytes(2, "little") + b"\x80\0\0\0\0\0\xff\xff\xff"
    path.write_bytes(head + frame * frames + b";")


def test_a_gif_of_enormous_frames_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    gif(tmp_path / "a.gif", 16000, 16000, 3)
    code = (
        "import re, sys\nfrom pathlib import Path\nfrom tests.media.test_hostile_video import outcome\n"
        "print(outcome(Path(sys.argv[1])))\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"  # ru_maxrss counts the parent's
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.gif"], capture_output=True, text=True, check=True)
    reason, peak_kb = done.stdout.split("\n")[:2]
    assert reason == "too large"
    assert int(peak_kb) < 600_000


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts", "a.flv", "a.webm"])
def test_large_frames_are_refused_with_the_limit(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    codec = ("-c:v", "libvpx", "-cpu-used", "8") if name.endswith("webm") else ("-c:v", "mpeg4")
    ffmpeg("-f", "lavfi", "-i", "color=s=1200x1000:d=0.2:r=12", *(() if name == "a.flv" else codec), path)
    with pytest.raises(VideoError, match=rf"{name}: a frame of 1200x1000 .*limits\.pixels allows 1048576") as caught:
        find_shots(path, THRESHOLD, Small())
    assert caught.value.reason == "too large"


def test_the_largest_limit_on_pixels_takes_films(tmp_path: Path, made: Callable[[str], bytes]) -> None:
    (tmp_path / "a.mp4").write_bytes(made("a.mp4"))
    assert outcome(tmp_path / "a.mp4", Small(pixels=1 << 32)) == "clips"


def test_frames_that_grow_beyond_the_limit_are_refused(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=d=1:s=64x64:r=12", "-c:v", "mpeg2video", "-r", "25", tmp_path / "small.ts")
    ffmpeg("-f", "lavfi", "-i", "color=s=1200x1000:d=1:r=12", "-c:v", "mpeg2video", "-r", "25", tmp_path / "large.ts")
    path = _written(tmp_path / "a.ts", (tmp_path / "small.ts").read_bytes() + (tmp_path / "large.ts").read_bytes())
    assert outcome(path) in ("too large", "truncated")


def test_too_many_frames_or_seconds_are_refused_with_the_limit(tmp_path: Path) -> None:
    gif(tmp_path / "many.gif", 8, 8, 1500)
    with pytest.raises(
        VideoError, match=r"many\.gif has 1[0-9]+ frames or more, and limits\.frames allows 1000"
    ) as caught:
        find_shots(tmp_path / "many.gif", THRESHOLD, Small())
    assert caught.value.reason == "too long"
    for name in ("a.mkv", "a.mp4", "a.ts"):
        ffmpeg("-f", "lavfi", "-i", "color=s=32x32:d=200:r=1", tmp_path / name)
        with pytest.raises(VideoError, match=r"limits\.seconds allows 120") as caught:
            find_shots(tmp_path / name, THRESHOLD, Small())
        assert caught.value.reason == "too long"


def test_declared_length_is_refused_before_anything_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ffmpeg("-f", "lavfi", "-i", "color=s=32x32:d=200:r=12", tmp_path / "a.mp4")
    monkeypatch.setattr("onestep.media.decoding.Pictures.__iter__", lambda _self: pytest.fail("it was decoded"))
    with pytest.raises(VideoError, match=r"has 2400 frames or more"):
        find_shots(tmp_path / "a.mp4", THRESHOLD, Small())


def test_the_time_for_a_long_file_grows_with_its_length(tmp_path: Path) -> None:
    """Twenty thousand frames, cut at many places: each is decoded at most twice."""
    limits = Small(frames=100_000, seconds=100_000.0)
    seconds = []
    for frames in (2_000, 20_000):
        gif(tmp_path / f"{frames}.gif", 16, 16, frames)
        started = time.process_time()
        info, shots = find_shots(tmp_path / f"{frames}.gif", THRESHOLD, limits)
        assert info.frames == frames
        windows = [window for shot in shots for window in windows_of(shot, shot.start_s, shot.end_s, 0.5, 1_000_000)]
        assert len(windows) > frames / 20
        seconds.append(time.process_time() - started)
    assert seconds[1] < 30 * seconds[0]


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=d=30:s=640x480:r=30", "-c:v", "mpeg4", "-q:v", "20", tmp_path / "a.avi")
    find_shots(tmp_path / "a.avi", THRESHOLD)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    find_shots(tmp_path / "a.avi", THRESHOLD)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_file_that_shrank_after_it_was_looked_at_is_refused(tmp_path: Path, made: Callable[[str], bytes]) -> None:
    path = _written(tmp_path / "a.ts", made("a.ts"))
    info = probe(path)
    _written(path, made("a.ts")[: len(made("a.ts")) // 3])
    with pytest.raises(VideoError, match=r"a\.ts shows no frame"):
        transcode(path, info, [(1.5, 1.9)], [tmp_path / "o.mp4"], FRAMING)
    assert not (tmp_path / "o.mp4").exists()
    assert np.isfinite(info.duration_s)
