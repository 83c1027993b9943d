"""Whole files of every container are whole, cut ones are not, and a clip shows exactly the frames of its window."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from onestep.data.shots import find_shots
from onestep.media import film
from onestep.media.decoding import Pictures, opened
from onestep.media.film import Film
from onestep.media.video import Framing, VideoError, decode, ffmpeg_executable, probe, transcode
from tests.footage_files import ffmpeg

THRESHOLD = 27.0
PICTURES = ("-f", "lavfi", "-i", "testsrc2=d=4:s=64x64:r=12")
SOUND = ("-f", "lavfi", "-i", "sine=d=4.4")
BOTH = (*PICTURES, *SOUND)
MPEG2 = ("-c:v", "mpeg2video", "-r", "25", "-b:v", "2M")
OPEN_GOP = ("-g", "20", "-x264-params", "open-gop=1:bframes=4")
UNEVEN = ("-vf", "setpts='(N+0.5*mod(N*7,5)/5)/12/TB'", "-fps_mode", "vfr")

WHOLE: dict[str, tuple[tuple[str, ...], int]] = {
    "longer-sound.mkv": (BOTH, 48),
    "longer-sound.webm": ((*BOTH, "-c:v", "libvpx-vp9", "-cpu-used", "8"), 48),
    "longer-sound.ts": (BOTH, 48),
    "longer-sound.flv": (BOTH, 48),
    "longer-sound.avi": (BOTH, 48),
    "longer-sound.mov": (BOTH, 48),
    "longer-sound.wmv": (BOTH, 48),
    "longer-sound.ogv": (BOTH, 48),
    "longer-sound.mpg": ((*BOTH, *MPEG2), 100),
    "shorter-sound.mkv": ((*PICTURES, "-f", "lavfi", "-i", "sine=d=2"), 48),
    "uneven.mkv": ((*PICTURES, *UNEVEN), 48),
    "uneven.webm": ((*PICTURES, *UNEVEN, "-c:v", "libvpx", "-cpu-used", "8"), 48),
    "uneven.gif": ((*PICTURES, "-vf", "setpts=(N+1)*(N+4)/100/TB", "-fps_mode", "vfr"), 48),
    "fragments.mp4": ((*BOTH, "-movflags", "frag_keyframe+empty_moov", "-g", "12"), 48),
    "faststart.mp4": ((*BOTH, "-movflags", "+faststart"), 48),
    "live.mkv": ((*BOTH, "-f", "matroska", "-live", "1"), 48),
    "late.ts": ((*BOTH, "-output_ts_offset", "100"), 48),
    "late.mkv": ((*BOTH, "-output_ts_offset", "100"), 48),
    "ntsc.mp4": (("-f", "lavfi", "-i", "testsrc2=d=2:s=64x64:r=30000/1001"), 60),
    "ntsc-double.mkv": (("-f", "lavfi", "-i", "testsrc2=d=2:s=64x64:r=60000/1001"), 120),
    "packed.avi": ((*PICTURES, "-c:v", "mpeg4", "-bf", "2", "-mpv_flags", "+naq"), 48),
    "repeats.ogv": (("-f", "lavfi", "-i", "testsrc=d=4:s=64x64:r=12"), 48),
    "one.mp4": ((*PICTURES, "-frames:v", "1"), 1),
    "one.gif": ((*PICTURES, "-frames:v", "1"), 1),
    "open.ts": ((*PICTURES, *OPEN_GOP), 48),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_file_is_whole(tmp_path: Path, name: str) -> None:
    arguments, frames = WHOLE[name]
    ffmpeg(*arguments, tmp_path / name)
    info, shots = find_shots(tmp_path / name, THRESHOLD)
    assert info.frames == frames
    assert not info.truncated
    assert shots[-1].end_s == pytest.approx(info.duration_s)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
def test_a_file_cut_without_encoding_is_whole(tmp_path: Path, name: str) -> None:
    """An edit list, or a negative time stamp, hides the frames from the key frame to the cut."""
    ffmpeg(*BOTH, *OPEN_GOP, tmp_path / "all.mp4")
    ffmpeg("-ss", "2.3", "-i", tmp_path / "all.mp4", "-c", "copy", tmp_path / name)
    info, _ = find_shots(tmp_path / name, THRESHOLD)
    assert 20 <= info.frames < 48
    assert info.time_s(0) < 0.2


def test_a_stream_that_was_piped_into_a_file_is_whole(tmp_path: Path) -> None:
    """Its header was written before its length was known."""
    for kind, codec in (
        ("matroska", "libx264"),
        ("avi", "mpeg4"),
        ("flv", "flv"),
        ("asf", "wmv2"),
        ("mpegts", "libx264"),
    ):
        command = [ffmpeg_executable(), "-loglevel", "error", *PICTURES, "-c:v", codec, "-f", kind, "pipe:1"]
        path = tmp_path / f"piped.{kind}"
        path.write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
        assert find_shots(path, THRESHOLD)[0].frames == 48, kind


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize(
    "name",
    ["a.mp4", "fast.mp4", "fragments.mp4", "a.mov", "a.mkv", "a.webm", "a.avi", "a.flv", "a.wmv", "a.ogv", "a.gif"],
)
def test_a_file_that_was_cut_off_is_truncated(
    tmp_path: Path, made: Callable[[str], bytes], name: str, share: float
) -> None:
    whole = made(name)
    (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(VideoError, match=name) as caught:
        find_shots(tmp_path / name, THRESHOLD)
    assert caught.value.reason == "truncated"


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.ts", "a.mpg", "a.flv", "a.avi"])
@pytest.mark.parametrize("filling", [b"\0", b"\xa7"])
def test_a_file_with_a_hole_in_its_middle_is_damaged(tmp_path: Path, name: str, filling: bytes) -> None:
    codec = {"a.webm": ("-c:v", "libvpx-vp9", "-cpu-used", "8"), "a.mpg": MPEG2}.get(name, ("-g", "10"))
    ffmpeg(*PICTURES, *codec, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    assert not probe(tmp_path / name).truncated
    first, length = len(whole) * 45 // 100, len(whole) // 10
    (tmp_path / name).write_bytes(whole[:first] + filling * length + whole[first + length :])
    with pytest.raises(VideoError, match=r"damaged|decoded|not there") as refused:
        find_shots(tmp_path / name, THRESHOLD)
    assert refused.value.reason == "truncated"


@pytest.mark.parametrize("name", ["a.ts", "a.mpg"])
def test_a_transport_stream_that_just_ends_is_whole(tmp_path: Path, made: Callable[[str], bytes], name: str) -> None:
    whole = made(name)
    (tmp_path / name).write_bytes(whole[: int(len(whole) * 0.6)])
    assert find_shots(tmp_path / name, THRESHOLD)[0].frames > 10


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """The bytes of a file of four seconds, encoded once."""
    folder = tmp_path_factory.mktemp("made")
    options: dict[str, tuple[str, ...]] = {
        "fast.mp4": ("-movflags", "+faststart", "-shortest"),
        "fragments.mp4": ("-movflags", "frag_keyframe+empty_moov", "-g", "12", "-shortest"),
        "a.webm": ("-c:v", "libvpx", "-cpu-used", "8"),
        "a.mpg": MPEG2,
    }

    def make(name: str) -> bytes:
        if not (folder / name).exists():
            ffmpeg(*(PICTURES if name.endswith("gif") else BOTH), *options.get(name, ()), folder / name)
        return (folder / name).read_bytes()

    return make


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("long-gop.ts", ("-g", "50")),
        ("default-gop.ts", ()),
        ("long-gop.mpg", ("-c:v", "mpeg2video", "-b:v", "2M", "-g", "50")),
        ("default-gop.mpg", ("-c:v", "mpeg2video", "-b:v", "2M")),
        ("open-gop.ts", OPEN_GOP),
        ("open-gop.mp4", OPEN_GOP),
        ("refresh.ts", ("-x264-params", "intra-refresh=1:keyint=25")),
        ("mpeg4.avi", ("-c:v", "mpeg4", "-bf", "2", "-g", "30")),
        ("vp9.webm", ("-c:v", "libvpx-vp9", "-cpu-used", "8", "-g", "30")),
        ("theora.ogv", ("-g", "30")),
        ("flash.flv", ("-g", "30")),
        ("windows.wmv", ("-g", "30")),
        ("turns.gif", ()),
        ("fields.ts", ("-c:v", "mpeg2video", "-g", "15", "-bf", "2")),
    ],
)
def test_frames_by_number_are_those_of_one_decoding(
    tmp_path: Path, name: str, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(film, "_WORTH_A_SEEK", 10)
    path = tmp_path / name
    ffmpeg("-f", "lavfi", "-i", "testsrc2=d=8:s=64x64:r=25", *options, path)
    info, _ = find_shots(path, THRESHOLD)
    with opened(path) as (container, stream):
        whole = [frame.to_ndarray() for frame in Pictures(container, stream)]
    assert len(whole) == info.frames
    with Film(path, info) as frames:
        for first in (180, 3, 60, 62, 130, 131, 101):
            for number, frame in zip(range(first, first + 4), frames.frames(range(first, first + 4)), strict=True):
                assert np.array_equal(frame.to_ndarray(), whole[number]), (first, number)


@pytest.mark.parametrize("name", ["a.ts", "a.mpg", "a.mkv"])
def test_a_window_late_in_a_long_group_of_pictures_gives_its_clip(tmp_path: Path, name: str) -> None:
    codec = ("-c:v", "mpeg2video", "-b:v", "4M") if name.endswith("mpg") else ()
    ffmpeg("-f", "lavfi", "-i", "testsrc2=d=8:s=64x64:r=25", *codec, "-g", "50", tmp_path / name)
    info = probe(tmp_path / name)
    whole = decode(tmp_path / name).astype(int)
    starts = [info.time_s(number) for number in (45, 99, 160)]
    targets = [tmp_path / f"{number}.mp4" for number in range(3)]
    transcode(tmp_path / name, info, [(at, at + 13 / 25) for at in starts], targets, Framing(25, 13, 64, 64, "crop", 1))
    for number, target in zip((45, 99, 160), targets, strict=True):
        clip = decode(target).astype(int)
        assert len(clip) == 13
        for at in (0, 6, 12):
            errors = [abs(clip[at] - other).mean() for other in whole]
            assert int(np.argmin(errors)) == number + at


def test_a_file_is_decoded_once_for_all_its_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No matter how many: a GIF has no key frames to seek."""
    path = tmp_path / "long.gif"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=d=40:s=32x32:r=25", path)
    info = probe(path)
    opens: list[Path] = []
    monkeypatch.setattr(film, "opened", lambda *given, **more: opens.append(path) or opened(*given, **more))
    windows = [(info.time_s(first), info.time_s(first) + 0.2) for first in range(0, 960, 24)]
    targets = [tmp_path / f"{number}.mp4" for number in range(len(windows))]
    transcode(path, info, windows, targets, Framing(25, 5, 32, 32, "crop", 12))
    assert len(opens) == 1
    assert all(target.stat().st_size for target in targets)


@pytest.mark.parametrize("name", ["cover.mkv", "cover.mp4", "cover.mov", "cover.avi", "flagged.mp4"])
def test_a_cover_picture_is_not_the_film(tmp_path: Path, name: str) -> None:
    ffmpeg("-f", "lavfi", "-i", "color=red:s=200x200", "-frames:v", "1", tmp_path / "cover.jpg")
    ffmpeg(*BOTH, "-bf", "0", tmp_path / "film.mp4")  # AVI has no place for the order of others
    flag = ("-disposition:v:0", "attached_pic") if name.startswith("flagged") else ()
    inputs = ("-i", tmp_path / "cover.jpg", "-i", tmp_path / "film.mp4", "-map", "0:v", "-map", "1:v", "-map", "1:a")
    ffmpeg(*inputs, "-c", "copy", *flag, tmp_path / name)
    info, _ = find_shots(tmp_path / name, THRESHOLD)
    assert (info.frames, info.width) == (48, 64)
    target = tmp_path / "out.mp4"
    start_s = info.time_s(12)
    transcode(tmp_path / name, info, [(start_s, start_s + 1)], [target], Framing(12, 12, 64, 64, "crop", 1))
    expected = decode(tmp_path / "film.mp4")[12:24].astype(int)
    assert abs(decode(target).astype(int) - expected).mean() < 4


def test_a_sound_file_with_a_cover_is_no_video(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "color=red:s=200x200", "-frames:v", "1", tmp_path / "cover.jpg")
    ffmpeg(*SOUND, "-i", tmp_path / "cover.jpg", "-map", "1:v", "-map", "0:a", "-c:v", "copy",
           "-disposition:v:0", "attached_pic", tmp_path / "song.mp4")  # fmt: skip
    with pytest.raises(VideoError, match="cover picture") as caught:
        find_shots(tmp_path / "song.mp4", THRESHOLD)
    assert caught.value.reason == "not a video"


def test_of_two_tracks_the_default_one_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64:d=4:r=12", *PICTURES, "-map", "0:v", "-map", "1:v",
           "-disposition:v:0", "0", "-disposition:v:1", "default", path)  # fmt: skip
    info = probe(path)
    transcode(path, info, [(0.0, 0.5)], [tmp_path / "out.mp4"], Framing(12, 6, 64, 64, "crop", 1))
    assert decode(tmp_path / "out.mp4").std() > 30


def test_recordings_joined_into_one_file_are_shots_of_their_own(tmp_path: Path) -> None:
    ffmpeg(*PICTURES, tmp_path / "one.ts")
    one = (tmp_path / "one.ts").read_bytes()
    (tmp_path / "joined.ts").write_bytes(one + one)
    info, shots = find_shots(tmp_path / "joined.ts", THRESHOLD)
    assert info.frames == 96
    assert [len(shot.times_s) for shot in shots] == [48, 48]
    assert info.duration_s == pytest.approx(8.0, abs=0.1)


def test_where_a_file_changes_its_size_a_shot_begins(tmp_path: Path) -> None:
    ffmpeg(*PICTURES, tmp_path / "small.ts")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=d=4:s=128x96:r=12", "-output_ts_offset", "4", tmp_path / "large.ts")
    path = tmp_path / "joined.ts"
    path.write_bytes((tmp_path / "small.ts").read_bytes() + (tmp_path / "large.ts").read_bytes())
    info, shots = find_shots(path, THRESHOLD)
    assert len(shots) == 2
    targets = [tmp_path / "0.mp4", tmp_path / "1.mp4"]
    windows = [(shot.start_s + 0.5, shot.start_s + 1.5) for shot in shots]
    transcode(path, info, windows, targets, Framing(12, 12, 64, 64, "crop", 12))
    for target in targets:
        assert decode(target).shape == (12, 64, 64, 3)


@pytest.mark.parametrize("turn", [("90",), ("-90",), ("180",), ("90", "-display_hflip"), ("0", "-display_vflip")])
def test_a_phones_film_is_brought_upright_as_players_show_it(tmp_path: Path, turn: tuple[str, ...]) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=d=1:s=96x64:r=12", tmp_path / "flat.mp4")
    path = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", *turn, "-i", tmp_path / "flat.mp4", "-c", "copy", path)
    ffmpeg("-i", path, "-c:v", "ffv1", tmp_path / "shown.mkv")
    shown = decode(tmp_path / "shown.mkv")[0].astype(int)
    height, width = shown.shape[:2]
    transcode(path, probe(path), [(0.0, 0.5)], [tmp_path / "out.mp4"], Framing(12, 6, height, width, "crop", 1))
    assert abs(decode(tmp_path / "out.mp4")[0].astype(int) - shown).mean() < 4


def test_other_turns_are_refused_by_name(tmp_path: Path) -> None:
    ffmpeg(*PICTURES, tmp_path / "flat.mp4")
    ffmpeg("-display_rotation", "30", "-i", tmp_path / "flat.mp4", "-c", "copy", tmp_path / "a.mp4")
    with pytest.raises(VideoError, match="quarters"):
        transcode(tmp_path / "a.mp4", probe(tmp_path / "a.mp4"), [(0, 1)], [tmp_path / "o.mp4"], FRAMING)
    assert not (tmp_path / "o.mp4").exists()


def test_pixels_that_are_not_square_are_stretched(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=d=1:s=64x64:r=12", "-vf", "setsar=2/1", tmp_path / "a.mkv")
    transcode(tmp_path / "a.mkv", probe(tmp_path / "a.mkv"), [(0, 1)], [tmp_path / "o.mp4"], PADDED)
    clip = decode(tmp_path / "o.mp4")[0]
    assert clip[:14].max() < 12 and clip[50:].max() < 12
    assert clip[20:44].std() > 30


FRAMING = Framing(12, 12, 64, 64, "crop", 12)
PADDED = Framing(12, 12, 64, 64, "pad", 12)


@pytest.mark.parametrize(
    ("framing", "size", "most"), [(PADDED, "4096x32", "32"), (PADDED, "32x4096", "32"), (FRAMING, "4096x8", "256")]
)
def test_a_picture_too_long_for_the_clip_is_refused_with_the_limit(
    tmp_path: Path, framing: Framing, size: str, most: str
) -> None:
    ffmpeg("-f", "lavfi", "-i", f"testsrc2=d=1:s={size}:r=12", "-c:v", "ffv1", tmp_path / "a.mkv")
    with pytest.raises(VideoError, match=rf"a\.mkv: its picture of {size} .* {most} times") as caught:
        transcode(tmp_path / "a.mkv", probe(tmp_path / "a.mkv"), [(0, 1)], [tmp_path / "o.mp4"], framing)
    assert caught.value.reason == "extreme aspect ratio"
    assert not (tmp_path / "o.mp4").exists()


def test_the_longest_picture_that_a_clip_can_hold_is_taken(tmp_path: Path) -> None:
    for framing, size in ((PADDED, "2048x64"), (PADDED, "64x2048"), (FRAMING, "2048x8")):
        ffmpeg("-f", "lavfi", "-i", f"testsrc2=d=1:s={size}:r=12", "-c:v", "ffv1", tmp_path / "a.mkv")
        transcode(tmp_path / "a.mkv", probe(tmp_path / "a.mkv"), [(0, 1)], [tmp_path / "o.mp4"], framing)
        assert decode(tmp_path / "o.mp4").shape == (12, 64, 64, 3)
