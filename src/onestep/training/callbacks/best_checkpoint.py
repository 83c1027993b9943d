"""The best weights of a run are put aside, by the metrics of their samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from onestep.training.callbacks.collapse_guard import below_floor
from onestep.training.measurement import Evaluation
from onestep.training.state import Groups, copied
from onestep.training.trainer import Callback, Trainer

BEST = "best"  # the snapshot of the method that holds the best weights


class NothingToSelectBy(RuntimeError):
    """The samples have none of the metrics that the best is chosen by; the message names those that they have."""


class BestCheckpoint(Callback):
    """Puts the weights of the lowest weighted sum of metrics into the method's snapshot `best`."""

    def __init__(self, select: Mapping[str, float], certainty: float, floor: float) -> None:
        """select: weights of the metrics; certainty: share of the resamples that must agree before something takes the
        best's place; floor: diversity and motion below this share of the real clips' are never the best.
        """
        self.select, self.certainty, self.floor = select, certainty, floor
        self.best: dict[str, Any] | None = None  # step, name of the EMA, metrics and score
        self.best_resampled: list[float] = []  # scores of the best on resampled prompts
        self.evaluations: list[dict[str, Any]] = []
        self.unmeasured: list[str] = []  # metrics of `select` that these samples do not have
        self._weights: dict[str, Tensor] | None = None

    def on_train_start(self, trainer: Trainer) -> None:
        """Know the best again after a resume."""
        self._weights = trainer.method.snapshots.get(BEST)

    def on_evaluate_end(self, trainer: Trainer, evaluations: Sequence[Evaluation]) -> None:
        """Score each EMA; raises `NothingToSelectBy` when the samples have none of the metrics of `select`."""
        first = not self.evaluations
        better = [evaluation.ema for evaluation in evaluations if self.consider(evaluation)]
        if better:
            self._weights = copied({BEST: trainer.method.emas[better[-1]].weights})[BEST]
            trainer.method.snapshots[BEST] = self._weights
        if first and self.unmeasured:
            trainer.accelerator.print(
                f"{trainer.name}: evaluations go without {', '.join(self.unmeasured)}: not measurable on this footage"
            )

    def on_rollback(self, trainer: Trainer) -> None:
        """Keep the best across a rollback."""
        if self._weights is not None:
            trainer.method.snapshots[BEST] = self._weights

    def consider(self, evaluation: Evaluation) -> bool:
        """Note an evaluation; whether it is the best so far."""
        metrics, resampled = evaluation.measured.metrics, evaluation.measured.resampled
        weights = {name: weight for name, weight in self.select.items() if name in metrics}
        self.unmeasured = [name for name in self.select if name not in metrics]
        if not weights:
            raise NothingToSelectBy(
                f"adversarial.select: none of {', '.join(self.select) or 'no metric'} can be measured on this footage; "
                f"what can: {', '.join(metrics)}"
            )
        score = sum(weight * metrics[name] for name, weight in weights.items())
        scores = sum(weight * np.atleast_1d(resampled.get(name, metrics[name])) for name, weight in weights.items())
        share = 1.0 if self.best is None else float(np.mean(scores < np.array(self.best_resampled)))
        seen = {"step": evaluation.step, "ema": evaluation.ema, "score": score}
        self.evaluations.append({**seen, "better": share, **metrics})
        if self.best is not None and (share < self.certainty or below_floor(metrics, self.floor)):
            return False
        self.best, self.best_resampled = {**seen, "metrics": metrics}, np.atleast_1d(scores).tolist()
        return True

    def record(self) -> dict[str, Any]:
        """What was measured and chosen, for the run's record."""
        return {"best": self.best, "evaluations": self.evaluations, "unmeasured": self.unmeasured}

    def state(self) -> tuple[dict[str, Any], Groups]:
        """The record, and the scores of the best; its weights are the method's."""
        return self.record() | {"best_resampled": self.best_resampled}, {}

    def restore(self, progress: dict[str, Any], groups: Groups) -> None:
        """The inverse of `state`."""
        for name, value in progress.items():
            setattr(self, name, value)
