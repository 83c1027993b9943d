"""Adversarial post-training (APT, arXiv 2501.08316, section 3.3): one-step generator against real clips.

The G step and the D step stand side by side in `Adversarial`. Deviations from the paper, each a setting: relativistic
pairing, R2 beside R1, logit centring (RECIPE of the project: R3GAN arXiv 2501.05441, SeedVR2 arXiv 2506.05301, AFM arXiv
2511.22475); the penalty is divided by σ²; RMSProp is Adam(0, 0.9), which has the bias correction PyTorch's RMSprop lacks.
"""

import copy
import math
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor

from onestep.config import AdversarialSettings
from onestep.models.averages import Average
from onestep.models.discriminator import Discriminator
from onestep.models.pipeline import VideoPipeline, load_pipeline, predict_sample
from onestep.storage import replacing_folder
from onestep.training.loop import Batches, LossOf, accumulated, make_accelerator, run, seeded
from onestep.training.losses import LOSSES, approximated_penalty, centring, shift_timesteps
from onestep.training.stage import open_stage, save_model

BETAS = (0.0, 0.9)


class Adversarial:
    """The method of the `adversarial` stage: generator from the consistency model, discriminator from the base."""

    def __init__(
        self,
        student: VideoPipeline,
        base: VideoPipeline,
        settings: AdversarialSettings,
        accelerator: Accelerator,
        preview: tuple[Tensor, Tensor],
    ) -> None:
        self.settings, self.accelerator, self.form = settings, accelerator, student.form
        self.backbone = base.transformer
        generator = student.transformer.train().requires_grad_(True)
        torch.manual_seed(settings.seed)
        discriminator = self._new_discriminator()
        g_optimizer = torch.optim.Adam(generator.parameters(), settings.generator_lr, BETAS)
        d_optimizer = torch.optim.Adam(_trained(discriminator), settings.discriminator_lr, BETAS)
        self.generator, self.discriminator, self.g_optimizer, self.d_optimizer = accelerator.prepare(
            generator, discriminator, g_optimizer, d_optimizer
        )
        self.average = Average(generator, settings.ema)
        self.modules: dict[str, Any] = {"generator": generator, "discriminator": discriminator}
        self.optimizers: dict[str, Any] = {"generator": g_optimizer, "discriminator": d_optimizer}
        self.averages: dict[str, Any] = {"generator": self.average}
        self._preview = preview
        self.d_loss, self.g_loss = LOSSES[settings.loss]

    def update(self, step: int, batches: Batches) -> dict[str, float]:
        """One D step and, after its warm-up, one G step; image latents first when the settings say so."""
        images = step < self.settings.image_updates
        if step == self.settings.image_updates > 0:
            self._enter_video()
        numbers = self._step(self.discriminator_step, self.d_optimizer, 2 * step, batches, images)
        phase_start = 0 if images else self.settings.image_updates
        if step - phase_start >= self.settings.discriminator_warmup:
            numbers |= self._step(self.generator_step, self.g_optimizer, 2 * step + 1, batches, images)
            self.average.update(self.modules["generator"])
        return numbers

    def generator_step(self, x: Tensor, text: Tensor, random: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The generator's loss on one micro-batch; its gradient reaches G through all of D, and D is left alone."""
        fake = self.generate(self.generator, self._noise(x, random), text)
        t = self._timesteps(x, random)
        self.modules["discriminator"].requires_grad_(False)
        fake_logits = self.modules["discriminator"](fake, t, text)
        with torch.no_grad():
            real_logits = self.modules["discriminator"](x, t, text)
        loss = self.g_loss(real_logits, fake_logits)
        return loss, {"generator_loss": loss.item()}

    def discriminator_step(self, x: Tensor, text: Tensor, random: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The discriminator's loss on one micro-batch: all its inputs in one forward, split afterwards; G is left alone."""
        s = self.settings
        with torch.no_grad():
            fake = self.generate(self.generator, self._noise(x, random), text)
        t = self._timesteps(x, random)
        _trainable(self.modules["discriminator"])
        part = math.ceil(s.penalty_share * len(x))
        penalised = [(name, clips) for name, strength, clips in (("r1", s.r1, x), ("r2", s.r2, fake)) if strength]
        inputs = [x, fake] + [clips[:part] + s.sigma * self._noise(clips[:part], random) for _, clips in penalised]
        rows = torch.cat([torch.arange(len(clips), device=x.device) for clips in inputs])
        logits = self.discriminator(torch.cat(inputs), t[rows], text[rows]).split([len(clips) for clips in inputs])
        real, fake_logits, *perturbed = logits
        loss = adversarial = self.d_loss(real, fake_logits)
        numbers = {"discriminator_loss": adversarial.item(), "logit_gap": (real - fake_logits).mean().item()}
        for (name, _), noisy in zip(penalised, perturbed, strict=True):
            clean = {"r1": real, "r2": fake_logits}[name][:part]
            penalty = approximated_penalty(clean, noisy, s.sigma)
            loss = loss + {"r1": s.r1, "r2": s.r2}[name] * penalty
            numbers[f"penalty_{name}"] = penalty.item()
        if s.centring:
            loss = loss + s.centring * centring(real, fake_logits)
        return loss, numbers

    def generate(self, generator: torch.nn.Module, noise: Tensor, text: Tensor) -> Tensor:
        """`G(z, c)`: one forward at t = 1 without guidance (APT equation 1)."""
        return predict_sample(generator, noise, torch.ones(len(noise), device=noise.device), text, self.form)

    @torch.no_grad()
    def preview(self) -> Tensor:
        """One-step samples of the averaged generator for the sample sheet."""
        averaged = copy.deepcopy(self.modules["generator"])
        self.average.copy_to(averaged)
        return self.generate(averaged, *self._preview)

    def _step(self, loss_of: LossOf, optimizer: Any, draw: int, batches: Batches, images: bool) -> dict[str, float]:
        def loss(x: Tensor, text: Tensor, random: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            return loss_of(x[:, :, :1] if images else x, text, random)

        models = (self.generator, self.discriminator)
        return accumulated(loss, models, optimizer, self.accelerator, batches, draw, self.settings.accumulate)

    def _enter_video(self) -> None:
        """Between images and video: the averaged generator goes on, the discriminator starts again from the base (APT 3.4)."""
        self.average.copy_to(self.modules["generator"])
        self.average.updates = 0
        torch.manual_seed(self.settings.seed + 1)
        fresh = self._new_discriminator()
        self.modules["discriminator"].load_state_dict(fresh.state_dict())
        for optimizer in self.optimizers.values():
            optimizer.state.clear()

    def _new_discriminator(self) -> Discriminator:
        return Discriminator(copy.deepcopy(self.backbone).train(), self.settings.heads)

    def _timesteps(self, x: Tensor, random: torch.Generator) -> Tensor:
        return shift_timesteps(torch.rand(len(x), generator=random), self.settings.timestep_shift).to(x.device)

    def _noise(self, x: Tensor, random: torch.Generator) -> Tensor:
        return torch.randn(x.shape, generator=random).to(x)


def _trained(discriminator: Discriminator) -> list[torch.nn.Parameter]:
    return [p for p in discriminator.parameters() if p.requires_grad]


def _trainable(discriminator: Discriminator) -> None:
    discriminator.requires_grad_(True)
    backbone = discriminator.backbone
    backbone.proj_out.requires_grad_(False)
    backbone.scale_shift_table.requires_grad_(False)


def train_adversarial(
    latents: Path,
    base: Path,
    consistency: Path,
    out: Path,
    discriminator_out: Path,
    curves: Path,
    settings: AdversarialSettings,
) -> None:
    """The `adversarial` stage: latents, base and consistency model → the one-step pipeline folder and its discriminator.

    Raises `LatentsError` when the latents were made by another base, `ResumeRefused`, `TrainingFailed`.
    """
    stage = open_stage("adversarial", latents, {"base": base, "consistency": consistency}, settings, curves)
    accelerator = make_accelerator(settings.precision, settings.accumulate)
    student = load_pipeline(consistency).to(accelerator.device)
    preview = stage.preview(student, seeded(settings.seed, "preview"))
    method = Adversarial(student, load_pipeline(base).to(accelerator.device), settings, accelerator, preview)
    plan = stage.plan(student.decode_video)
    run(method, Batches(stage.training, settings.batch, accelerator, settings.seed), plan, accelerator)
    if accelerator.is_main_process:
        with replacing_folder(discriminator_out) as partial:
            save_file(method.modules["discriminator"].state_dict(), partial / "discriminator.safetensors")
    save_model(student, method.average, method.modules["generator"], plan, accelerator, out, stage)
