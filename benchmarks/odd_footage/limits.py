"""Small files that would take much memory or time."""

import itertools
import struct
import zlib
from collections.abc import Iterator

import numpy as np

from .card import Card
from .gifs import Frame, gif
from .odd import MAIN, MJPEG, SMALL, Maker, Odd, filmed, spoiled, written

_DOTS = (Frame(np.zeros((1, 1), np.uint8), 4), Frame(np.full((1, 1), 255, np.uint8), 4))


def odd() -> Iterator[Odd]:
    """All of them; those of the second folder are ingested with other limits."""
    for name, what, (width, height, frames), refused, folder in (
        ("canvas", "3 KB: 100 frames of 16,000 by 16,000 pixels", (16_000, 16_000, 100), "too large.*pixels", MAIN),
        ("frames", "20,000 frames, where 2,000 may be", (16, 16, 20_000), "too long.*frames", SMALL),
        (
            "slow",
            "1,400 frames of 4,000 by 2,000 pixels",
            (4_000, 2_000, 1_400),
            "too long.*deadline",
            SMALL,
        ),
    ):
        bomb = written(gif(width, height, itertools.islice(itertools.cycle(_DOTS), frames)))
        yield Odd(f"limits/{name}.gif", what, bomb, 0, [refused], folder=folder)
    what = "PNGs that claim 16,000 by 16,000 pixels of 64 bits"
    yield Odd("limits/memory.mov", what, _png_claiming(16_000), 0, ["too large.*memory"], folder=SMALL)
    what = "JPEGs that claim 60,000 by 60,000 pixels"
    yield Odd("limits/claims.avi", what, _claiming(60_000), 0, ["pixels|not a video|truncated|damaged"])
    card = Card("limits/long.mkv", seconds=90.0, fps=2.0)
    yield Odd(card.name, "90 s, where 60 may be", filmed(), 0, ["too long.*seconds"], card=card, folder=SMALL)
    yield Odd("limits/usual.mp4", "a usual film", filmed(), folder=SMALL)


def _claiming(side: int) -> Maker:
    """A maker of JPEGs whose headers name another size than they have."""
    marker = b"\xff\xc0\x00\x11\x08"  # start of a baseline frame of three components, 8 bits each

    def change(data: bytes) -> bytes:
        first, *others = data.split(marker)
        return marker.join([first, *(struct.pack(">HH", side, side) + part[4:] for part in others)])

    return spoiled(change, filmed(MJPEG))


def _png_claiming(side: int) -> Maker:
    """A maker of PNGs of 64-bit RGBA whose headers name another size than they have."""

    def change(data: bytes) -> bytes:
        first, *others = data.split(b"IHDR")
        header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 16, 6, 0, 0, 0)
        return first + b"".join(header + struct.pack(">I", zlib.crc32(header)) + part[17:] for part in others)

    return spoiled(change, filmed("-c:v png -pix_fmt rgb24"))
