"""The settings of the few-step initialisation and of distribution matching after it."""

from collections.abc import Iterator
from typing import Annotated, Literal

from onestep.core.settings import Settings
from onestep.core.values import (
    Batch,
    Decay,
    Guidance,
    Optimizer,
    Precision,
    Rate,
    Seed,
    Share,
    Steps,
    Updates,
    UpdatesOrNone,
    nearest_power_of_two,
    within,
)

Micros = Annotated[int, within(1, 65_536, "micro-batches of one step")]


class DmdSettings(Settings):
    """Distribution matching distillation (DMD) after the initialisation's target."""

    updates: UpdatesOrNone
    warmup: UpdatesOrNone
    guidance_scale: Guidance
    token_exchange: Share
    token_dropout: Share
    optimizer: Optimizer
    student_lr: Rate
    score_lr: Rate

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
    lr_decay: Share
    levels: Annotated[int, within(2, 100_000, "noise levels between clean and noise")]
    pairs: Annotated[int, within(1, 100_000_000, "samples that are held in memory")]
    teacher_steps: Steps
    guidance_scale: Guidance
    depth_repeats: Annotated[int, within(1, 64, "a student this many times as deep as the base")]
    depth_tied: bool
    dmd: DmdSettings
    ema: Decay | None
    precision: Precision
    samples_every: Updates
    checkpoint_every: Updates

    @property
    def total_updates(self) -> int:
        """Updates of the whole stage, towards the target first, then by DMD."""
        return self.updates + self.dmd.updates

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
