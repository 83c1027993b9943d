"""Small files that would take much memory or time."""

import itertools
import struct
from collections.abc import Iterator

import numpy as np

from .card import Card
from .gifs import Frame, gif
from .odd import H264, MAIN, MJPEG, SMALL, Maker, Odd, filmed, spoiled, written

_DOTS = (Frame(np.zeros((1, 1), np.uint8), 4), Frame(np.full((1, 1), 255, np.uint8), 4))


def odd() -> Iterator[Odd]:
    """All of them; those of the second folder are ingested with small limits."""
    for name, what, (width, height, frames), refused, folder in (
        ("canvas", "3 KB: 100 frames of 16,000 by 16,000 pixels", (16_000, 16_000, 100), "pixels", MAIN),
        ("frames", "20,000 frames, where 2,000 may be", (16, 16, 20_000), "frames", SMALL),
        ("slow", "2,000 frames of 4,000 by 2,000 pixels, past the deadline", (4_000, 2_000, 2_000), "deadline", SMALL),
    ):
        bomb = written(gif(width, height, itertools.islice(itertools.cycle(_DOTS), frames)))
        yield Odd(f"limits/{name}.gif", what, bomb, 0, [refused], folder=folder)
    what = "JPEGs that claim 60,000 by 60,000 pixels"
    yield Odd("limits/claims.avi", what, _claiming(60_000), 0, ["pixels|not a video|truncated|damaged"])
    card = Card("limits/large.mp4", 4096, 2304, 1.2, fps=5.0)
    large = filmed(f"{H264} -preset ultrafast")
    yield Odd(card.name, "a frame of more pixels than may be", large, 0, ["pixels"], card=card, folder=SMALL)
    card = Card("limits/long.mkv", seconds=90.0, fps=2.0)
    yield Odd(card.name, "90 s, where 85 may be", filmed(), 0, ["seconds"], card=card, folder=SMALL)
    yield Odd("limits/usual.mp4", "a film within the same small limits", filmed(), folder=SMALL)


def _claiming(side: int) -> Maker:
    """A maker of JPEGs whose headers name another size than they have."""
    marker = b"\xff\xc0\x00\x11\x08"  # start of a baseline frame of three components, 8 bits each

    def change(data: bytes) -> bytes:
        first, *others = data.split(marker)
        return marker.join([first, *(struct.pack(">HH", side, side) + part[4:] for part in others)])

    return spoiled(change, filmed(MJPEG))
