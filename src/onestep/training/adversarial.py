"""Adversarial post-training (APT, arXiv 2501.08316, section 3.3): one-step generator against real clips.

The G step and the D step stand side by side in `Adversarial`. Deviations from the paper, each a setting: relativistic
pairing and R2 beside R1 (R3GAN arXiv 2501.05441, SeedVR2 arXiv 2506.05301), penalties on a part of the batch, logit
centring, augmentation and end game (AFM arXiv 2511.22475), one logit per frame (AAPT arXiv 2506.09350), a contrastive
text term (ARC arXiv 2505.08175), several averages at once. The penalty is divided by σ²; RMSProp is Adam(0, 0.9), which
has the bias correction that PyTorch's RMSprop lacks.
"""

import copy
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor

from onestep.core.storage import replacing_folder, write_json
from onestep.data.latents import LatentSet
from onestep.models.discriminator import Discriminator
from onestep.models.ema import Average
from onestep.models.pipeline import VideoPipeline, load_pipeline, predict_sample
from onestep.training.adversarial_settings import AdversarialSettings
from onestep.training.augmentation import augment
from onestep.training.losses import LOSSES, approximated_penalty, centring, contrastive, shift_timesteps
from onestep.training.negatives import Negatives
from onestep.training.stage import open_stage, save_model
from onestep.training.trainer import Batches, LossOf, accumulated, cooled, make_accelerator, run, seeded, set_rates
from onestep.training.watch import Generate, Measure, Watch

BETAS = (0.0, 0.9)
EVENTS = "run.json"

WatchWith = Callable[[VideoPipeline, LatentSet, AdversarialSettings], Measure]


class Adversarial:
    """The method of the `adversarial` stage: generator from the consistency model, discriminator from the base."""

    def __init__(
        self,
        student: VideoPipeline,
        base: VideoPipeline,
        settings: AdversarialSettings,
        accelerator: Accelerator,
        preview: tuple[Tensor, Tensor],
        captions: Tensor,
    ) -> None:
        """captions: text states `[N, L, D]` of the training split's distinct captions, for the contrastive term."""
        self.settings, self.accelerator, self.form = settings, accelerator, student.form
        self.backbone = base.transformer
        generator = student.transformer.train().requires_grad_(True)
        torch.manual_seed(settings.seed)
        discriminator = self._new_discriminator()
        g_optimizer = torch.optim.Adam(generator.parameters(), settings.generator_lr, BETAS, fused=True)
        trained = [p for p in discriminator.parameters() if p.requires_grad]
        d_optimizer = torch.optim.Adam(trained, settings.discriminator_lr, BETAS, fused=True)
        self.generator, self.discriminator, self.g_optimizer, self.d_optimizer = accelerator.prepare(
            generator, discriminator, g_optimizer, d_optimizer
        )
        self.modules: dict[str, Any] = {"generator": generator, "discriminator": discriminator}
        self.optimizers: dict[str, Any] = {"generator": g_optimizer, "discriminator": d_optimizer}
        self.averages: dict[str, Any] = {
            f"ema-{decay:g}": Average(generator, decay, warm_up=False) for decay in settings.ema
        }
        self.snapshots: dict[str, dict[str, Tensor]] = {}
        self.rate = 1.0
        self.negatives = Negatives(captions, settings.contrastive_nearest) if settings.contrastive else None
        self._preview = preview
        self.d_loss, self.g_loss = LOSSES[settings.loss]

    def update(self, step: int, batches: Batches) -> dict[str, float]:
        """One D step and, after its warm-up, one G step; image latents first when the settings say so."""
        s = self.settings
        images = step < s.image_updates
        if step == s.image_updates > 0:
            self._enter_video()
        phase_step = step - (0 if images else s.image_updates)
        self._play_end_game(phase_step, images)
        self._set_rates(phase_step, s.image_updates if images else s.updates, images)
        numbers = self._step(self.discriminator_step, self.d_optimizer, 2 * step, batches, images)
        if phase_step >= s.discriminator_warmup:
            numbers |= self._step(self.generator_step, self.g_optimizer, 2 * step + 1, batches, images)
            for average in self.averages.values():
                average.update(self.modules["generator"])
        return numbers

    def generator_step(self, x: Tensor, text: Tensor, random: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The generator's loss on one micro-batch; its gradient reaches G through all of D, and D is left alone."""
        fake = self.generate(self.generator, self._noise(x, random), text)
        t = self._timesteps(x, random)
        x, fake = self._shown(x, fake, random)
        self.modules["discriminator"].set_trained(False)
        fake_logits = self.modules["discriminator"](fake, t, text)
        with torch.no_grad():
            needed = self.settings.loss == "relativistic"
            real_logits = self.modules["discriminator"](x, t, text) if needed else fake_logits
        loss = self.g_loss(real_logits, fake_logits)
        return loss, {"generator_loss": loss.item()}

    def discriminator_step(self, x: Tensor, text: Tensor, random: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The discriminator's loss on one micro-batch: all its inputs in one forward, split afterwards; G is left alone."""
        s = self.settings
        with torch.no_grad():
            fake = self.generate(self.generator, self._noise(x, random), text)
        t = self._timesteps(x, random)
        x, fake = self._shown(x, fake, random)
        self.modules["discriminator"].set_trained(True)
        part = math.ceil(s.penalty_share * len(x))
        penalised = [(name, clips) for name, strength, clips in (("r1", s.r1, x), ("r2", s.r2, fake)) if strength]
        inputs = [x, fake] + [clips[:part] + s.sigma * self._noise(clips[:part], random) for _, clips in penalised]
        rows = torch.cat([torch.arange(len(clips), device=x.device) for clips in inputs])
        texts = text[rows]
        if self.negatives:
            mismatched = math.ceil(s.contrastive_share * len(x))
            inputs, rows = [*inputs, x[:mismatched]], torch.cat([rows, rows[:mismatched]])
            texts = torch.cat([texts, self.negatives.draw(text[:mismatched].cpu(), random).to(text)])
        logits = self.discriminator(torch.cat(inputs), t[rows], texts).split([len(clips) for clips in inputs])
        real, fake_logits, *others = logits
        loss = adversarial = self.d_loss(real, fake_logits)
        numbers = {"discriminator_loss": adversarial.item(), "logit_gap": (real - fake_logits).mean().item()}
        for (name, _), noisy in zip(penalised, others, strict=False):
            clean = {"r1": real, "r2": fake_logits}[name][:part]
            penalty = approximated_penalty(clean, noisy, s.sigma)
            loss = loss + {"r1": s.r1, "r2": s.r2}[name] * penalty
            numbers[f"penalty_{name}"] = penalty.item()
        if self.negatives:
            term = contrastive(real[:mismatched], others[-1])
            loss = loss + s.contrastive * term
            numbers["contrastive"] = term.item()
        if s.centring:
            loss = loss + s.centring * centring(real, fake_logits)
        return loss, numbers

    def generate(self, generator: torch.nn.Module, noise: Tensor, text: Tensor) -> Tensor:
        """`G(z, c)`: one forward at t = 1 without guidance (APT equation 1)."""
        return predict_sample(generator, noise, torch.ones(len(noise), device=noise.device), text, self.form)

    def generators(self) -> Mapping[str, Generate]:
        """One-step samplers of the averaged generators, by the average's name."""
        return {name: self._averaged(average) for name, average in self.averages.items()}

    def preview(self) -> Tensor:
        """One-step samples of the generator's first average for the sample sheet."""
        return self._averaged(next(iter(self.averages.values())))(*self._preview)

    def kept(self) -> Average:
        """The average whose weights are saved: the best that a watch found, else the last of the first one."""
        average = next(iter(self.averages.values()))
        if best := self.snapshots.get("best"):
            average.weights = best
        return average

    def _averaged(self, average: Average) -> Generate:
        @torch.no_grad()
        def generate(noise: Tensor, text: Tensor) -> Tensor:
            network = copy.deepcopy(self.modules["generator"]).eval()
            average.copy_to(network)
            with self.accelerator.autocast():
                return self.generate(network, noise, text)

        return generate

    def _step(self, loss_of: LossOf, optimizer: Any, draw: int, batches: Batches, images: bool) -> dict[str, float]:
        def loss(x: Tensor, text: Tensor, random: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            return loss_of(x[:, :, :1] if images else x, text, random)

        models = (self.generator, self.discriminator)
        return accumulated(loss, models, (optimizer,), self.accelerator, batches, draw, self.settings.accumulate)

    def _set_rates(self, step: int, updates: int, images: bool) -> None:
        s = self.settings
        factor = self.rate * cooled(step, updates, s.cooldown)
        if not images and s.end_game and step >= updates - s.end_game:
            factor *= s.end_game_rate
        set_rates(self.optimizers, {"generator": s.generator_lr, "discriminator": s.discriminator_lr}, factor)

    def _play_end_game(self, step: int, images: bool) -> None:
        """AFM's end game: the averaged generator goes on against an earlier discriminator, at a lower rate.

        Earlier is half of the way to the end game. The average is the best that a watch found, else the first.
        """
        if images or not self.settings.end_game:
            return
        begins = self.settings.updates - self.settings.end_game
        if step == begins // 2:
            self.snapshots["discriminator"] = {
                k: v.clone() for k, v in self.modules["discriminator"].state_dict().items()
            }
        if step == begins:
            copied = copy.copy(next(iter(self.averages.values())))
            copied.weights = self.snapshots.get("best", copied.weights)
            copied.copy_to(self.modules["generator"])
            self.modules["discriminator"].load_state_dict(self.snapshots.pop("discriminator"))
            for optimizer in self.optimizers.values():
                optimizer.state.clear()

    def _enter_video(self) -> None:
        """Between images and video: the averaged generator goes on, the discriminator starts again from the base (APT 3.4)."""
        next(iter(self.averages.values())).copy_to(self.modules["generator"])
        for average in self.averages.values():
            average.restart(self.modules["generator"])
        torch.manual_seed(self.settings.seed + 1)
        fresh = self._new_discriminator()
        self.modules["discriminator"].load_state_dict(fresh.state_dict())
        for optimizer in self.optimizers.values():
            optimizer.state.clear()

    def _new_discriminator(self) -> Discriminator:
        s = self.settings
        return Discriminator(
            copy.deepcopy(self.backbone).train(), self.form.family, s.heads, s.frame_logits, s.train_backbone
        )

    def _shown(self, x: Tensor, fake: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """What D sees of a pair."""
        if not self.settings.augmentation:
            return x, fake
        real, generated = augment([x, fake], self.settings.augmentation, random)
        return real, generated

    def _timesteps(self, x: Tensor, random: torch.Generator) -> Tensor:
        return shift_timesteps(torch.rand(len(x), generator=random), self.settings.timestep_shift).to(x.device)

    def _noise(self, x: Tensor, random: torch.Generator) -> Tensor:
        return torch.randn(x.shape, generator=random).to(x)


def train_adversarial(
    latents: Path,
    base: Path,
    consistency: Path,
    out: Path,
    discriminator_out: Path,
    curves: Path,
    settings: AdversarialSettings,
    watch_with: WatchWith | None = None,
) -> None:
    """The `adversarial` stage: latents, base and consistency model → the one-step pipeline folder and its discriminator.

    watch_with: makes what measures samples while it trains; without it the last average is kept and nothing guards.
    Raises `LatentsError` when the latents were made by another base, `ResumeRefused`, `TrainingFailed`.
    """
    stage = open_stage("adversarial", latents, {"base": base, "consistency": consistency}, settings, curves)
    accelerator = make_accelerator(settings.precision, settings.accumulate)
    student = load_pipeline(consistency).to(accelerator.device)
    preview = stage.preview(student, seeded(settings.seed, "preview"))
    watch = None
    if watch_with:
        measure = watch_with(student, stage.dev, settings)
        still = settings.discriminator_warmup
        watch = Watch(
            measure, settings.evaluate_every, settings.select, settings.certainty, settings.guard, still=still
        )
    captions = stage.training.text(sorted(set(stage.training.rows.caption)))
    teacher = load_pipeline(base).to(accelerator.device)
    method = Adversarial(student, teacher, settings, accelerator, preview, captions)
    plan = stage.plan(student.decode_video)
    run(method, Batches(stage.training, settings.batch, accelerator, settings.seed), plan, accelerator, watch)
    if accelerator.is_main_process:
        with replacing_folder(discriminator_out) as partial:
            save_file(method.modules["discriminator"].state_dict(), partial / "discriminator.safetensors")
        write_json(curves / EVENTS, watch.record() if watch else {})
    save_model(student, method.kept(), method.modules["generator"], plan, accelerator, out, stage)
