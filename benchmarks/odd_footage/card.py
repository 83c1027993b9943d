"""The picture that every whole film of the odd footage shows, and whether a clip shows it right.

Four coloured quarters, other ones for each name, say whether colours and orientation are right; a white square in the
middle, whether its pixels are; a band along the bottom that fills every two seconds, whether the clip shows the time that
the index names. All of it lies in the square that `fit: crop` keeps.
"""

import colorsys
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

LAP_S = 2.0  # seconds in which the band fills
COLOUR_LEVELS = 26  # of 255 that a quarter may be off: 4:2:0 and a lossy codec move it by 10
SQUARE = 0.30  # side of the white square, as a share of the kept square
BAND = 0.10  # height of the band, the same
SHAPE_ERROR = 0.12  # of the square's width by its height
CLOCK_S = 0.1  # seconds that the clip's time may be off, a little more than a frame of it


@dataclass(frozen=True)
class Card:
    """A film of this picture: pixels as they are shown, `stretch` of them side by side for one that is stored."""

    name: str
    width: int = 160
    height: int = 120
    seconds: float = 2.0
    fps: float = 25.0
    stretch: float = 1.0  # the sample aspect ratio
    drifts: bool = False  # whether the colours change over the film, so that its parts are no duplicates
    cuts: bool = False  # whether its second half is another shot

    def palette(self, time_s: float) -> np.ndarray:
        """The quarters' RGB, top left, top right, bottom left, bottom right: `[4, 3]`."""
        first, last = _palette(self.name), _palette(self.name + " at the end")
        share = (
            min(time_s / self.seconds, 1.0) if self.drifts else float(self.cuts and time_s > self.seconds / 2 - 1e-6)
        )
        return (1 - share) * first + share * last

    def frame(self, time_s: float) -> np.ndarray:
        """`[H, W, 3]` uint8 RGB, as it is stored."""
        side = min(self.width * self.stretch, self.height)
        x = ((np.arange(self.width) + 0.5) - self.width / 2) * self.stretch / side
        y = ((np.arange(self.height) + 0.5) - self.height / 2) / side
        colours = self.palette(time_s).round().astype(np.uint8)
        picture = colours[2 * (y > 0)[:, None] + (x > 0)]
        picture[np.ix_(abs(y) < SQUARE / 2, abs(x) < SQUARE / 2)] = 235
        filled = (time_s / LAP_S) % 1.0
        picture[(y > 0.5 - BAND) & (y < 0.5)] = np.where(x < filled - 0.5, 235, 16).astype(np.uint8)[:, None]
        return picture

    def frames(self) -> Iterator[np.ndarray]:
        """All of its frames at its rate."""
        return (self.frame(index / self.fps) for index in range(round(self.seconds * self.fps)))


def _palette(name: str) -> np.ndarray:
    rng = np.random.default_rng(list(os.fsencode(name)))
    hues = (rng.permutation(4) / 4 + rng.uniform(0, 0.2)) % 1.0
    colours = [colorsys.hsv_to_rgb(hue, rng.uniform(0.35, 0.65), rng.uniform(0.45, 0.8)) for hue in hues]
    return np.array(colours) * 255


def faults(clip: np.ndarray, card: Card, start_s: float, fps: float, looks: str, shift_s: float | None) -> list[str]:
    """What a square clip `[T, S, S, 3]` uint8 RGB shows otherwise than its card: empty where it shows it right.

    start_s: the card's time at the clip's start, less `shift_s`; where that is None only the band's speed is known.
    looks: right | grey | hole (black where the card is white) | colours (they alone).
    """
    side = clip.shape[1]
    found: list[str] = []
    middle = start_s + (shift_s or 0.0) + len(clip) / fps / 2
    wanted = card.palette(middle)
    if looks == "grey":
        wanted = np.repeat(wanted @ np.array([[0.299], [0.587], [0.114]]), 3, axis=1)
    low, high, reach = round(0.19 * side), round(0.81 * side), max(side // 16, 1)
    for number, (y, x) in enumerate([(low, low), (low, high), (high, low), (high, high)]):
        patch = clip[:, y - reach : y + reach, x - reach : x + reach].mean(axis=(1, 2))
        shown = np.median(patch, axis=0)
        if abs(shown - wanted[number]).max() > COLOUR_LEVELS:
            corner = ("top left", "top right", "bottom left", "bottom right")[number]
            found.append(f"{corner} is {_rgb(shown)} instead of {_rgb(wanted[number])}")
    if looks != "colours":
        found += [*_square(clip, looks == "hole"), *_clock(clip, start_s, fps, shift_s)]
    return found


def _square(clip: np.ndarray, hole: bool) -> Iterator[str]:
    side = clip.shape[1]
    picture = np.median(clip, axis=0)
    inside = picture.max(axis=2) < 40 if hole else picture.min(axis=2) > 200
    near = slice(side // 2 - 2, side // 2 + 2)
    across, down = inside[near].mean(axis=0).sum(), inside[: round(0.85 * side), near].mean(axis=1).sum()
    if not down or abs(across / down - 1) > SHAPE_ERROR:
        yield f"the square is {across:.0f} pixels by {down:.0f}"


def _clock(clip: np.ndarray, start_s: float, fps: float, shift_s: float | None) -> list[str]:
    side = clip.shape[1]
    rows = slice(round((1 - 0.7 * BAND) * side), round((1 - 0.3 * BAND) * side))
    shown = (clip[:, rows].mean(axis=(1, 3)) > 125).mean(axis=1) * LAP_S
    wanted = (start_s + (shift_s or 0.0)) % LAP_S + np.arange(len(clip)) / fps
    off = (shown - wanted + LAP_S / 2) % LAP_S - LAP_S / 2
    if shift_s is None:
        off = (off - np.median(off) + LAP_S / 2) % LAP_S - LAP_S / 2
    if np.percentile(abs(off), 80) > CLOCK_S:
        return [f"its time is off by {np.median(off):+.2f} s, up to {abs(off).max():.2f} s"]
    return []


def _rgb(colour: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.0f}" for value in colour) + ")"
