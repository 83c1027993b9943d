"""Few-step initialisation: the base becomes a student that maps noise to a clean sample in one step.

First the student learns a target of the frozen teacher (the base) with guidance baked in (`targets.py`). Then, where
`dmd.updates` says so, its samples are matched to the teacher's distribution (`dmd.py`).
"""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from onestep.models.depth import repeat_blocks
from onestep.models.ema import EMA
from onestep.models.pipeline import VideoPipeline
from onestep.training.accelerator import attention, make_accelerator
from onestep.training.batches import Batches, seeded
from onestep.training.denoiser import Denoiser
from onestep.training.distillation_settings import ConsistencySettings
from onestep.training.dmd import BETAS as DMD_BETAS
from onestep.training.dmd import DistributionMatching, corrupt_captions
from onestep.training.optimizer_step import LossOf, lr_decay, lr_warmup, optimizer_step, set_lr_scale
from onestep.training.optimizers import make_optimizers
from onestep.training.plan import make_trainer
from onestep.training.stage import load_for_training, open_stage, save_model
from onestep.training.targets import Pairs, consistency_target, make_pairs, progressive_target, step_loss

BETAS = (0.9, 0.95)


class Distillation:
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
        """empty: text states `[1, L, D]` of the empty caption, for guidance; preview: noise and text states for `preview`."""
        self.settings, self.accelerator, self.form = settings, accelerator, student.form
        self.pipeline, self.empty, self._preview = teacher, empty.to(accelerator.device), preview
        network = repeat_blocks(student.transformer, student.family, settings.depth_repeats, settings.depth_tied)
        network.train().requires_grad_(True)
        self.student = Denoiser(accelerator.prepare(network), self.form)
        self.teacher = Denoiser(teacher.transformer, self.form, settings.guidance_scale, self.empty)
        self.lr_scale = 1.0
        self.optimizers: dict[str, Any] = {}
        self._prepared: dict[str, Any] = {}
        self._optimizers_of: dict[str, list[str]] = {}  # names of the optimisers of each loss
        self._add_optimizers(
            "student", network, settings.optimizer, settings.learning_rate, BETAS, settings.weight_decay
        )
        self.ema = EMA(network, settings.ema or 0.0)
        self.modules: dict[str, Any] = {"student": network}
        if settings.target == "progressive":
            self.modules["previous"] = copy.deepcopy(network).eval().requires_grad_(False)
        if settings.dmd.updates:
            self._prepare_dmd(network)
        self.emas: dict[str, Any] = {"student": self.ema}
        self.snapshots: dict[str, dict[str, Tensor]] = {}
        self._pairs: Pairs | None = None

    def update(self, step: int, batches: Batches) -> dict[str, float]:
        """One optimiser step on the target's loss; on DMD's after those."""
        s = self.settings
        if step >= s.updates:
            return self._match(step - s.updates, step, batches)
        if s.target == "trajectory" and self._pairs is None:
            self._pairs = make_pairs(
                self.pipeline, s.teacher_steps, s.guidance_scale, self.empty, s.pairs, batches, self.accelerator
            )
        if s.target == "progressive":
            self._halve(step)
        scale = self.lr_scale * lr_warmup(step, s.warmup) * lr_decay(step, s.updates, s.lr_decay)
        numbers = self._step(self.loss, [self.student.network], ["student"], scale, step, batches)
        self.ema.update(self.modules["student"])
        return numbers

    def loss(self, x: Tensor, text: Tensor, random: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss of one micro-batch, and what to plot of it."""
        s = self.settings
        if s.target == "trajectory":
            assert self._pairs is not None
            value = self._pairs.loss(self.student, len(x), self.accelerator.device, random)
        elif s.target == "progressive":
            first = self._steps == s.levels // 2
            teacher = self.teacher if first else Denoiser(self.modules["previous"], self.form)
            value = step_loss(progressive_target, self.student, teacher, x, text, self._steps, random)
        else:
            value = step_loss(consistency_target, self.student, self.teacher, x, text, s.levels, random)
        return value, {"consistency_loss": value.item()}

    def dmd_loss(
        self, x: Tensor, text: Tensor, random: torch.Generator, score_only: bool = False
    ) -> tuple[Tensor, dict[str, float]]:
        """Both losses of one micro-batch of DMD, on the same samples; of the clips only the captions are used.

        score_only: the score model's loss alone, during its warm-up.
        """
        noise = torch.randn(x.shape, generator=random).to(x)
        text = corrupt_captions(text, self.empty, self.settings.dmd, random)
        with torch.set_grad_enabled(not score_only):
            sample = self.student.generate(noise, text)
        loss = score = self.dmd.score_loss(sample, text, random)
        numbers = {"score_loss": score.item()}
        if not score_only:
            matching = self.dmd.student_loss(sample, text, random)
            loss, numbers["dmd_loss"] = score + matching, matching.item()
        return loss, numbers

    @torch.no_grad()
    def preview(self) -> Tensor:
        """One-step samples of the student's EMA for the sample sheet."""
        network = copy.deepcopy(self.modules["student"])
        self.ema.copy_to(network)
        return Denoiser(network, self.form).generate(*self._preview)

    def _prepare_dmd(self, network: nn.Module) -> None:
        s = self.settings.dmd
        teacher = Denoiser(self.pipeline.transformer, self.form, s.guidance_scale, self.empty)
        self.dmd = DistributionMatching(teacher, self.accelerator)
        self.modules["score"] = self.dmd.module
        self._add_optimizers("dmd", network, s.optimizer, s.student_lr, DMD_BETAS)
        self._add_optimizers("score", self.dmd.module, s.optimizer, s.score_lr, DMD_BETAS)

    def _match(self, dmd_step: int, step: int, batches: Batches) -> dict[str, float]:
        """One step of the score model and, after its warm-up, of the student, which goes on from its EMA."""
        s = self.settings
        if dmd_step == 0:
            self.ema.copy_to(self.modules["student"])
            self.ema.updates = 0
        score_only = dmd_step < s.dmd.warmup
        loss = partial(self.dmd_loss, score_only=score_only)
        scale = self.lr_scale * lr_decay(dmd_step, s.dmd.updates, s.lr_decay)
        trained = ["score"] if score_only else ["dmd", "score"]
        numbers = self._step(loss, [self.student.network, self.dmd.score], trained, scale, step, batches)
        if not score_only:
            self.ema.update(self.modules["student"])
        return numbers

    def _halve(self, step: int) -> None:
        """Enter the next phase of progressive distillation where one begins: the student so far is the next one's teacher."""
        phases = self.settings.levels.bit_length() - 1
        phase, before = (min(at * phases // self.settings.updates, phases - 1) for at in (step, step - 1))
        self._steps = self.settings.levels >> (phase + 1)
        if step and phase != before:
            self.ema.copy_to(self.modules["student"])
            self.ema.copy_to(self.modules["previous"])
            self.ema.updates = 0

    def _step(
        self, loss_of: LossOf, networks: list[nn.Module], trained: list[str], scale: float, step: int, batches: Batches
    ) -> dict[str, float]:
        """One optimiser step of what is trained for these losses, at a scale of the learning rates."""

        def loss(x: Tensor, text: Tensor, random: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            with attention(self.accelerator.device):
                return loss_of(x, text, random)

        names = [name for loss_name in trained for name in self._optimizers_of[loss_name]]
        set_lr_scale([self.optimizers[name] for name in names], scale)
        optimizers = [self._prepared[name] for name in names]
        return optimizer_step(loss, networks, optimizers, self.accelerator, batches, step, self.settings.accumulate)

    def _add_optimizers(
        self, name: str, network: nn.Module, kind: Any, lr: float, betas: tuple[float, float], weight_decay: float = 0.0
    ) -> None:
        """Make what optimises a network for the loss of this name."""
        dtype = torch.bfloat16 if self.accelerator.mixed_precision == "bf16" else torch.float32
        made = make_optimizers(network, self.form.family.blocks, kind, lr, betas, weight_decay, dtype)
        named = {f"{name}-{type(optimizer).__name__.lower()}": optimizer for optimizer in made}
        self.optimizers |= named
        self._prepared |= {each: self.accelerator.prepare(optimizer) for each, optimizer in named.items()}
        self._optimizers_of[name] = list(named)


def train_consistency(latents: Path, base: Path, out: Path, curves: Path, settings: ConsistencySettings) -> None:
    """The `consistency` stage: latents and base → a pipeline folder whose transformer samples in one step.

    Raises `LatentsError` when the latents were made by another base, `ResumeRefused`, `TrainingFailed`.
    """
    stage = open_stage("consistency", latents, {"base": base}, settings, curves)
    accelerator = make_accelerator(settings.precision, settings.accumulate)
    student, teacher = load_for_training(base, accelerator), load_for_training(base, accelerator)
    preview = stage.preview(student, seeded(settings.seed, "preview"))
    method = Distillation(student, teacher, settings, accelerator, stage.training.empty, preview)
    batches = Batches(stage.training, settings.batch, accelerator, settings.seed)
    plan = stage.plan(student.decode_video)
    make_trainer(plan, accelerator).fit(method, batches)
    save_model(student, method.ema, method.modules["student"], plan, accelerator, out, stage)
