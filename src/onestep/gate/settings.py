"""The rules of promotion, as data."""

from collections.abc import Iterator
from typing import Annotated

from onestep.core.settings import Settings
from onestep.core.values import CountOrNone, Share, distinct, within
from onestep.evaluation.names import Metric


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
