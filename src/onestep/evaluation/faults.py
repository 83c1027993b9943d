"""Rendering faults of a strength in [0, 1], put into clips on purpose: a judge is tested on what it must notice.

Each takes uint8 clips `[N, T, H, W, 3]`, a strength per clip `[N]`, and a generator, and returns new uint8 clips.
Strength 0 changes nothing; strength 1 is a fault that is obvious at once.
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

Fault = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]

_GRAIN = 40.0  # standard deviation in grey levels at strength 1
_BLUR = 3.0  # standard deviation in pixels at strength 1
_FLICKER = 60.0  # standard deviation of a frame's brightness, in grey levels, at strength 1
_SHIFT = 90.0  # length of the shift in colour, in grey levels, at strength 1


def grain(clips: np.ndarray, strength: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Independent Gaussian noise on every pixel."""
    noise = rng.standard_normal(clips.shape, dtype=np.float32)
    return _rounded(clips + noise * _per_clip(strength * _GRAIN))


def blur(clips: np.ndarray, strength: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A Gaussian blur within each frame."""
    del rng
    blurred = [
        ndimage.gaussian_filter(clip.astype(np.float32), (0, s * _BLUR, s * _BLUR, 0))
        for clip, s in zip(clips, strength, strict=True)
    ]
    return _rounded(np.stack(blurred))


def flicker(clips: np.ndarray, strength: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness that jumps from frame to frame."""
    jumps = rng.standard_normal((*clips.shape[:2], 1, 1, 1), dtype=np.float32)
    return _rounded(clips + jumps * _per_clip(strength * _FLICKER))


def freeze(clips: np.ndarray, strength: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture stands still from a frame on: strength is the share of the steps between frames that are lost."""
    del rng
    frames = clips.shape[1]
    last = np.round((1 - strength) * (frames - 1)).astype(int)
    index = np.minimum(np.arange(frames)[None], last[:, None])
    return np.take_along_axis(clips, index[:, :, None, None, None], axis=1)


def shuffle(clips: np.ndarray, strength: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Frames in the wrong order: strength is the share of the frames that are moved, at least two where it is above 0."""
    frames = clips.shape[1]
    index = np.tile(np.arange(frames), (len(clips), 1))
    for row, s in zip(index, strength, strict=True):
        moved = max(round(s * frames), 2 if s > 0 else 0)
        places = rng.permutation(frames)[:moved]
        row[places] = np.roll(row[places], 1)
    return np.take_along_axis(clips, index[:, :, None, None, None], axis=1)


def colour_shift(clips: np.ndarray, strength: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every pixel of a clip moves by the same step in a colour direction of the clip's own."""
    direction = rng.standard_normal((len(clips), 1, 1, 1, 3), dtype=np.float32)
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    return _rounded(clips + direction * _per_clip(strength * _SHIFT))


FAULTS: dict[str, Fault] = {
    "grain": grain,
    "blur": blur,
    "flicker": flicker,
    "freeze": freeze,
    "shuffle": shuffle,
    "colour shift": colour_shift,
}


def _per_clip(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).reshape(-1, 1, 1, 1, 1)


def _rounded(clips: np.ndarray) -> np.ndarray:
    return np.clip(np.round(clips), 0, 255).astype(np.uint8)
