"""A network as what it predicts: the clean sample behind a noised one."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onestep.models.families.base import Form
from onestep.models.pipeline import predict_sample


@dataclass(frozen=True)
class Denoiser:
    """`x̂(x_t, t, c)` of a transformer, with classifier-free guidance (arXiv 2207.12598) where its scale is not 1.

    x_t, x̂ `[B, C, T, H, W]`; t `[B]` in [0, 1], 1 = noise; text states c `[B, L, D]`.
    """

    network: nn.Module
    form: Form
    guidance_scale: float = 1.0  # 1 is none, and costs none
    empty: Tensor | None = None  # text states [1, L, D] of the empty caption, which guidance needs

    def __call__(self, x_t: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """The clean sample: `x̂(∅) + w·(x̂(c) − x̂(∅))`."""
        clean = predict_sample(self.network, x_t, t, text, self.form)
        if self.guidance_scale == 1.0:
            return clean
        assert self.empty is not None
        unconditional = predict_sample(self.network, x_t, t, self.empty.expand_as(text), self.form)
        return unconditional + self.guidance_scale * (clean - unconditional)

    def generate(self, noise: Tensor, text: Tensor) -> Tensor:
        """One-step samples `G(z, c)`: one forward at t = 1 (APT, arXiv 2501.08316, equation 1)."""
        return self(noise, torch.ones(len(noise), device=noise.device), text)

    @torch.no_grad()
    def step(self, x_t: Tensor, t: Tensor, lower: Tensor, text: Tensor) -> Tensor:
        """One Euler step from level `t` to `lower` (both `[B]`): `x_t − (t − lower)·v` with `v = (x_t − x̂)/t`."""
        clean = self(x_t, t, text)
        keep = per_clip(lower / t)
        return keep * x_t + (1 - keep) * clean


def per_clip(levels: Tensor) -> Tensor:
    """Levels `[B]` as a factor on clips `[B, C, T, H, W]`."""
    return levels.view(-1, 1, 1, 1, 1)
