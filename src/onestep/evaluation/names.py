"""The names of metrics and rows that settings may use, without importing what computes them.

Tests hold them against what is computed: `metrics.METRICS` and `sampler.teacher_settings`.
"""

from collections.abc import Sequence
from typing import Annotated

from onestep.core.values import one_of
from onestep.inference.settings import teacher_row

METRICS = (
    "frechet_video_distance",
    "kernel_video_distance",
    "patch_frechet_distance",
    "attribute_accuracy",
    "attribute_accuracy_size",
    "attribute_accuracy_colour",
    "attribute_accuracy_shape",
    "attribute_accuracy_motion",
    "attribute_accuracy_background",
    "text_alignment",
    "structural_stability",
    "motion",
    "diversity",
    "caption_diversity",
    "mode_coverage",
    "background_grain",
)


Metric = Annotated[str, one_of(METRICS, "a metric")]


OTHER_ROWS = ("consistency", "real-vae", "real")  # that every report has beside the teacher's


def rows(teacher: Sequence[tuple[int, float]]) -> list[str]:
    """The rows that a candidate can be held against, the teacher's first."""
    return [*(teacher_row(steps, guidance) for steps, guidance in teacher), *OTHER_ROWS]
