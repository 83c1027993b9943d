"""The losses of distillation and adversarial training as pure functions of logits and samples.

Sources: APT arXiv 2501.08316 · R3GAN arXiv 2501.05441 · AFM arXiv 2511.22475 · ARC arXiv 2505.08175. Logits are `[B]`, one
per clip, or `[B, 1 + T]` with one per latent frame beside it (AAPT, arXiv 2506.09350): every loss is a mean over them all.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import softplus


def distillation_loss(student: Tensor, target: Tensor) -> Tensor:
    """Mean squared error against the stop-gradient target (APT section 3.2)."""
    return (student - target.detach()).square().mean()


def non_saturating_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """`E[softplus(−D(x))] + E[softplus(D(G(z)))]` (APT equation 3, Goodfellow et al. 2014); 2 ln 2 at zero logits."""
    return softplus(-real).mean() + softplus(fake).mean()


def non_saturating_generator(_real: Tensor, fake: Tensor) -> Tensor:
    """`E[softplus(−D(G(z)))]` (APT equation 4)."""
    return softplus(-fake).mean()


def relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """`E[softplus(−(D(x) − D(G(z))))]` over pairs of one caption (R3GAN equation 2); ln 2 at zero logits."""
    return softplus(-(real - fake)).mean()


def relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    """`E[softplus(−(D(G(z)) − D(x)))]`: the same game seen from the other side."""
    return softplus(-(fake - real)).mean()


def approximated_penalty(logits: Tensor, perturbed: Tensor, sigma: float) -> Tensor:
    """`E[(D(x + σn) − D(x))²] / σ²`, which tends to `E‖∇ₓD‖²` as σ → 0: R1 on real clips, R2 on generated ones.

    APT equation 5 without the division; dividing makes its strength independent of σ (APT's λ = 100 at σ = 0.1 is 1 here).
    """
    return ((perturbed - logits) / sigma).square().mean()


def centring(real: Tensor, fake: Tensor) -> Tensor:
    """`E[(D(x) + D(G(z)))²]`: keeps relativistic logits from drifting together (AFM, logit centring)."""
    return (real + fake).square().mean()


def contrastive(matched: Tensor, mismatched: Tensor) -> Tensor:
    """`E[softplus(−(D(x, c) − D(x, c′)))]` on real clips with another clip's caption c′ (ARC); ln 2 at zero logits."""
    return softplus(-(matched - mismatched)).mean()


def shift_timesteps(t: Tensor, shift: float) -> Tensor:
    """`s·t / (1 + (s − 1)·t)` for t in [0, 1] (APT section 3.3): more noise levels near 1 as s grows; s = 1 keeps t."""
    return shift * t / (1 + (shift - 1) * t)


class AdversarialLoss(NamedTuple):
    """Both sides of one game, as functions of the logits of real and of generated clips."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    generator_needs_real: bool  # else the real clips' forward is left out of its step


LOSSES = {
    "non-saturating": AdversarialLoss(non_saturating_discriminator, non_saturating_generator, False),
    "relativistic": AdversarialLoss(relativistic_discriminator, relativistic_generator, True),
}
