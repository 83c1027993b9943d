"""The demo world: coloured shapes that move on plain backgrounds, and the words that describe them.

Everything about a scene can be counted afterwards (size, colour, shape, motion, background), so text alignment,
structure and mode coverage are measured instead of guessed. This module draws; `footage.py` writes video files.
"""

import hashlib
import itertools
from dataclasses import dataclass

import numpy as np

ATTRIBUTES = ("size", "colour", "shape", "motion", "background")

SIZES = {"small": 18.0, "large": 28.0}  # diameter in pixels of a 64-pixel frame, averaged over the shot
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 185, 70),
    "blue": (60, 95, 240),
    "yellow": (250, 220, 40),
    "pink": (255, 130, 200),
    "white": (250, 250, 250),
}
SHAPES = ("circle", "bar", "triangle", "cross")
MOTIONS = ("sliding left", "sliding right", "rising", "falling", "bouncing", "spinning", "growing", "shrinking")
BACKGROUNDS = {"teal": (0, 92, 96), "grey": (92, 92, 96), "sand": (178, 150, 104), "purple": (70, 36, 104)}

_WORDS = {
    "size": tuple(SIZES),
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "motion": MOTIONS,
    "background": tuple(BACKGROUNDS),
}
_CONFUSABLE = {("yellow", "sand"), ("blue", "purple")}
_HELD_OUT_ONE_IN = 8


@dataclass(frozen=True, order=True)
class Scene:
    """One combination of the world's five attributes."""

    size: str
    colour: str
    shape: str
    motion: str
    background: str

    @property
    def caption(self) -> str:
        """The sentence a caption file holds for this scene."""
        return f"a {self.size} {self.colour} {self.shape} {self.motion} on {self.background}"

    @property
    def distinguishable(self) -> bool:
        """Whether the pixels tell this scene from every other one (a spinning circle looks static)."""
        return (self.shape, self.motion) != ("circle", "spinning") and (
            self.colour,
            self.background,
        ) not in _CONFUSABLE

    @property
    def held_out(self) -> bool:
        """Whether this combination is kept for evaluation; by a hash of the caption, so it never changes."""
        return int.from_bytes(hashlib.sha256(self.caption.encode()).digest()[:4]) % _HELD_OUT_ONE_IN == 0


def vocabulary() -> dict[str, tuple[str, ...]]:
    """The words of each attribute, in a fixed order."""
    return dict(_WORDS)


def scenes(held_out: bool | None = None) -> list[Scene]:
    """All combinations that can be told apart in the pixels; only held-out or only training ones when asked."""
    every = (Scene(*words) for words in itertools.product(*_WORDS.values()))
    return [s for s in every if s.distinguishable and held_out in (None, s.held_out)]


def _coverage(shape: str, x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """How much of each pixel the shape covers, in [0, 1], antialiased over one pixel.

    x, y: pixel offsets from the centre in the shape's own axes, `[T, H, W]`; radius: `[T, 1, 1]`.
    """
    if shape == "circle":
        distance = np.hypot(x, y) - radius
    elif shape == "bar":
        distance = np.maximum(abs(x) - 1.15 * radius, abs(y) - 0.6 * radius)
    elif shape == "triangle":
        slope = np.sqrt(3) / 2 * abs(x) - 0.5 * y - 0.55 * radius
        distance = np.maximum(slope, y - 0.75 * radius)
    else:
        arm = 0.36 * radius
        distance = np.minimum(np.maximum(abs(x) - radius, abs(y) - arm), np.maximum(abs(y) - radius, abs(x) - arm))
    return np.clip(0.5 - distance, 0.0, 1.0)


def _trajectory(scene: Scene, frames: int, side: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Centre x, centre y, radius (pixels) and angle (radians) of the shape at each frame, each `[T]`."""
    step = np.linspace(-0.5, 0.5, frames)
    radius: np.ndarray = np.full(frames, SIZES[scene.size] / 2 * side / 64)
    travel = rng.uniform(1.3, 2.0) * frames * side / 64
    dx: np.ndarray = np.zeros(frames)
    dy: np.ndarray = np.zeros(frames)
    angle: np.ndarray = np.zeros(frames)
    if scene.motion == "sliding left":
        dx = -travel * step
    elif scene.motion == "sliding right":
        dx = travel * step
    elif scene.motion == "rising":
        dy = -travel * step
    elif scene.motion == "falling":
        dy = travel * step
    elif scene.motion == "bouncing":
        dy = rng.uniform(14, 18) * side / 64 * (0.5 - abs(np.sin(np.pi * (np.arange(frames) / 7 + rng.uniform()))))
    elif scene.motion == "spinning":
        angle = np.arange(frames) * np.deg2rad(rng.uniform(13, 17))
    else:
        change = 0.44 * step * frames / 17
        radius = radius * (1 + (change if scene.motion == "growing" else -change))
    room_x = side / 2 - abs(dx).max() - radius.max() - 1
    room_y = side / 2 - abs(dy).max() - radius.max() - 1
    x = side / 2 + rng.uniform(-1, 1) * max(room_x, 0) + dx
    y = side / 2 + rng.uniform(-1, 1) * max(room_y, 0) + dy
    return x - 0.5, y - 0.5, radius, angle


def draw(scene: Scene, frames: int, side: int, rng: np.random.Generator) -> np.ndarray:
    """One shot of the scene as `[T, H, W, 3]` uint8 RGB; place, speed and phase come from `rng`."""
    cx, cy, radius, angle = (a[:, None, None] for a in _trajectory(scene, frames, side, rng))
    grid = np.arange(side, dtype=np.float64)
    x, y = grid[None, None, :] - cx, grid[None, :, None] - cy
    x, y = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    cover = _coverage(scene.shape, x, y, radius)[..., None]
    shade = cover * np.array(COLOURS[scene.colour]) + (1 - cover) * np.array(BACKGROUNDS[scene.background])
    return np.round(shade).astype(np.uint8)
