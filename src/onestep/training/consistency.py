"""Few-step initialisation: discrete-time consistency distillation of the base into a student.

APT (arXiv 2501.08316) section 3.2: the student maps every noise level straight to the clean sample; its target is one
step of the frozen teacher to the next lower level, evaluated by the student itself without gradient, under MSE, with
guidance baked in. Where the paper is silent (number of levels, optimiser) AAPT's published choices are followed
(arXiv 2506.09350: fixed levels, no average in the target, AdamW with weight decay 0.01).

Deviation: the student's error is taken in the clean sample, not the velocity, so that both prediction forms train alike.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from onestep.config import ConsistencySettings
from onestep.models.averages import Average
from onestep.models.pipeline import Form, VideoPipeline, load_pipeline, mix, predict_sample
from onestep.training.loop import Batches, accumulated, make_accelerator, run, seeded
from onestep.training.losses import consistency_loss
from onestep.training.stage import open_stage, save_model


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


class Consistency:
    """The method of the `consistency` stage: the student starts as the base and learns its own few-step map."""

    def __init__(
        self,
        student: VideoPipeline,
        teacher: VideoPipeline,
        settings: ConsistencySettings,
        accelerator: Accelerator,
        empty: Tensor,
        preview: tuple[Tensor, Tensor],
    ) -> None:
        self.settings, self.accelerator, self.form = settings, accelerator, student.form
        network = student.transformer.train().requires_grad_(True)
        optimizer = torch.optim.AdamW(
            network.parameters(), settings.learning_rate, (0.9, 0.95), weight_decay=settings.weight_decay
        )
        self.teacher, self.empty, self._preview = teacher.transformer, empty.to(accelerator.device), preview
        self.student, self.optimizer = accelerator.prepare(network, optimizer)
        self.average = Average(network, settings.ema or 0.0)
        self.modules: dict[str, Any] = {"student": network}
        self.optimizers: dict[str, Any] = {"student": optimizer}
        self.averages: dict[str, Any] = {"student": self.average}

    def update(self, step: int, batches: Batches) -> dict[str, float]:
        """One optimiser step on the consistency loss."""
        s = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = s.learning_rate * min(1.0, (step + 1) / max(s.warmup, 1))
        numbers = accumulated(self.loss, (self.student,), self.optimizer, self.accelerator, batches, step, s.accumulate)
        self.average.update(self.modules["student"])
        return numbers

    def loss(self, x: Tensor, text: Tensor, random: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss of one micro-batch, and what to plot of it."""
        s = self.settings
        value = step_loss(
            self.student, self.teacher, x, text, self.empty, s.levels, s.guidance_scale, self.form, random
        )
        return value, {"consistency_loss": value.item()}

    @torch.no_grad()
    def preview(self) -> Tensor:
        """One-step samples of the averaged student for the sample sheet."""
        averaged = copy.deepcopy(self.modules["student"])
        self.average.copy_to(averaged)
        noise, text = self._preview
        return predict_sample(averaged, noise, torch.ones(len(noise), device=noise.device), text, self.form)


def train_consistency(latents: Path, base: Path, out: Path, curves: Path, settings: ConsistencySettings) -> None:
    """The `consistency` stage: latents and base → a pipeline folder whose transformer samples in few steps.

    Raises `LatentsError` when the latents were made by another base, `ResumeRefused`, `TrainingFailed`.
    """
    stage = open_stage("consistency", latents, {"base": base}, settings, curves)
    accelerator = make_accelerator(settings.precision, settings.accumulate)
    student, teacher = load_pipeline(base).to(accelerator.device), load_pipeline(base).to(accelerator.device)
    noise, text = stage.preview(student, seeded(settings.seed, "preview"))
    method = Consistency(student, teacher, settings, accelerator, stage.training.empty, (noise, text))
    batches = Batches(stage.training, settings.batch, accelerator, settings.seed)
    plan = stage.plan(student.decode_video)
    run(method, batches, plan, accelerator)
    save_model(student, method.average, method.modules["student"], plan, accelerator, out, stage)
