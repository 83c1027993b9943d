"""Training ends at the first number that is not finite."""

import math
from collections.abc import Mapping

from onestep.training.trainer import Callback, Trainer, TrainingFailed


class RequireFinite(Callback):
    """Raises `TrainingFailed` where a loss is not finite; for runs that no `CollapseGuard` rolls back."""

    def on_update_end(self, trainer: Trainer) -> None:
        """Check the numbers of the last update."""
        if reason := not_finite(trainer.history[-1]):
            raise TrainingFailed(f"{trainer.name}: {reason} at update {trainer.step - 1}: lower the learning rate")


def not_finite(numbers: Mapping[str, float]) -> str | None:
    """Which of the numbers are not finite, as a sentence; None where all are."""
    wrong = [name for name, value in numbers.items() if not math.isfinite(value)]
    return f"{', '.join(wrong)} is not finite" if wrong else None
