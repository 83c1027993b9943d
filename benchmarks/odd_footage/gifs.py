"""GIFs: usual ones by ffmpeg, odd ones by the byte."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .broken import kept
from .card import Card
from .odd import Maker, Odd, filmed, spoiled

_CODE_BITS = 8  # every pixel is a code of 9 bits: the table of LZW is cleared before it grows further


@dataclass(frozen=True)
class Frame:
    """A part of a GIF's canvas from its corner, and for how long it is shown."""

    indices: np.ndarray  # [H, W] uint8, into the frame's palette or the file's grey one
    delay: int  # hundredths of a second
    palette: bytes = b""  # 256 RGB

    @classmethod
    def of(cls, picture: np.ndarray, delay: int) -> "Frame":
        """A frame of RGB of at most 256 colours, `[H, W, 3]` uint8."""
        colours, indices = np.unique(picture.reshape(-1, 3), axis=0, return_inverse=True)
        return cls(indices.reshape(picture.shape[:2]).astype(np.uint8), delay, colours.tobytes().ljust(768, b"\0"))

    @property
    def block(self) -> bytes:
        """Its bytes in the file."""
        height, width = self.indices.shape
        control = struct.pack("<BBBBHBB", 0x21, 0xF9, 4, 4, self.delay, 0, 0)
        place = struct.pack("<BHHHHB", 0x2C, 0, 0, width, height, 0x87 if self.palette else 0)
        return control + place + self.palette + _compressed(self.indices.ravel().tolist())


def gif(width: int, height: int, frames: Iterable[Frame]) -> bytes:
    """A GIF with a canvas of this size."""
    grey = np.arange(256, dtype=np.uint8).repeat(3).tobytes()
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF7, 0, 0) + grey
    return head + b"".join(frame.block for frame in frames) + b"\x3b"


def _compressed(indices: list[int]) -> bytes:
    """LZW that clears its table before its codes grow: 9 bits for each pixel."""
    clear, end = 1 << _CODE_BITS, (1 << _CODE_BITS) + 1
    codes = [clear]
    for count, index in enumerate(indices, start=1):
        codes.append(index)
        if count % 200 == 0:
            codes.append(clear)
    value, bits, raw = 0, 0, bytearray()
    for code in [*codes, end]:
        value |= code << bits
        bits += _CODE_BITS + 1
        while bits >= 8:
            raw.append(value & 255)
            value >>= 8
            bits -= 8
    raw.append(value & 255)
    parts = [raw[at : at + 255] for at in range(0, len(raw), 255)]
    return bytes([_CODE_BITS]) + b"".join(bytes([len(part)]) + bytes(part) for part in parts) + b"\0"


def odd() -> Iterator[Odd]:
    """All of them."""
    usual = filmed('-filter_complex "split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=none"')
    for name, fps, what in (
        ("usual", 10.0, "a GIF"),
        ("fast", 50.0, "2 hundredths of a second for a frame"),
        ("slow", 3.0, "a third of a second for a frame"),
    ):
        card = Card(f"gif/{name}.gif", seconds=3.0, fps=fps)
        yield Odd(card.name, what, usual, card=card, looks="right" if fps > 5 else "colours")
    for name, delays, shown, seconds, what in (
        ("delays", (3, 7, 20, 4, 11), (3, 7, 20, 4, 11), 3.0, "delays of 3, 7, 20, 4 and 11 hundredths in turn"),
        ("no-delay", (0,), (10,), 2.0, "no delays: browsers and ffmpeg take a tenth of a second"),
    ):
        card = Card(f"gif/{name}.gif", 64, 48, seconds)
        yield Odd(card.name, what, _timed(delays, shown), card=card)
    card = Card("gif/one-frame.gif", 64, 48, seconds=0.1)
    yield Odd(card.name, "animated, of one frame", _timed((10,), (10,)), 0, ["too short"], card=card)
    yield Odd("gif/truncated.gif", "lacks its last 40 %", spoiled(kept(0.6), usual), 0, ["truncated|damaged"])


def _timed(delays: tuple[int, ...], shown: tuple[int, ...]) -> Maker:
    """A maker of a GIF with these delays in turn, in hundredths of a second, and for how long each frame is shown."""

    def make(path: Path, card: Card) -> None:
        time, frames = 0, []
        while time < round(card.seconds * 100):
            turn = len(frames) % len(delays)
            frames.append(Frame.of(card.frame(time / 100), delays[turn]))
            time += shown[turn]
        path.write_bytes(gif(card.width, card.height, frames))

    return make
