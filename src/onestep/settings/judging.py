"""The settings of what comes after training: samples, the report, speed, the gate, and when a night trains."""

from collections.abc import Iterator
from typing import Annotated

from onestep.settings.loader import Settings
from onestep.settings.values import (
    Batch,
    Count,
    CountOrNone,
    Metric,
    Seed,
    Share,
    Teacher,
    Url,
    distinct,
    within,
)


class SamplingSettings(Settings):
    """What is generated for every comparison."""

    prompts: Annotated[int, within(4, 1_000_000, "fewer prompts give no intervals")]
    teacher: Teacher
    batch: Batch

    def with_seed(self, seed: int) -> "SamplesSettings":
        """The settings of one comparison: its seed comes from `data/production.json`, not from here."""
        return SamplesSettings(**self.model_dump(), seed=seed)


class SamplesSettings(SamplingSettings):
    """What is generated for one comparison; the seed is that of the noise and of the choice of prompts."""

    seed: Seed


class EvaluateSettings(Settings):
    """Intervals and pictures of the report."""

    resamples: Annotated[int, within(10, 1_000_000, "an interval of fewer resamples has no ends")]
    confidence: Annotated[
        float, within(0.5, 0.9999, "the share of an interval that may be wrong is small, and not none")
    ]
    seed: Seed
    gallery: Annotated[int, within(1, 1000, "rows of videos of one page")]
    text_model: Url | None


class LatencySettings(Settings):
    """How generation is timed."""

    repeats: Annotated[int, within(1, 100_000, "timed runs of each setting")]
    batch: Batch


class Margin(Settings):
    """How much worse still counts as no worse: in the metric's own unit, or as a share of the other model's value."""

    absolute: Annotated[float, within(0, 1e6, "the metric's unit; more would forgive everything")] | None = None
    relative: Annotated[float, within(0, 100, "a share of the other's value; more would forgive everything")] | None = (
        None
    )

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Both ways to say it, or none."""
        if (self.absolute is None) == (self.relative is None):
            yield (
                "absolute",
                "give either absolute (the metric's unit) or relative (a share), not both and not none",
            )


class GateSettings(Settings):
    """The rules of promotion, as data."""

    alpha: Annotated[float, within(1e-6, 0.499, "a bound on wrong promotions")]
    initial_wealth: Annotated[float, within(1e-9, 0.499, "a part of alpha")]
    training_seeds: Annotated[int, within(1, 1000, "models that are trained alike")]
    min_prompts: CountOrNone
    better_than: Annotated[tuple[str, ...], distinct()]
    better_metrics: Annotated[tuple[Metric, ...], distinct()]
    reference: str
    margins: dict[Metric, Margin]
    floors: dict[Metric, Share]
    min_speedup: Annotated[float, within(1e-3, 1e6, "times as fast as the teacher")]

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """More wealth at the start than there is."""
        if self.initial_wealth > self.alpha:
            yield "initial_wealth", f"initial_wealth must be at most alpha: the nearest legal value is {self.alpha:g}"


class RetrainSettings(Settings):
    """When a night trains."""

    min_new_clips: Count
    on_drift: bool
    max_champion_age_days: Annotated[float, within(1e-3, 36_500, "days; null is any age")] | None
    on_new_recipe: bool
