"""Which of the teacher's settings a candidate is held against."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from onestep.inference.rows import TEACHER

DISTANCE = "frechet_video_distance"
MANY_STEPS = 25  # from here on a teacher's setting is the one that a one-step model is held against


def best_teacher(models: Mapping[str, Mapping[str, Any]], among: Iterable[str] | None = None) -> str | None:
    """The teacher's setting with the lowest finite Fréchet video distance; None where there is none.

    models: of `metrics.json`; among: the rows to choose from, all of the teacher's by default.
    """
    distances = {
        name: models[name].get(DISTANCE, {}).get("value")
        for name in sorted(models if among is None else among)
        if name.startswith(TEACHER)
    }
    finite = {name: value for name, value in distances.items() if value is not None and math.isfinite(value)}
    return min(finite, key=finite.__getitem__, default=None)


def best_of_many_steps(
    models: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Mapping[str, Any]]
) -> str | None:
    """`best_teacher` among the settings of 25 steps and more, or with the most steps where none has so many.

    models, settings: of `metrics.json`.
    """
    steps = {name: settings[name]["steps"] for name in models if name.startswith(TEACHER) and name in settings}
    least = min(MANY_STEPS, max(steps.values(), default=0))
    return best_teacher(models, [name for name, count in steps.items() if count >= least])
