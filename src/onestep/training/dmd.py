"""Distribution matching distillation (DMD, arXiv 2311.18828; DMD2, arXiv 2405.14867): the student's samples, as a
distribution, are moved to where the teacher finds them likely.

Where the gap between the two distributions is steepest is read off two denoisers at a noised sample of the student: the
frozen teacher, and a score model that starts as the teacher and keeps learning the student's own samples. Nothing ties a
noise to one sample, as a trajectory does; so noise between two modes may go to either, and need not land between them.

Deviations: no pairs beside it (DMD's regression, which the initialisation by a trajectory replaces); the score model takes
as many steps as the student, on the same samples (DMD2 takes five), at a higher rate; some captions lose words or take
some of another caption's, because nothing but captions is needed here, the teacher has an answer to any of them, and a
student that sees the footage's captions alone learns those by heart.
"""

import copy

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from onestep.models.pipeline import mix
from onestep.training.denoiser import Denoiser
from onestep.training.distillation_settings import DmdSettings

BETAS = (0.0, 0.99)
LEVELS = (0.02, 0.98)  # noise levels at which the two are compared (DMD section 3.2)
CORRUPTED = 0.5  # share of a batch whose captions may lose or exchange words
_LEAST = 0.05  # bound of the weight 1/t² of the score model's loss: it is the error of the velocity, but for t near 0


class DistributionMatching:
    """The score model, its loss, and the student's."""

    def __init__(self, teacher: Denoiser, accelerator: Accelerator) -> None:
        """teacher: the base, frozen, with the guidance of the distribution that is matched."""
        self.teacher, self.accelerator = teacher, accelerator
        self.score = accelerator.prepare(copy.deepcopy(teacher.network).train().requires_grad_(True))

    @property
    def module(self) -> nn.Module:
        """The score model as it is, without what accelerate wraps around it to share gradients."""
        return self.accelerator.unwrap_model(self.score)

    def score_loss(self, sample: Tensor, text: Tensor, random: torch.Generator) -> Tensor:
        """Denoising of the student's own samples `[B, C, T, H, W]`, which are not trained: `E‖ŝ(x_t, t, c) − x‖² / t²`."""
        sample = sample.detach()
        x_t, t = self._noised(sample, random)
        error = (Denoiser(self.score, self.teacher.form)(x_t, t, text) - sample).square().mean(dim=(1, 2, 3, 4))
        return (error / t.square().clamp(min=_LEAST)).mean()

    def student_loss(self, sample: Tensor, text: Tensor, random: torch.Generator) -> Tensor:
        """A loss whose gradient in a clip's sample `x` is `(ŝ(x_t) − x̂_w(x_t)) / mean|x − x̂_w(x_t)|` (DMD equations 7, 8).

        x̂_w: the teacher's clean sample with guidance; the gradient is divided by the size of the batch and of a clip. The
        loss' own value is half the mean square of that gradient.
        """
        with torch.no_grad(), self.accelerator.autocast():
            x_t, t = self._noised(sample.detach(), random)
            real = self.teacher(x_t, t, text)
            fake = Denoiser(self.module, self.teacher.form)(x_t, t, text)
            scale = (sample - real).abs().mean(dim=(1, 2, 3, 4), keepdim=True)
            target = sample - (fake - real) / scale
        return 0.5 * (sample - target).square().mean()

    def _noised(self, x: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
        low, high = LEVELS
        t = (low + (high - low) * torch.rand(len(x), generator=random)).to(x.device)
        return mix(x, torch.randn(x.shape, generator=random).to(x), t), t


def corrupt_captions(text: Tensor, empty: Tensor, settings: DmdSettings, random: torch.Generator) -> Tensor:
    """Text states `[B, L, D]`, where in the first half of the batch tokens give way to others at the same place.

    First, each with probability `token_exchange`, to the token that the caption before has there; then, with probability
    `token_dropout`, to the one of the empty caption `[1, L, D]`.
    """
    count = int(CORRUPTED * len(text))
    corrupted, rest = text[:count], text[count:]
    for probability, other in (
        (settings.token_exchange, text.roll(1, dims=0)[:count]),
        (settings.token_dropout, empty.to(text)),
    ):
        if probability:
            gone = (torch.rand((count, text.shape[1], 1), generator=random) < probability).to(text.device)
            corrupted = torch.where(gone, other, corrupted)
    return torch.cat([corrupted, rest])
