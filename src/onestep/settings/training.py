"""The settings of the two training stages: the few-step start and the adversarial post-training."""

from collections.abc import Iterator
from typing import Annotated, Literal

from onestep.settings.loader import Settings
from onestep.settings.values import (
    Batch,
    Count,
    Decay,
    Guidance,
    LookedAt,
    Optimizer,
    Precision,
    Rate,
    Seed,
    Share,
    Steps,
    Strength,
    Updates,
    UpdatesOrNone,
    distinct,
    nearest_power_of_two,
    within,
)

Micros = Annotated[int, within(1, 65_536, "micro-batches of one step")]
Part = Annotated[float, within(1e-6, 1, "a share that is not empty")]


class MatchingSettings(Settings):
    """Distribution matching after the initialisation's target."""

    updates: UpdatesOrNone
    warmup: UpdatesOrNone
    guidance_scale: Guidance
    token_exchange: Share
    token_dropout: Share
    optimizer: Optimizer
    rate: Rate
    score_rate: Rate

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """A warm-up that is all of the run."""
        if self.updates and self.warmup >= self.updates:
            yield (
                "warmup",
                f"leaves none of {self.updates} updates after it; the nearest legal value is {self.updates - 1}",
            )


class ConsistencySettings(Settings):
    """The few-step initialisation: the base becomes a student that samples in one step, before any GAN."""

    seed: Seed
    target: Literal["consistency", "progressive", "trajectory"]
    updates: Updates
    batch: Batch
    accumulate: Micros
    optimizer: Optimizer
    learning_rate: Rate
    weight_decay: Annotated[float, within(0, 100, "a factor on the weights at each step, times the rate")]
    warmup: UpdatesOrNone
    cooldown: Share
    levels: Annotated[int, within(2, 100_000, "noise levels between clean and noise")]
    pairs: Annotated[int, within(1, 100_000_000, "samples that are held in memory")]
    teacher_steps: Steps
    guidance_scale: Guidance
    depth_repeats: Annotated[int, within(1, 64, "a student this many times as deep as the base")]
    depth_tied: bool
    matching: MatchingSettings
    ema: Decay | None
    precision: Precision
    samples_every: Updates
    checkpoint_every: Updates

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """A warm-up that is longer than the run, levels that do not come down to one step."""
        if self.warmup > self.updates:
            yield (
                "warmup",
                f"is longer than the run of {self.updates} updates; the nearest legal value is {self.updates}",
            )
        if self.target != "progressive":
            return
        if self.levels & (self.levels - 1):
            nearest = nearest_power_of_two(self.levels)
            yield "levels", f"cannot be halved down to 1 (target progressive); the nearest legal value is {nearest}"
        halvings = self.levels.bit_length() - 1
        if self.updates < halvings:
            yield (
                "updates",
                f"are fewer than the {halvings} halvings of {self.levels} levels; the nearest legal value is {halvings}",
            )


class GuardSettings(Settings):
    """When a run counts as collapsed, and what is done about it."""

    window: Updates
    one_sided: Annotated[float, within(0, 1000, "a mean loss of the discriminator")]
    gap: Annotated[float, within(1e-9, 1e9, "a mean difference of logits")]
    floor: Share
    rollbacks: Annotated[int, within(0, 1000, "returns of one run")]
    rate_factor: Annotated[float, within(1e-6, 0.999999, "a return at the same rate would collapse again")]


class AdversarialSettings(Settings):
    """Adversarial post-training against real clips."""

    seed: Seed
    image_updates: UpdatesOrNone
    updates: Updates
    batch: Batch
    accumulate: Micros
    generator_lr: Rate
    discriminator_lr: Rate
    cooldown: Share
    discriminator_warmup: UpdatesOrNone
    loss: Literal["non-saturating", "relativistic"]
    r1: Strength
    r2: Strength
    sigma: Annotated[float, within(1e-6, 100, "noise in latent units, by whose square the penalty is divided")]
    penalty_share: Part
    centring: Strength
    contrastive: Strength
    contrastive_share: Part
    contrastive_nearest: Count | None
    augmentation: Share
    frame_logits: bool
    timestep_shift: Annotated[float, within(1e-3, 1000, "beyond, every timestep is the same one")]
    heads: Annotated[tuple[Annotated[float, within(1e-3, 1, "a fraction of the backbone's depth")], ...], distinct()]
    train_backbone: bool
    ema: Annotated[tuple[Decay, ...], distinct(lambda decay: f"{decay:g}")]
    end_game: UpdatesOrNone
    end_game_rate: Annotated[float, within(1e-9, 1, "a factor that lowers the rates")]
    evaluate_every: Updates
    evaluate_clips: Annotated[int, within(8, 1_000_000, "fewer samples give no distance")]
    select: dict[LookedAt, Annotated[float, within(-1e9, 1e9, "the weight of a metric")]]
    certainty: Share
    guard: GuardSettings
    precision: Precision
    samples_every: Updates
    checkpoint_every: Updates

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Parts of the run that leave nothing of it, a choice by nothing."""
        if self.end_game >= self.updates:
            yield (
                "end_game",
                f"leaves none of {self.updates} updates before it; the nearest legal value is {self.updates - 1}",
            )
        if self.discriminator_warmup > self.updates:
            yield (
                "discriminator_warmup",
                f"is longer than the run of {self.updates} updates; the nearest legal value is {self.updates}",
            )
        if not any(self.select.values()):
            yield "select", "names no metric with a weight: nothing could be chosen; give at least one"
