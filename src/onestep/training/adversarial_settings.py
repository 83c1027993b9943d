"""The settings of adversarial post-training."""

from collections.abc import Iterator
from typing import Annotated, Literal

from onestep.core.settings import Settings
from onestep.core.values import (
    Batch,
    Count,
    Decay,
    Precision,
    Rate,
    Seed,
    Share,
    Strength,
    Updates,
    UpdatesOrNone,
    distinct,
    one_of,
    within,
)

# what the dev evaluator can measure of samples while the generator trains
DEV_METRICS = (
    "frechet_video_distance",
    "patch_frechet_distance",
    "attribute_accuracy",
    "fidelity",
    "motion",
    "structural_stability",
    "diversity",
)
DevMetric = Annotated[str, one_of(DEV_METRICS, "a metric that is measured while training")]
Micros = Annotated[int, within(1, 65_536, "micro-batches of one step")]
Part = Annotated[float, within(1e-6, 1, "a share that is not empty")]


class GuardSettings(Settings):
    """When a run counts as collapsed, and what is done about it."""

    window: Updates
    one_sided: Annotated[float, within(0, 1000, "a mean loss of the discriminator")]
    gap: Annotated[float, within(1e-9, 1e9, "a mean difference of logits")]
    floor: Share
    rollbacks: Annotated[int, within(0, 1000, "rollbacks of one run")]
    lr_factor: Annotated[float, within(1e-6, 0.999999, "a run that goes back at the same rate would collapse again")]


class AdversarialSettings(Settings):
    """Adversarial post-training against real clips."""

    seed: Seed
    image_updates: UpdatesOrNone
    updates: Updates
    batch: Batch
    accumulate: Micros
    generator_lr: Rate
    discriminator_lr: Rate
    lr_decay: Share
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
    end_game_lr_scale: Annotated[float, within(1e-9, 1, "a factor that lowers the rates")]
    evaluate_every: Updates
    evaluate_clips: Annotated[int, within(8, 1_000_000, "fewer samples give no distance")]
    select: dict[DevMetric, Annotated[float, within(-1e9, 1e9, "the weight of a metric")]]
    certainty: Share
    guard: GuardSettings
    precision: Precision
    samples_every: Updates
    checkpoint_every: Updates

    @property
    def total_updates(self) -> int:
        """Updates of the whole stage, on images first, then on video."""
        return self.updates + self.image_updates

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
