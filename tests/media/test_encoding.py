"""Whose fault it is when ffmpeg fails, and files whose names look like options or protocols."""

import errno
import os
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from onestep.core.storage import MachineFailed, StorageError
from onestep.media.video import Framing, VideoError, decode, probe, transcode, write_gif, write_video

FRAMES = np.full((5, 32, 32, 3), 90, dtype=np.uint8)
Write = Callable[[np.ndarray, Path, float], None]
WRITERS = pytest.mark.parametrize("write", [write_video, write_gif], ids=["mp4", "gif"])


@pytest.fixture
def ffmpeg_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a shell script in ffmpeg's place."""

    def does(script: str) -> None:
        fake = tmp_path / "ffmpeg"
        fake.write_text(f"#!/bin/sh\n{script}\n")
        fake.chmod(0o755)
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(fake))

    return does


@WRITERS
@pytest.mark.parametrize("name", ["KILL", "TERM", "INT", "HUP", "XCPU"])
def test_an_ffmpeg_that_was_killed_is_the_machines_fault(
    ffmpeg_does: Callable[[str], None], tmp_path: Path, write: Write, name: str
) -> None:
    if signal.getsignal(getattr(signal, f"SIG{name}")) is signal.SIG_IGN:
        pytest.skip("this process was started with the signal ignored, as by nohup, and so are its children")
    ffmpeg_does(f"cat > /dev/null; kill -{name} $$; sleep 5")
    with pytest.raises(MachineFailed, match=rf"SIG{name}.*clip\.out") as caught:
        write(FRAMES, tmp_path / "clip.out", 12)
    assert caught.value.exit_code == 75
    assert [path.name for path in tmp_path.iterdir()] == ["ffmpeg"]


@WRITERS
@pytest.mark.parametrize("name", ["SEGV", "ABRT", "FPE", "ILL", "BUS"])
def test_an_ffmpeg_that_crashed_is_the_videos_fault(
    ffmpeg_does: Callable[[str], None], tmp_path: Path, write: Write, name: str
) -> None:
    ffmpeg_does(f"ulimit -c 0; cat > /dev/null; kill -{name} $$; sleep 5")
    with pytest.raises(VideoError, match=f"crashed.*SIG{name}"):
        write(FRAMES, tmp_path / "clip.out", 12)


def test_an_ffmpeg_that_was_asked_to_end_says_255(ffmpeg_does: Callable[[str], None], tmp_path: Path) -> None:
    ffmpeg_does("cat > /dev/null; exit 255")
    with pytest.raises(MachineFailed, match="ended from outside"):
        write_video(FRAMES, tmp_path / "clip.mp4", 12)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM, errno.EFBIG, errno.EROFS])
def test_a_disk_or_memory_that_gave_out_is_the_machines_fault(
    ffmpeg_does: Callable[[str], None], tmp_path: Path, code: int
) -> None:
    ffmpeg_does(f"cat > /dev/null; echo 'Error writing trailer: {os.strerror(code)}' >&2; echo 'Error' >&2; exit 1")
    with pytest.raises(MachineFailed, match=rf"clip\.mp4 cannot be written: {os.strerror(code)} \(.* MB are free"):
        write_video(FRAMES, tmp_path / "clip.mp4", 12)


def test_another_failure_is_the_videos_and_names_the_last_line(
    ffmpeg_does: Callable[[str], None], tmp_path: Path
) -> None:
    ffmpeg_does("echo 'one thing' >&2; echo 'and another' >&2; exit 1")
    with pytest.raises(VideoError, match=r"clip\.mp4: and another"):
        write_video(FRAMES.repeat(200, 0), tmp_path / "clip.mp4", 12)


def test_an_ffmpeg_that_writes_nothing_and_says_nothing_is_noticed(
    ffmpeg_does: Callable[[str], None], tmp_path: Path
) -> None:
    ffmpeg_does("cat > /dev/null; exit 0")
    with pytest.raises(VideoError, match="gave no reason"):
        write_video(FRAMES, tmp_path / "clip.mp4", 12)
    assert not (tmp_path / "clip.mp4").exists()


def test_a_missing_ffmpeg_is_the_machines_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "gone"))
    with pytest.raises(MachineFailed, match=r"ffmpeg cannot be run: .*gone: No such file"):
        write_video(FRAMES, tmp_path / "clip.mp4", 12)


@pytest.mark.parametrize("content", [b"\x7fELFnothing", b"no program"])
def test_an_ffmpeg_that_is_no_program_is_the_machines_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    broken = tmp_path / "ffmpeg"
    broken.write_bytes(content)
    broken.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(broken))
    with pytest.raises(MachineFailed, match="ffmpeg cannot be run"):
        write_video(FRAMES, tmp_path / "clip.mp4", 12)


def test_a_killed_ffmpeg_while_cutting_is_not_the_footages_fault(
    ffmpeg_does: Callable[[str], None], tmp_path: Path
) -> None:
    write_video(FRAMES, tmp_path / "film.mp4", 12)
    info = probe(tmp_path / "film.mp4")
    ffmpeg_does("kill -KILL $$")
    with pytest.raises(MachineFailed, match=r"SIGKILL.*cut\.mp4"):
        transcode(tmp_path / "film.mp4", info, [(0, 5 / 12)], [tmp_path / "cut.mp4"], Framing(12, 5, 32, 32, "crop", 9))


@WRITERS
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path, write: Write) -> None:
    full = tmp_path / "full"
    full.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", full], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk can be mounted by root alone")
    try:
        noise = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), dtype=np.uint8)
        with pytest.raises(MachineFailed, match=r"clip\.out cannot be written: No space left"):
            write(noise, full / "clip.out", 12)
        assert list(full.iterdir()) == []
    finally:
        subprocess.run(["umount", full], check=True)


def test_a_video_that_fails_leaves_the_one_that_was_there(ffmpeg_does: Callable[[str], None], tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"the last one")
    ffmpeg_does("kill -KILL $$")
    with pytest.raises(MachineFailed):
        write_video(FRAMES, tmp_path / "clip.mp4", 12)
    assert (tmp_path / "clip.mp4").read_bytes() == b"the last one"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match=r"file/clip\.mp4 cannot be written: .*file: exists already"):
        write_video(FRAMES, tmp_path / "file" / "clip.mp4", 12)
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match=r"folder cannot be written: .*is a folder"):
        write_video(FRAMES, tmp_path / "folder", 12)


NAMES = [
    "-dash.mp4", "--help.mp4", "pipe:.mp4", "concat:a|b.mp4", "http:x.mp4", "100%.mp4", "%03d.mp4", "with space.mp4",
    "quo'te\".mp4", "new\nline.mp4", "[a];[b],c=d.mp4", "back\\slash.mp4", "ünïcode-電影.mp4", "latin-\udcff.mp4",
    "@.mp4", "~.mp4", "$HOME.mp4",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=[name.encode("unicode_escape").decode() for name in NAMES])
def test_a_name_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (Path(name), tmp_path / "there" / name):
        write_video(FRAMES, path, 12)
        assert len(decode(path)) == 5
        out = path.with_name(f"{name}.cut")
        transcode(path, probe(path), [(0.0, 5 / 12)], [out], Framing(12, 5, 32, 32, "crop", 12))
        assert len(decode(out)) == 5
        write_gif(FRAMES, path.with_name(f"{name}.gif"), 12)
    assert stat.S_IMODE(Path(name).stat().st_mode) == 0o644
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([name, f"{name}.cut", f"{name}.gif", "there"])


def test_a_write_that_is_interrupted_ends_its_ffmpeg(ffmpeg_does: Callable[[str], None], tmp_path: Path) -> None:
    ffmpeg_does(f"echo $$ > {tmp_path}/pid; exec sleep 60")

    def interrupted(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupted)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(KeyboardInterrupt):
            write_video(FRAMES.repeat(200, 0), tmp_path / "clip.mp4", 12)
    finally:
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert not (tmp_path / "clip.mp4").exists()
