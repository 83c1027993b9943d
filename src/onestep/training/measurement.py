"""What is measured of a method's samples while it trains: types alone. How it is measured is the evaluation's."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

Sampler = Callable[[Tensor, Tensor], Tensor]  # noise [N, C, T, H, W] and text states [N, L, D] → clean latents


@dataclass(frozen=True)
class Measured:
    """Metrics of one sampler's samples, and their values `[R]` on resampled prompts, the same ones at every evaluation."""

    metrics: dict[str, float]  # by name; `diversity` and `motion` as shares of the real clips'
    resampled: dict[str, np.ndarray] = field(default_factory=dict)  # the value itself where none


Measure = Callable[[Sampler], Measured]


@dataclass(frozen=True)
class Evaluation:
    """One sampler of a method, measured after update `step`."""

    step: int
    ema: str  # name of the weights that the sampler has
    measured: Measured
