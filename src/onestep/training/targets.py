"""What the student learns from the teacher: the three targets of the few-step initialisation.

Each is under mean squared error in the clean sample, so that both prediction forms train alike:

* `consistency`: APT (arXiv 2501.08316) section 3.2, discrete-time consistency distillation. The student maps every noise
  level straight to the clean sample; its target is one step of the teacher to the next lower level, evaluated by the
  student itself without gradient. Where the paper is silent AAPT's published choices are followed (arXiv 2506.09350:
  fixed levels, no EMA in the target, AdamW with weight decay 0.01).
* `progressive`: progressive distillation (Salimans and Ho, arXiv 2202.00512; SeedVR2, arXiv 2506.05301, before its GAN).
  The number of steps halves until one is left; each student learns two steps of the one before.
* `trajectory`: the target is the end of the teacher's own sampler from the same noise (Luhman and Luhman,
  arXiv 2101.02388), from a pool of such pairs made once. It is what consistency distillation with one level and a
  many-step teacher comes to; nothing is bootstrapped, so it learns fastest where the pool is affordable.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from onestep.models.pipeline import VideoPipeline, mix
from onestep.training.batches import Batches
from onestep.training.denoiser import Denoiser, per_clip
from onestep.training.losses import distillation_loss

Target = Callable[[Denoiser, Denoiser, Tensor, Tensor, Tensor, Tensor], Tensor]


def levels(count: int, device: torch.device | None = None) -> Tensor:
    """The fixed noise levels `[count + 1]` from 0 (clean) to 1 (pure noise), evenly spaced."""
    return torch.linspace(0, 1, count + 1, device=device)


def consistency_target(
    student: Denoiser, teacher: Denoiser, x_t: Tensor, t: Tensor, lower: Tensor, text: Tensor
) -> Tensor:
    """The student's own clean sample behind one teacher's step from level `t` to `lower`; that step itself where it is clean."""
    stepped = teacher.step(x_t, t, lower, text)
    with torch.no_grad():
        return torch.where(per_clip(lower == 0), stepped, student(stepped, lower, text))


def progressive_target(
    _student: Denoiser, teacher: Denoiser, x_t: Tensor, t: Tensor, lower: Tensor, text: Tensor
) -> Tensor:
    """The clean sample from which one Euler step lands where two of the teacher's do, from level `t` to `lower`.

    `x̂ = (x″ − (lower/t)·x_t) / (1 − lower/t)` (arXiv 2202.00512, algorithm 2).
    """
    middle = (t + lower) / 2
    halfway = teacher.step(x_t, t, middle, text)
    landed = teacher.step(halfway, middle, lower, text)
    keep = per_clip(lower / t)
    return (landed - keep * x_t) / (1 - keep)


def step_loss(
    target: Target, student: Denoiser, teacher: Denoiser, x: Tensor, text: Tensor, count: int, random: torch.Generator
) -> Tensor:
    """One micro-batch: clean latents `x` `[B, C, T, H, W]`, each noised to a random one of `count` levels, text `[B, L, D]`."""
    table = levels(count, x.device)
    index = torch.randint(1, count + 1, (len(x),), generator=random).to(x.device)
    t, lower = table[index], table[index - 1]
    x_t = mix(x, torch.randn(x.shape, generator=random).to(x), t)
    learned = target(student, teacher, x_t, t, lower, text)
    return distillation_loss(student(x_t, t, text), learned)


@dataclass(frozen=True)
class Pairs:
    """Noise, text states and the teacher's samples of them `[pairs, …]`, held in memory."""

    noise: Tensor
    text: Tensor
    sample: Tensor

    def loss(self, student: Denoiser, count: int, device: torch.device, random: torch.Generator) -> Tensor:
        """One micro-batch of `count` random pairs."""
        rows = torch.randint(len(self.noise), (count,), generator=random)
        noise, text, sample = (part[rows].to(device) for part in (self.noise, self.text, self.sample))
        return distillation_loss(student.generate(noise, text), sample)


@torch.no_grad()
def make_pairs(
    teacher: VideoPipeline,
    steps: int,
    guidance_scale: float,
    empty: Tensor,
    count: int,
    batches: Batches,
    accelerator: Accelerator,
) -> Pairs:
    """`count` pairs from the teacher's own sampler; a resumed run makes the very same ones again."""
    from rich.progress import track

    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    numbers = range(math.ceil(count / batches.batch))
    for number in track(numbers, description="teacher's samples", disable=not accelerator.is_main_process):
        x, text, random = batches(number, 0, 1)
        noise = torch.randn(x.shape, generator=random).to(x)
        with accelerator.autocast():
            sample = teacher.denoise(noise, text, steps, guidance_scale, empty)
        parts.append((noise.cpu(), text.cpu(), sample.float().cpu()))
    return Pairs(*(torch.cat(column)[:count] for column in zip(*parts, strict=True)))
