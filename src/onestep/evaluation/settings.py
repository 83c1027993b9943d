"""The settings of intervals and pictures of the report."""

from typing import Annotated

from onestep.core.settings import Settings
from onestep.core.values import Seed, Url, within


class EvaluateSettings(Settings):
    """Intervals and pictures of the report."""

    resamples: Annotated[int, within(10, 1_000_000, "an interval of fewer resamples has no ends")]
    confidence: Annotated[
        float, within(0.5, 0.9999, "the share of an interval that may be wrong is small, and not none")
    ]
    seed: Seed
    gallery: Annotated[int, within(1, 1000, "rows of videos of one page")]
    text_model: Url | None
