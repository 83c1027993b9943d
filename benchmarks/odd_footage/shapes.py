"""Films that are stored otherwise than they are shown: in fields, turned, with other pixels; and odd sizes."""

from collections.abc import Iterator

import numpy as np

from .card import Card
from .odd import BT601, FFV1, H264, MPEG2, PRORES, VP8, VP9, Change, Odd, filmed, remade


def odd() -> Iterator[Odd]:
    """All of them."""
    yield from _fields()
    yield from _turned()
    yield from _pixels()
    yield from _sizes()


def _fields() -> Iterator[Odd]:
    """25 frames of two fields each: 50 pictures a second."""
    for name, codec in (
        ("tff.mp4", f"{H264} -x264-params tff=1"),
        ("bff.mp4", f"{H264} -x264-params bff=1"),
        ("tff.ts", f"{MPEG2} -flags +ildct+ilme"),
        ("bff.mpg", f"{MPEG2} -flags +ildct+ilme"),
        ("tff.mov", f"{PRORES} -flags +ildct"),
    ):
        top = name.startswith("tff")
        weave = f"tinterlace=mode=interleave_{'top' if top else 'bottom'},{BT601}:interl=1"
        pixels = "yuv422p10le" if codec.startswith(PRORES) else "yuv420p"
        filters = f"{weave},format={pixels},setfield={'tff' if top else 'bff'}"
        card = Card(f"interlaced/{name}", 160, 128, fps=50.0)
        what = f"interlaced, {'top' if top else 'bottom'} field first"
        yield Odd(card.name, what, filmed(f"{codec} -vf {filters} -r 25"), card=card)


def _turned() -> Iterator[Odd]:
    for turn in (90, 180, 270):
        for ending in ("mp4", "mov", "mkv"):
            turned = remade("-c copy", before=f"-display_rotation {turn}", change=_quarters(-turn // 90))
            yield Odd(f"turned/{turn}.{ending}", "to be turned, as telephones write it", turned)
    mirrored = remade("-c copy", before="-display_hflip", change=lambda frame: frame[:, ::-1])
    yield Odd("turned/mirrored.mp4", "to be mirrored, as front cameras write it", mirrored)


def _quarters(count: int) -> Change:
    return lambda frame: np.rot90(frame, count)


def _pixels() -> Iterator[Odd]:
    for name, ratio, size, codec in (
        ("wide.mp4", (2, 1), (80, 120), H264),
        ("wide.mkv", (2, 1), (80, 120), H264),
        ("wide.ts", (2, 1), (80, 120), H264),
        ("wide.webm", (2, 1), (80, 120), VP8),
        ("narrow.mp4", (1, 2), (320, 120), H264),
        ("pal.mpg", (12, 11), (176, 144), MPEG2),
        ("ntsc.mov", (10, 11), (176, 120), H264),
    ):
        card = Card(f"pixels/{name}", *size, stretch=ratio[0] / ratio[1])
        shown = filmed(f"{codec} -vf {BT601},setsar={ratio[0]}/{ratio[1]}")
        yield Odd(card.name, "pixels that are not square", shown, card=card)


def _sizes() -> Iterator[Odd]:
    rgb = f"{FFV1} -pix_fmt bgr0"
    for name, codec in (
        ("63x61.webm", VP9), ("63x61.mkv", rgb), ("161x121.mp4", f"{H264} -pix_fmt yuv444p"), ("4096x32.mp4", H264),
        ("32x4096.mp4", H264), ("120x214.mp4", H264), ("1920x1080.mp4", f"{H264} -preset ultrafast"),
    ):  # fmt: skip
        width, height = (int(part) for part in name.partition(".")[0].split("x"))
        card = Card(f"size/{name}", width, height, seconds=1.4, fps=15.0)
        yield Odd(card.name, "a size that encoders or people do not expect", filmed(codec), card=card)
    for width, height in ((1, 1), (2, 2), (16, 16)):
        name = f"size/{width}x{height}.mkv"
        yield Odd(name, "a few pixels", filmed(rgb, change=_tiny(width, height)), looks="unknown")


def _tiny(width: int, height: int) -> Change:
    """One colour for each size, which brightens as the card's band fills."""
    colour = {1: (200, 40, 40), 2: (40, 200, 40), 16: (40, 40, 200)}[width]
    return lambda frame: np.full((height, width, 3), np.array(colour) / 2 + frame[-3].mean() / 2).astype(np.uint8)
