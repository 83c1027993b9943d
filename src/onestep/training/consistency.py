"""Few-step initialisation: discrete-time consistency distillation of the base into a student.

APT (arXiv 2501.08316) section 3.2: the student maps every noise level straight to the clean sample; its target is one
step of the frozen teacher to the next lower level, evaluated by the student itself without gradient, under MSE, with
guidance baked in. Where the paper is silent (number of levels, optimiser) AAPT's published choices are followed
(arXiv 2506.09350: fixed levels, no average in the target, AdamW with weight decay 0.01).

Deviation: the student's error is taken in the clean sample, not the velocity, so that both prediction forms train alike.
"""

import torch
from torch import Tensor, nn

from onestep.models.pipeline import Form, mix, predict_sample
from onestep.training.losses import consistency_loss


def levels(count: int, device: torch.device | None = None) -> Tensor:
    """The fixed noise levels `[count + 1]` from 0 (clean) to 1 (pure noise), evenly spaced."""
    return torch.linspace(0, 1, count + 1, device=device)


@torch.no_grad()
def teacher_step(
    teacher: nn.Module, x_t: Tensor, t: Tensor, lower: Tensor, text: Tensor, empty: Tensor, guidance: float, form: Form
) -> Tensor:
    """One Euler step of the guided teacher from level `t` to `lower` (both `[B]`): `x − (t − lower)·v`.

    The velocity is that of the guided clean sample, `v = (x_t − x̂)/t`.
    """
    clean = predict_sample(teacher, x_t, t, text, form)
    if guidance != 1.0:
        unconditional = predict_sample(teacher, x_t, t, empty.expand_as(text), form)
        clean = unconditional + guidance * (clean - unconditional)
    keep = (lower / t).view(-1, 1, 1, 1, 1)
    return keep * x_t + (1 - keep) * clean


def step_loss(
    student: nn.Module,
    teacher: nn.Module,
    x: Tensor,
    text: Tensor,
    empty: Tensor,
    count: int,
    guidance: float,
    form: Form,
    random: torch.Generator,
) -> Tensor:
    """The loss of one micro-batch: clean latents `x` `[B, C, T, H, W]`, text `[B, L, D]`, `count` fixed levels."""
    table = levels(count, x.device)
    index = torch.randint(1, count + 1, (len(x),), generator=random).to(x.device)
    t, lower = table[index], table[index - 1]
    x_t = mix(x, torch.randn(x.shape, generator=random).to(x), t)
    target_input = teacher_step(teacher, x_t, t, lower, text, empty, guidance, form)
    with torch.no_grad():
        target = predict_sample(student, target_input, lower, text, form)
        clean = (lower == 0).view(-1, 1, 1, 1, 1)
        target = torch.where(clean, target_input, target)
    return consistency_loss(predict_sample(student, x_t, t, text, form), target)
