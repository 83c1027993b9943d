"""A known colour in, the right colour out, for every way of storing colours that docs/your-own-footage.md states."""

from pathlib import Path

import numpy as np
import pytest

from onestep.media.video import Framing, VideoError, decode, probe, transcode
from tests.footage_files import PATCHES, SIDE, TO_2020, ffmpeg, hdr, patches_of, quadrants, write_raw, ycbcr

RGB = PATCHES / 255
LOSSLESS = ("-c:v", "libx264", "-qp", "0")


def clip_of(path: Path, side: int = SIDE) -> np.ndarray:
    """Frames of a clip of five that is cut from the file's start."""
    out = path.with_name("out.mp4")
    transcode(path, probe(path), [(0.0, 5 / 12)], [out], Framing(12, 5, side, side, "crop", 1))
    return decode(out)


def error_of(path: Path, expected: np.ndarray = PATCHES) -> float:
    return float(abs(patches_of(clip_of(path)[2]) - expected).max())


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", ["bt709", "smpte170m", "bt470bg", "smpte240m", "fcc", "bt2020nc", "ycgco"])
def test_a_tagged_matrix_and_range_are_followed(tmp_path: Path, matrix: str, full: bool) -> None:
    tags = f"range={'pc' if full else 'tv'}:colorspace={matrix}"
    write_raw(tmp_path / "a.mp4", ycbcr(RGB, matrix, full), "yuv444p", tags, *LOSSLESS)
    assert error_of(tmp_path / "a.mp4") < 4


def test_a_jpeg_film_is_full_range(tmp_path: Path) -> None:
    write_raw(
        tmp_path / "a.avi", ycbcr(RGB, "smpte170m", True), "yuv444p", "range=pc:colorspace=smpte170m",
        "-c:v", "mjpeg", "-q:v", "1",
    )  # fmt: skip
    assert error_of(tmp_path / "a.avi") < 5


@pytest.mark.parametrize("bits", [10, 12])
def test_deep_colour_is_rounded(tmp_path: Path, bits: int) -> None:
    codes = ycbcr(RGB, "bt709", bits=bits)
    write_raw(tmp_path / "a.mkv", codes, f"yuv444p{bits}le", "range=tv:colorspace=bt709", "-c:v", "ffv1")
    assert error_of(tmp_path / "a.mkv") < 4


@pytest.mark.parametrize(("height", "matrix"), [(720, "bt709"), (480, "smpte170m")], ids=["HD", "SD"])
def test_untagged_video_is_bt709_from_720_lines_on(tmp_path: Path, height: int, matrix: str) -> None:
    codes = ycbcr(RGB[:1], matrix)[0]
    planes = np.concatenate([np.full(height * height, code) for code in codes]).astype(np.uint8)
    ffmpeg(
        "-f", "rawvideo", "-pix_fmt", "yuv444p", "-video_size", f"{height}x{height}", "-framerate", "12", "-i", "pipe:",
        *LOSSLESS, "-preset", "ultrafast", tmp_path / "a.mp4", stdin=planes.tobytes() * 5,
    )  # fmt: skip
    assert abs(clip_of(tmp_path / "a.mp4")[2].astype(int) - PATCHES[0]).max() < 4


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"], ids=["PQ", "HLG"])
def test_hdr_graphics_white_becomes_sdr_white_and_colours_below_stay(tmp_path: Path, transfer: str) -> None:
    codes = ycbcr(hdr(RGB, transfer), "bt2020nc", bits=10)
    tags = f"range=tv:colorspace=bt2020nc:color_primaries=bt2020:color_trc={transfer}"
    write_raw(tmp_path / "a.mp4", codes, "yuv444p10le", tags, "-pix_fmt", "yuv420p10le", *LOSSLESS)
    assert error_of(tmp_path / "a.mp4") < 6


def test_hdr_highlights_are_compressed_and_keep_their_order(tmp_path: Path) -> None:
    grays = np.array([100.0, 203.0, 500.0, 1000.0])[:, None] / 203
    codes = ycbcr(hdr(np.repeat(grays ** (1 / 2.4), 3, 1), "smpte2084"), "bt2020nc", bits=10)
    tags = "range=tv:colorspace=bt2020nc:color_primaries=bt2020:color_trc=smpte2084"
    write_raw(tmp_path / "a.mp4", codes, "yuv444p10le", tags, *LOSSLESS)
    found = patches_of(clip_of(tmp_path / "a.mp4")[2]).mean(axis=1)
    assert (np.diff(found) > 0).all()
    assert found[1] > 235 and found[3] > 250


def test_wide_primaries_of_sdr_are_brought_to_bt709(tmp_path: Path) -> None:
    wide = (RGB**2.4 @ TO_2020.T) ** (1 / 2.4)
    tags = "range=tv:colorspace=bt2020nc:color_primaries=bt2020:color_trc=bt2020-10"
    write_raw(tmp_path / "a.mp4", ycbcr(wide, "bt2020nc", bits=10), "yuv444p10le", tags, *LOSSLESS)
    assert error_of(tmp_path / "a.mp4") < 5


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.avi", ("-c:v", "rawvideo", "-pix_fmt", "bgr24")),
        ("a.mkv", ("-c:v", "ffv1", "-pix_fmt", "gbrp")),
        ("b.mkv", ("-c:v", "ffv1", "-pix_fmt", "gbrp10le")),
        ("a.mov", ("-c:v", "qtrle", "-pix_fmt", "rgb24")),
        ("a.mp4", ("-c:v", "libx264rgb", "-qp", "0")),
        ("b.mov", ("-c:v", "png", "-pix_fmt", "rgb24")),
        ("a.gif", ()),
    ],
)
def test_rgb_is_taken_as_it_is(tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    picture = quadrants(PATCHES)
    ffmpeg(
        "-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{SIDE}x{SIDE}", "-framerate", "12", "-i", "pipe:",
        *options, tmp_path / name, stdin=picture.tobytes() * 8,
    )  # fmt: skip
    assert error_of(tmp_path / name) < 4


@pytest.mark.parametrize(
    ("name", "pixels", "options"),
    [
        ("a.mov", "argb", ("-c:v", "qtrle")),
        ("b.mov", "yuva444p10le", ("-c:v", "prores_ks", "-profile:v", "4444")),
        ("a.mkv", "bgra", ("-c:v", "ffv1")),
        ("b.mkv", "yuva420p", ("-c:v", "ffv1")),
        ("c.mov", "rgba", ("-c:v", "png")),
    ],
)
def test_what_is_transparent_is_shown_on_black(
    tmp_path: Path, name: str, pixels: str, options: tuple[str, ...]
) -> None:
    alpha = np.array([255, 128, 0, 255])
    picture = quadrants(np.column_stack([PATCHES, alpha]).astype(np.uint8))
    ffmpeg(
        "-f", "rawvideo", "-pix_fmt", "rgba", "-video_size", f"{SIDE}x{SIDE}", "-framerate", "12", "-i", "pipe:",
        "-vf", "scale=out_color_matrix=bt601:flags=accurate_rnd+full_chroma_int", "-pix_fmt", pixels, *options,
        tmp_path / name, stdin=picture.tobytes() * 8,
    )  # fmt: skip
    assert error_of(tmp_path / name, PATCHES * (alpha / 255)[:, None]) < 6


def test_a_gif_with_holes_is_shown_on_black(tmp_path: Path) -> None:
    picture = quadrants(np.column_stack([PATCHES, [255, 255, 0, 255]]).astype(np.uint8))
    ffmpeg(
        "-f", "rawvideo", "-pix_fmt", "rgba", "-video_size", f"{SIDE}x{SIDE}", "-framerate", "12", "-i", "pipe:",
        "-vf", "split[a][b];[b]palettegen=reserve_transparent=1[p];[a][p]paletteuse", tmp_path / "a.gif",
        stdin=picture.tobytes() * 8,
    )  # fmt: skip
    assert error_of(tmp_path / "a.gif", PATCHES * np.array([1, 1, 0, 1])[:, None]) < 5


@pytest.mark.parametrize(
    ("name", "full", "options"),
    [
        ("a.mkv", True, ("-c:v", "ffv1")),
        ("a.mp4", False, ("-c:v", "libx264", "-qp", "0")),
        ("b.mp4", True, ("-c:v", "libx264", "-qp", "0")),
        ("a.avi", True, ("-c:v", "mjpeg", "-q:v", "1")),
    ],
)
def test_gray_follows_its_range(tmp_path: Path, name: str, full: bool, options: tuple[str, ...]) -> None:
    levels = np.array([20, 90, 160, 230])
    codes = levels if full else np.rint(levels / 255 * 219 + 16)
    pixels = quadrants(codes[:, None].astype(np.uint8))
    ffmpeg(
        "-f", "rawvideo", "-pix_fmt", "gray", "-video_size", f"{SIDE}x{SIDE}", "-framerate", "12", "-i", "pipe:",
        "-vf", f"setparams=range={'pc' if full else 'tv'}", "-pix_fmt", "gray", *options, tmp_path / name,
        stdin=pixels.tobytes() * 8,
    )  # fmt: skip
    assert error_of(tmp_path / name, np.repeat(levels[:, None], 3, 1)) < 5


@pytest.mark.parametrize("first", ["tff", "bff"])
def test_fields_are_made_whole_pictures(tmp_path: Path, first: str) -> None:
    """A bar that moves between two fields leaves a comb in the stored frames and none in the clip."""
    frames = np.full((24, SIDE, SIDE), 40, np.uint8)
    for field in range(48):
        rows = slice(field % 2 if first == "tff" else 1 - field % 2, None, 2)
        frames[field // 2, rows, field : field + 12] = 200
    chroma = np.full((24, SIDE * SIDE // 2), 128, np.uint8)
    data = np.concatenate([frames.reshape(24, -1), chroma], 1).tobytes()
    ffmpeg(
        "-f", "rawvideo", "-pix_fmt", "yuv420p", "-video_size", f"{SIDE}x{SIDE}", "-framerate", "25", "-i", "pipe:",
        "-vf", f"setfield={first}", "-c:v", "mpeg2video", "-q:v", "1", "-flags", "+ilme+ildct", tmp_path / "a.ts",
        stdin=data,
    )  # fmt: skip

    def comb(pictures: np.ndarray) -> float:
        lines = pictures.astype(float).mean(axis=3)[:, 8:-8]
        return float(abs(lines[:, 1:-1] - (lines[:, :-2] + lines[:, 2:]) / 2).mean())

    stored = decode(tmp_path / "a.ts")
    clip = clip_of(tmp_path / "a.ts")
    assert probe(tmp_path / "a.ts").deinterlace
    assert comb(stored[4:10]) > 3 * comb(clip)


@pytest.mark.parametrize(
    ("tags", "pixels", "options", "says"),
    [
        ("colorspace=gbr", "yuv420p", ("-c:v", "ffv1"), "tagged RGB"),
        ("color_trc=smpte428", "yuv444p", LOSSLESS, "transfer characteristics 17"),
        ("color_primaries=smpte428", "yuv444p", LOSSLESS, "primaries 10"),
        ("colorspace=ipt-c2", "yuv444p", LOSSLESS, "matrix 15"),
        ("colorspace=ictcp:color_trc=bt709", "yuv444p", LOSSLESS, "ICtCp"),
    ],
)
def test_colours_without_a_rule_are_refused_by_name(
    tmp_path: Path, tags: str, pixels: str, options: tuple[str, ...], says: str
) -> None:
    path = tmp_path / "a.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x64:r=12:d=1", "-vf", f"format={pixels},setparams={tags}", *options, path)
    with pytest.raises(VideoError, match=says) as caught:
        clip_of(path)
    assert caught.value.reason == "unknown colours"
    assert str(path) in str(caught.value)


def test_a_transparent_webm_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.webm"
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=s=64x64:r=12:d=1", "-vf", "format=yuva420p,geq=lum=lum(X\\,Y):a=128",
        "-c:v", "libvpx-vp9", path,
    )  # fmt: skip
    with pytest.raises(VideoError, match="transparency") as caught:
        clip_of(path)
    assert caught.value.reason == "transparent"
