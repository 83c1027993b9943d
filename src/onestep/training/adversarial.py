"""Adversarial post-training (APT, arXiv 2501.08316, section 3.3): one-step generator against real clips.

The G step and the D step stand side by side in `Adversarial`. Deviations from the paper, each a setting: relativistic
pairing and R2 beside R1 (R3GAN arXiv 2501.05441, SeedVR2 arXiv 2506.05301), penalties on a part of the batch, logit
centring, augmentation and end game (AFM arXiv 2511.22475), one logit per frame (AAPT arXiv 2506.09350), a contrastive
text term (ARC arXiv 2505.08175), several EMAs at once. The penalty is divided by σ²; RMSProp is Adam(0, 0.9), which
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
from onestep.models.ema import EMA
from onestep.models.pipeline import VideoPipeline
from onestep.training.accelerator import attention, make_accelerator
from onestep.training.adversarial_settings import AdversarialSettings
from onestep.training.augmentation import augment
from onestep.training.batches import Batches, seeded
from onestep.training.callbacks.best_checkpoint import BEST, BestCheckpoint
from onestep.training.callbacks.collapse_guard import CollapseGuard
from onestep.training.callbacks.dev_evaluator import DevEvaluator
from onestep.training.denoiser import Denoiser
from onestep.training.losses import LOSSES, approximated_penalty, centring, contrastive, shift_timesteps
from onestep.training.measurement import Measure, Sampler
from onestep.training.negatives import Negatives
from onestep.training.optimizer_step import LossOf, lr_decay, optimizer_step, set_lr_scale
from onestep.training.plan import make_trainer
from onestep.training.stage import load_for_training, open_stage, save_model

BETAS = (0.0, 0.9)
RECORD = "run.json"  # what was measured, chosen and rolled back, in the folder of the curves

MakeMeasure = Callable[[VideoPipeline, LatentSet, AdversarialSettings], Measure]


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
        """preview: noise and text states for `preview`; captions: text states `[N, L, D]` of the training split's distinct
        captions, for the contrastive term.
        """
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
        self.emas: dict[str, Any] = {f"ema-{decay:g}": EMA(generator, decay, warm_up=False) for decay in settings.ema}
        self.snapshots: dict[str, dict[str, Tensor]] = {}
        self.lr_scale = 1.0
        self.negatives = Negatives(captions, settings.contrastive_nearest) if settings.contrastive else None
        self._preview = preview
        self.adversarial_loss = LOSSES[settings.loss]

    def update(self, step: int, batches: Batches) -> dict[str, float]:
        """One D step and, after its warm-up, one G step; image latents first when the settings say so."""
        s = self.settings
        images = step < s.image_updates
        if step == s.image_updates > 0:
            self._enter_video()
        phase_step = step - (0 if images else s.image_updates)
        self._play_end_game(phase_step, images)
        set_lr_scale(self.optimizers.values(), self._lr_scale(phase_step, images))
        numbers = self._step(self.discriminator_step, self.d_optimizer, 2 * step, batches, images)
        if phase_step >= s.discriminator_warmup:
            numbers |= self._step(self.generator_step, self.g_optimizer, 2 * step + 1, batches, images)
            for ema in self.emas.values():
                ema.update(self.modules["generator"])
        return numbers

    def generator_step(self, x: Tensor, text: Tensor, random: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The generator's loss on one micro-batch; its gradient reaches G through all of D, and D is left alone."""
        fake = self.generate(self.generator, self._noise(x, random), text)
        t = self._timesteps(x, random)
        x, fake = self._augmented(x, fake, random)
        self.modules["discriminator"].set_trained(False)
        logits = {"fake": self.modules["discriminator"](fake, t, text)}
        with torch.no_grad():
            needed = self.adversarial_loss.generator_needs_real
            logits["real"] = self.modules["discriminator"](x, t, text) if needed else logits["fake"]
        loss = self.adversarial_loss.generator(logits["real"], logits["fake"])
        return loss, {"generator_loss": loss.item()}

    def discriminator_step(self, x: Tensor, text: Tensor, random: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The discriminator's loss on one micro-batch: all its inputs in one forward, split afterwards; G is left alone."""
        with torch.no_grad():
            fake = self.generate(self.generator, self._noise(x, random), text)
        t = self._timesteps(x, random)
        x, fake = self._augmented(x, fake, random)
        self.modules["discriminator"].set_trained(True)
        logits = self._discriminate(x, fake, t, text, random)
        loss = self.adversarial_loss.discriminator(logits["real"], logits["fake"])
        numbers = {"discriminator_loss": loss.item(), "logit_gap": (logits["real"] - logits["fake"]).mean().item()}
        for name, strength, term in self._regularisers(logits):
            loss = loss + strength * term
            numbers[name] = term.item()
        if self.settings.centring:
            loss = loss + self.settings.centring * centring(logits["real"], logits["fake"])
        return loss, numbers

    def generate(self, generator: torch.nn.Module, noise: Tensor, text: Tensor) -> Tensor:
        """`G(z, c)`: one forward at t = 1 without guidance (APT equation 1)."""
        return Denoiser(generator, self.form).generate(noise, text)

    def samplers(self) -> Mapping[str, Sampler]:
        """One-step samplers of the generator's EMAs, by the EMA's name."""
        return {name: self._sampler(ema) for name, ema in self.emas.items()}

    def preview(self) -> Tensor:
        """One-step samples of the generator's first EMA for the sample sheet."""
        return self._sampler(next(iter(self.emas.values())))(*self._preview)

    def best(self) -> EMA:
        """The weights to save: the best that were put aside (`BestCheckpoint`), else the last of the first EMA."""
        ema = next(iter(self.emas.values()))
        if best := self.snapshots.get(BEST):
            ema.weights = best
        return ema

    def _discriminate(
        self, x: Tensor, fake: Tensor, t: Tensor, text: Tensor, random: torch.Generator
    ) -> dict[str, Tensor]:
        """D's logits of real and fake clips, of the penalties' perturbed copies and of clips with another's caption."""
        s = self.settings
        part, mismatched = (math.ceil(share * len(x)) for share in (s.penalty_share, s.contrastive_share))
        inputs = {"real": x, "fake": fake}
        for name, strength, clips in (("r1", s.r1, x), ("r2", s.r2, fake)):
            if strength:
                inputs[name] = clips[:part] + s.sigma * self._noise(clips[:part], random)
        rows = torch.cat([torch.arange(len(clips), device=x.device) for clips in inputs.values()])
        texts = text[rows]
        if self.negatives:
            inputs["mismatched"], rows = x[:mismatched], torch.cat([rows, rows[:mismatched]])
            texts = torch.cat([texts, self.negatives.draw(text[:mismatched].cpu(), random).to(text)])
        logits = self.discriminator(torch.cat(list(inputs.values())), t[rows], texts)
        return dict(zip(inputs, logits.split([len(clips) for clips in inputs.values()]), strict=True))

    def _regularisers(self, logits: Mapping[str, Tensor]) -> list[tuple[str, float, Tensor]]:
        """Penalties and text term of D's loss: name, strength and value of each."""
        s, terms = self.settings, []
        for name, strength, clean in (("r1", s.r1, "real"), ("r2", s.r2, "fake")):
            if strength:
                part = logits[clean][: len(logits[name])]
                terms.append((f"penalty_{name}", strength, approximated_penalty(part, logits[name], s.sigma)))
        if self.negatives:
            matched = logits["real"][: len(logits["mismatched"])]
            terms.append(("contrastive", s.contrastive, contrastive(matched, logits["mismatched"])))
        return terms

    def _sampler(self, ema: EMA) -> Sampler:
        @torch.no_grad()
        def sample(noise: Tensor, text: Tensor) -> Tensor:
            network = copy.deepcopy(self.modules["generator"]).eval()
            ema.copy_to(network)
            with self.accelerator.autocast():
                return self.generate(network, noise, text)

        return sample

    def _step(self, loss_of: LossOf, optimizer: Any, draw: int, batches: Batches, images: bool) -> dict[str, float]:
        def loss(x: Tensor, text: Tensor, random: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            with attention(self.accelerator.device):
                return loss_of(x[:, :, :1] if images else x, text, random)

        networks = (self.generator, self.discriminator)
        return optimizer_step(loss, networks, [optimizer], self.accelerator, batches, draw, self.settings.accumulate)

    def _lr_scale(self, step: int, images: bool) -> float:
        s = self.settings
        updates = s.image_updates if images else s.updates
        scale = self.lr_scale * lr_decay(step, updates, s.lr_decay)
        if not images and s.end_game and step >= updates - s.end_game:
            scale *= s.end_game_lr_scale
        return scale

    def _play_end_game(self, step: int, images: bool) -> None:
        """AFM's end game: the EMA goes on as the generator against an earlier discriminator, at a lower learning rate.

        Earlier is half of the way to the end game. The EMA is the best that was put aside, else the first.
        """
        if images or not self.settings.end_game:
            return
        begins = self.settings.updates - self.settings.end_game
        if step == begins // 2:
            self.snapshots["discriminator"] = {
                k: v.clone() for k, v in self.modules["discriminator"].state_dict().items()
            }
        if step == begins:
            ema = copy.copy(next(iter(self.emas.values())))
            ema.weights = self.snapshots.get(BEST, ema.weights)
            ema.copy_to(self.modules["generator"])
            self.modules["discriminator"].load_state_dict(self.snapshots.pop("discriminator"))
            for optimizer in self.optimizers.values():
                optimizer.state.clear()

    def _enter_video(self) -> None:
        """Between images and video: the EMA goes on as the generator, the discriminator starts again from the base (APT 3.4)."""
        next(iter(self.emas.values())).copy_to(self.modules["generator"])
        for ema in self.emas.values():
            ema.restart(self.modules["generator"])
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

    def _augmented(self, x: Tensor, fake: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """A pair as the discriminator gets it."""
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
    make_measure: MakeMeasure | None = None,
) -> None:
    """The `adversarial` stage: latents, base and consistency model → the one-step pipeline folder and its discriminator.

    make_measure: makes what measures samples while it trains; without it the last EMA is saved and no guard steps in.
    Raises `LatentsError` when the latents were made by another base, `ResumeRefused`, `TrainingFailed`.
    """
    s = settings
    stage = open_stage("adversarial", latents, {"base": base, "consistency": consistency}, s, curves)
    accelerator = make_accelerator(s.precision, s.accumulate)
    student, teacher = load_for_training(consistency, accelerator), load_for_training(base, accelerator)
    preview = stage.preview(student, seeded(s.seed, "preview"))
    captions = stage.training.text(sorted(set(stage.training.rows.caption)))
    best, guard = BestCheckpoint(s.select, s.certainty, s.guard.floor), CollapseGuard(s.guard)
    callbacks = []
    if make_measure:
        measure = make_measure(student, stage.dev, s)
        callbacks = [best, guard, DevEvaluator(measure, s.evaluate_every, freeze_steps=s.discriminator_warmup)]
    method = Adversarial(student, teacher, s, accelerator, preview, captions)
    plan = stage.plan(student.decode_video)
    batches = Batches(stage.training, s.batch, accelerator, s.seed)
    make_trainer(plan, accelerator, callbacks).fit(method, batches)
    if accelerator.is_main_process:
        with replacing_folder(discriminator_out) as partial:
            save_file(method.modules["discriminator"].state_dict(), partial / "discriminator.safetensors")
        write_json(curves / RECORD, best.record() | guard.record() if callbacks else {})
    save_model(student, method.best(), method.modules["generator"], plan, accelerator, out, stage)
