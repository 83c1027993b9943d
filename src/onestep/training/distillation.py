"""Few-step initialisation: the base becomes a student that maps noise to a clean sample in one step.

Three targets, each of the frozen teacher (the base) with guidance baked in, under MSE in the clean sample, so that both
prediction forms train alike:

* `consistency`: APT (arXiv 2501.08316) section 3.2, discrete-time consistency distillation. The student maps every noise
  level straight to the clean sample; its target is one step of the teacher to the next lower level, evaluated by the
  student itself without gradient. Where the paper is silent AAPT's published choices are followed (arXiv 2506.09350:
  fixed levels, no average in the target, AdamW with weight decay 0.01).
* `progressive`: progressive distillation (Salimans and Ho, arXiv 2202.00512; SeedVR2, arXiv 2506.05301, before its GAN).
  The number of steps halves until one is left; each student learns two steps of the one before.
* `trajectory`: the target is the end of the teacher's own sampler from the same noise (Luhman and Luhman,
  arXiv 2101.02388), from a pool of such pairs made once. It is what consistency distillation with one level and a
  many-step teacher comes to; nothing is bootstrapped, so it learns fastest where the pool is affordable.

Then, where `matching.updates` says so, the student's samples are matched to the teacher's distribution (`matching.py`).
"""

import copy
import math
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from onestep.models.depth import repeat_blocks
from onestep.models.ema import Average
from onestep.models.families.base import Form
from onestep.models.pipeline import VideoPipeline, load_pipeline, mix, predict_sample
from onestep.training.distillation_settings import ConsistencySettings
from onestep.training.dmd import BETAS as MATCHING_BETAS
from onestep.training.dmd import Matching, altered, guided
from onestep.training.losses import consistency_loss
from onestep.training.optimizers import Muon, split_parameters
from onestep.training.stage import open_stage, save_model
from onestep.training.trainer import Batches, accumulated, cooled, make_accelerator, run, seeded, set_rates

BETAS = (0.9, 0.95)
ADAM_SHARE = 0.05  # rate of what Muon does not train (biases, norms, embeddings) over Muon's own


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
    clean = guided(teacher, x_t, t, text, empty, guidance, form)
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
    """Consistency distillation on one micro-batch: clean latents `x` `[B, C, T, H, W]`, text `[B, L, D]`, `count` levels."""
    x_t, t, lower = _noised(x, count, random)
    target_input = teacher_step(teacher, x_t, t, lower, text, empty, guidance, form)
    with torch.no_grad():
        target = predict_sample(student, target_input, lower, text, form)
        clean = (lower == 0).view(-1, 1, 1, 1, 1)
        target = torch.where(clean, target_input, target)
    return consistency_loss(predict_sample(student, x_t, t, text, form), target)


def halving_loss(
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
    """Progressive distillation on one micro-batch: one of the student's `count` steps learns two of the teacher's.

    The target is the clean sample from which one Euler step lands where the teacher's two do (arXiv 2202.00512,
    algorithm 2): `x̂ = (x″ − (lower/t)·x_t) / (1 − lower/t)`.
    """
    x_t, t, lower = _noised(x, count, random)
    middle = (t + lower) / 2
    halfway = teacher_step(teacher, x_t, t, middle, text, empty, guidance, form)
    landed = teacher_step(teacher, halfway, middle, lower, text, empty, guidance, form)
    keep = (lower / t).view(-1, 1, 1, 1, 1)
    return consistency_loss(predict_sample(student, x_t, t, text, form), (landed - keep * x_t) / (1 - keep))


def _noised(x: Tensor, count: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Each clip at a random one of `count` levels: `x_t`, its level `t` and the level below, `[B]`."""
    table = levels(count, x.device)
    index = torch.randint(1, count + 1, (len(x),), generator=random).to(x.device)
    t = table[index]
    return mix(x, torch.randn(x.shape, generator=random).to(x), t), t, table[index - 1]


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
        network = repeat_blocks(student.transformer, student.family, settings.depth_repeats, settings.depth_tied)
        network.train().requires_grad_(True)
        self.teacher, self.empty, self._preview = teacher, empty.to(accelerator.device), preview
        self.rate, self.student = 1.0, accelerator.prepare(network)
        self.optimizers: dict[str, Any] = {}
        self._prepared: dict[str, Any] = {}
        self._rates = self._optimize(
            "student", network, settings.optimizer, settings.learning_rate, BETAS, settings.weight_decay
        )
        self.average = Average(network, settings.ema or 0.0)
        self.modules: dict[str, Any] = {"student": network}
        if settings.target == "progressive":
            self.modules["previous"] = copy.deepcopy(network).eval().requires_grad_(False)
        if settings.matching.updates:
            self._prepare_matching(network)
        self.averages: dict[str, Any] = {"student": self.average}
        self.snapshots: dict[str, dict[str, Tensor]] = {}
        self._pool: tuple[Tensor, Tensor, Tensor] | None = None

    def update(self, step: int, batches: Batches) -> dict[str, float]:
        """One optimiser step on the target's loss; of the matching's, after those."""
        s = self.settings
        if step >= s.updates:
            return self._match(step, batches)
        factor = self.rate * min(1.0, (step + 1) / max(s.warmup, 1)) * cooled(step, s.updates, s.cooldown)
        set_rates(self.optimizers, self._rates, factor)
        if s.target == "trajectory" and self._pool is None:
            self._pool = self._make_pairs(batches)
        if s.target == "progressive":
            self._halve(step)
        optimizers = [self._prepared[name] for name in self._rates]
        numbers = accumulated(self.loss, (self.student,), optimizers, self.accelerator, batches, step, s.accumulate)
        self.average.update(self.modules["student"])
        return numbers

    def loss(self, x: Tensor, text: Tensor, random: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss of one micro-batch, and what to plot of it."""
        s = self.settings
        if s.target == "trajectory":
            value = self._pair_loss(len(x), random)
        elif s.target == "progressive":
            first = self._steps == s.levels // 2
            before = (self.teacher.transformer, s.guidance_scale) if first else (self.modules["previous"], 1.0)
            value = halving_loss(
                self.student, before[0], x, text, self.empty, self._steps, before[1], self.form, random
            )
        else:
            value = step_loss(
                self.student,
                self.teacher.transformer,
                x,
                text,
                self.empty,
                s.levels,
                s.guidance_scale,
                self.form,
                random,
            )
        return value, {"consistency_loss": value.item()}

    def matching_step(
        self, x: Tensor, text: Tensor, random: torch.Generator, alone: bool = False
    ) -> tuple[Tensor, dict[str, float]]:
        """Both losses of one micro-batch of the matching, on the same samples; of the clips only the captions are used.

        alone: the score model's loss only, during its warm-up.
        """
        noise = torch.randn(x.shape, generator=random).to(x)
        text = altered(text, self.empty, self.settings.matching, random)
        with torch.set_grad_enabled(not alone):
            sample = predict_sample(self.student, noise, torch.ones(len(noise), device=x.device), text, self.form)
        loss = score = self.matching.score_loss(sample, text, random)
        numbers = {"score_loss": score.item()}
        if not alone:
            matching = self.matching.student_loss(sample, text, random)
            loss, numbers["matching_loss"] = score + matching, matching.item()
        return loss, numbers

    @torch.no_grad()
    def preview(self) -> Tensor:
        """One-step samples of the averaged student for the sample sheet."""
        averaged = copy.deepcopy(self.modules["student"])
        self.average.copy_to(averaged)
        noise, text = self._preview
        return predict_sample(averaged, noise, torch.ones(len(noise), device=noise.device), text, self.form)

    def _pair_loss(self, count: int, random: torch.Generator) -> Tensor:
        assert self._pool is not None
        noise, text, target = self._pool
        rows = torch.randint(len(noise), (count,), generator=random)
        noise, text, target = (part[rows].to(self.accelerator.device) for part in (noise, text, target))
        return consistency_loss(
            predict_sample(self.student, noise, torch.ones(count, device=noise.device), text, self.form), target
        )

    @torch.no_grad()
    def _make_pairs(self, batches: Batches) -> tuple[Tensor, Tensor, Tensor]:
        """Noise, text states and the teacher's samples `[pairs, …]`; a resumed run makes the very same ones again."""
        from rich.progress import track

        s = self.settings
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        for number in track(
            range(math.ceil(s.pairs / s.batch)),
            description="teacher's samples",
            disable=not self.accelerator.is_main_process,
        ):
            x, text, random = batches(number, 0, 1)
            noise = torch.randn(x.shape, generator=random).to(x)
            with self.accelerator.autocast():
                target = self.teacher.denoise(noise, text, s.teacher_steps, s.guidance_scale, self.empty)
            parts.append((noise.cpu(), text.cpu(), target.float().cpu()))
        noise, text, target = (torch.cat(column)[: s.pairs] for column in zip(*parts, strict=True))
        return noise, text, target

    def _prepare_matching(self, network: nn.Module) -> None:
        m = self.settings.matching
        self.matching = Matching(self.teacher.transformer, self.form, self.empty, m, self.accelerator)
        self.modules["score"] = self.matching.module
        self._matching_rates = self._optimize("matching", network, m.optimizer, m.rate, MATCHING_BETAS)
        self._score_rates = self._optimize("score", self.matching.module, m.optimizer, m.score_rate, MATCHING_BETAS)

    def _match(self, step: int, batches: Batches) -> dict[str, float]:
        """One step of the score model and, after its warm-up, of the student, which goes on from its average."""
        s, at = self.settings, step - self.settings.updates
        if at == 0:
            self.average.copy_to(self.modules["student"])
            self.average.updates = 0
        alone = at < s.matching.warmup
        rates = self._score_rates if alone else self._matching_rates | self._score_rates
        set_rates(self.optimizers, rates, self.rate * cooled(at, s.matching.updates, s.cooldown))
        numbers = accumulated(
            partial(self.matching_step, alone=alone),
            (self.student, self.matching.score),
            [self._prepared[name] for name in rates],
            self.accelerator,
            batches,
            step,
            s.accumulate,
        )
        if not alone:
            self.average.update(self.modules["student"])
        return numbers

    def _halve(self, step: int) -> None:
        """Enter the next phase of progressive distillation where one begins: the student so far is the next one's teacher."""
        phases = self.settings.levels.bit_length() - 1
        phase, before = (min(at * phases // self.settings.updates, phases - 1) for at in (step, step - 1))
        self._steps = self.settings.levels >> (phase + 1)
        if step and phase != before:
            self.average.copy_to(self.modules["student"])
            self.average.copy_to(self.modules["previous"])
            self.average.updates = 0

    def _optimize(
        self, name: str, network: nn.Module, kind: str, rate: float, betas: tuple[float, float], decay: float = 0.0
    ) -> dict[str, float]:
        """Make what optimises a network for one loss; returns the rate of each of these optimisers by its name."""
        if kind == "muon":
            matrices, rest = split_parameters(network, [self.form.family.blocks])
            rates = {f"{name}-muon": rate, f"{name}-adam": rate * ADAM_SHARE}
            dtype = torch.bfloat16 if self.accelerator.mixed_precision == "bf16" else torch.float32
            made = {f"{name}-muon": Muon(matrices, rate, decay=decay, dtype=dtype)}
        else:
            rest, rates, made = list(network.parameters()), {f"{name}-adam": rate}, {}
        adam = f"{name}-adam"
        self.optimizers |= made | {adam: torch.optim.AdamW(rest, rates[adam], betas, weight_decay=decay, fused=True)}
        self._prepared |= {each: self.accelerator.prepare(self.optimizers[each]) for each in rates}
        return rates


def train_consistency(latents: Path, base: Path, out: Path, curves: Path, settings: ConsistencySettings) -> None:
    """The `consistency` stage: latents and base → a pipeline folder whose transformer samples in one step.

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
