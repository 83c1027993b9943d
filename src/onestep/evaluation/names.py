"""The names of metrics, questions and rows, and which way a metric improves, without what computes them.

What pages say of a metric is in `report/metric_definitions.py`. Tests hold the names against what is computed.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from onestep.core.values import one_of
from onestep.evaluation.columns import ACCURACY, PER_ATTRIBUTE
from onestep.inference.rows import CEILINGS, CONSISTENCY, teacher_row

Direction = Literal["higher", "lower"]

BETTER: dict[str, Direction] = {
    "frechet_video_distance": "lower",
    "kernel_video_distance": "lower",
    "patch_frechet_distance": "lower",
    ACCURACY: "higher",
    "text_alignment": "higher",
    "structural_stability": "higher",
    "motion": "higher",
    "diversity": "higher",
    "caption_diversity": "higher",
    "mode_coverage": "higher",
    "background_grain": "lower",
}
METRICS = tuple(BETTER)
QUESTIONS = ("fidelity", "structure", "text")  # of a preference


def attribute_of(metric: str) -> str | None:
    """The attribute whose accuracy this metric is, or None."""
    attribute = metric.removeprefix(PER_ATTRIBUTE)
    return attribute if attribute not in ("", metric) else None


def better(metric: str) -> Direction:
    """Which way a metric improves; raises `KeyError` for an unknown one."""
    return "higher" if attribute_of(metric) else BETTER[metric]


# which attributes there are, the footage says: the gate holds a rule on one that was not measured, and names it
Metric = Annotated[str, one_of(METRICS, "a metric", PER_ATTRIBUTE)]
OTHER_ROWS = (CONSISTENCY, *CEILINGS)  # that every report has beside the teacher's


def rows(teacher: Sequence[tuple[int, float]]) -> list[str]:
    """The rows that a candidate can be held against, the teacher's first."""
    return [*(teacher_row(steps, guidance) for steps, guidance in teacher), *OTHER_ROWS]
