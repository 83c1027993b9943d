"""The names that settings may use for what the evaluation measures and samples, without importing any of it.

Tests hold them against the evaluation's own: `metrics.METRICS`, what `development` measures, and `sampling.teacher_settings`.
"""

from collections.abc import Sequence

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
LOOKED_AT = (  # while the adversarial stage trains
    "frechet_video_distance",
    "patch_frechet_distance",
    "attribute_accuracy",
    "fidelity",
    "motion",
    "structural_stability",
    "diversity",
)
OTHER_ROWS = ("consistency", "real-vae", "real")  # that every report has beside the teacher's


def teacher_row(steps: int, guidance: float) -> str:
    """What the teacher is called at one setting: `teacher-25`, `teacher-25-g4` (steps, guidance)."""
    return f"teacher-{steps}" + ("" if guidance == 1.0 else f"-g{guidance:g}")


def rows(teacher: Sequence[tuple[int, float]]) -> list[str]:
    """The rows that a candidate can be held against, the teacher's first."""
    return [*(teacher_row(steps, guidance) for steps, guidance in teacher), *OTHER_ROWS]
