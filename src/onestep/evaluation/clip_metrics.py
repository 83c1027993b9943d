"""The metrics that each clip has by itself, from its pixels alone: motion, structural stability, background grain.

Distances between sets of clips are in `distances.py`; what the judge says of a clip in `judge.py`.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK_PIXELS = 8_000_000  # values of clips worked on at once
_SIDE = 32  # pixels of the shorter side at which structure is followed
_REACH = 3  # pixels, at that size, that a block may move from one frame to the next
_BLOCK = 8  # pixels, at that size, of a block
_LEAST_CONTRAST = 1 / 255  # so that a nearly plain clip is not divided by nothing


def motion(frames: np.ndarray) -> np.ndarray:
    """Mean absolute difference of neighbouring frames of each clip `[N]`, in [0, 1]; 0 for clips of one frame."""
    if frames.shape[1] < 2:
        return np.zeros(len(frames))
    steps = (np.diff(part.astype(np.int16), axis=1) for part in _chunks(frames))
    return np.concatenate([abs(step).mean(axis=(1, 2, 3, 4)) for step in steps]) / 255


def structural_stability(frames: np.ndarray) -> np.ndarray:
    """How much of each frame is the frame before it with its blocks moved, `[N]` in [0, 1]; real motion is near 1.

    Block matching on frames shrunk to 32 pixels, so that fine grain does not count as structure and no attribute is
    needed. What no shift of a block explains is taken relative to the clip's mean deviation from its mean colour. A
    still clip has 1: `motion` is the metric that shows it.
    """
    return np.concatenate([_stability(_unit_frames(part)) for part in _chunks(frames)])


def background_grain(frames: np.ndarray) -> np.ndarray:
    """Mean absolute difference of a pixel from the 3 x 3 pixels around it in the flatter half of each frame, `[N]`.

    In grey levels of 255. Flat is where a smoothed frame has its smallest gradients, so outlines do not count.
    """
    return 255 * np.concatenate([_grain(_unit_frames(part)) for part in _chunks(frames)])


METRICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # by name: clips uint8 `[N, T, H, W, 3]` to one number each
    "structural_stability": structural_stability,
    "motion": motion,
    "background_grain": background_grain,
}


def _chunks(frames: np.ndarray) -> Iterator[np.ndarray]:
    size = max(_CHUNK_PIXELS // int(np.prod(frames.shape[1:])), 1)
    for first in range(0, len(frames), size):
        yield frames[first : first + size]


def _unit_frames(frames: np.ndarray) -> "Tensor":
    """Clips uint8 `[N, T, H, W, 3]` as `[N, T, 3, H, W]` in [0, 1]."""
    import torch

    return torch.from_numpy(frames).permute(0, 1, 4, 2, 3).float() / 255


def _stability(clips: "Tensor") -> np.ndarray:
    import torch
    from torch.nn import functional

    count, length = clips.shape[:2]
    if length < 2:
        return np.ones(count)
    factor = max(round(min(clips.shape[3:]) / _SIDE), 1)
    small = functional.avg_pool2d(clips.flatten(0, 1), factor).unflatten(0, (count, length))
    contrast = (small - small.mean((1, 3, 4), keepdim=True)).abs().mean((1, 2, 3, 4)).clamp_min(_LEAST_CONTRAST)
    height, width = small.shape[3:]
    half = max(min(_BLOCK, height, width) // 2, 1)
    before = functional.pad(small[:, :-1].flatten(0, 1), (_REACH,) * 4, mode="replicate")
    after = small[:, 1:].flatten(0, 1)
    best = None
    for down in range(2 * _REACH + 1):
        for right in range(2 * _REACH + 1):
            moved = before[:, :, down : down + height, right : right + width]
            cells = functional.avg_pool2d((after - moved).abs_().mean(1, keepdim=True), half)
            left_over = functional.avg_pool2d(cells, min(2, *cells.shape[2:]), 1)  # overlapping blocks of four cells
            best = left_over if best is None else torch.minimum(best, left_over)
    assert best is not None
    residual = best.mean((1, 2, 3)).unflatten(0, (count, length - 1)).mean(1)
    return (1 - residual / contrast).clamp(0, 1).double().numpy()


def _grain(clips: "Tensor") -> np.ndarray:
    count, length = clips.shape[:2]
    images = clips.flatten(0, 1)
    high = (images - _box(images, 1)).abs_().mean(1).flatten(1)
    smooth = _box(images.mean(1), 2)
    slope = smooth.new_zeros(smooth.shape)
    slope[:, 1:-1] += (smooth[:, 2:] - smooth[:, :-2]).abs()
    slope[:, :, 1:-1] += (smooth[:, :, 2:] - smooth[:, :, :-2]).abs()
    slope = slope.flatten(1)
    flat = (slope <= slope.median(1, keepdim=True).values).float()
    return ((high * flat).sum(1) / flat.sum(1)).unflatten(0, (count, length)).mean(1).double().numpy()


def _box(images: "Tensor", radius: int) -> "Tensor":
    """The mean over a square of `2 * radius + 1` pixels around each; the outermost pixels are repeated beyond the edge."""
    import torch

    for axis in (-2, -1):
        size = images.shape[axis]
        first, last = images.narrow(axis, 0, 1), images.narrow(axis, size - 1, 1)
        padded = torch.cat([first] * radius + [images] + [last] * radius, axis)
        total = padded.narrow(axis, 0, size).clone()
        for shift in range(1, 2 * radius + 1):
            total += padded.narrow(axis, shift, size)
        images = total / (2 * radius + 1)
    return images
