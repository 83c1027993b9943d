"""A run that collapses goes back to its last good state at a lower learning rate."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from onestep.training.adversarial_settings import GuardSettings
from onestep.training.callbacks.finite import not_finite
from onestep.training.measurement import Evaluation
from onestep.training.state import Groups, copied, state_of
from onestep.training.trainer import Callback, Trainer


class CollapseGuard(Callback):
    """Finds a collapse in the losses after every update, and in the samples' metrics after every evaluation.

    It stands before the evaluator among the callbacks: a run whose losses collapsed is not worth an evaluation.
    """

    def __init__(self, settings: GuardSettings) -> None:
        self.settings = settings
        self.events: list[dict[str, Any]] = []
        self.rollbacks = 0
        self.good_step = 0
        self._good: dict[str, dict[str, Tensor]] = {}

    def on_train_start(self, trainer: Trainer) -> None:
        """The start is good."""
        if trainer.step == 0:
            self._good = copied(state_of(trainer.method))

    def on_update_end(self, trainer: Trainer) -> None:
        """Check the losses."""
        if reason := collapse(trainer.history, self.good_step, self.settings):
            self._collapsed(trainer, reason)

    def on_evaluate_end(self, trainer: Trainer, evaluations: Sequence[Evaluation]) -> None:
        """Check the samples; where all are well, this is the state to go back to."""
        if trainer.step == 0:
            return
        floor = self.settings.floor
        if reasons := [r for e in evaluations if (r := below_floor(e.measured.metrics, floor))]:
            self._collapsed(trainer, reasons[0])
        else:
            self.good_step, self._good = trainer.step, copied(state_of(trainer.method))

    def record(self) -> dict[str, Any]:
        """What was found and done, for the run's record."""
        return {"events": self.events}

    def state(self) -> tuple[dict[str, Any], Groups]:
        """Everything noted, and the last good state."""
        return {"events": self.events, "rollbacks": self.rollbacks, "good_step": self.good_step}, self._good

    def restore(self, progress: dict[str, Any], groups: Groups) -> None:
        """The inverse of `state`."""
        for name, value in progress.items():
            setattr(self, name, value)
        self._good = {name: dict(group) for name, group in groups.items()}

    def _collapsed(self, trainer: Trainer, reason: str) -> None:
        """Note a collapse, and go back at a lower learning rate or, after the last rollback, end the run."""
        step, again = trainer.step, self.rollbacks < self.settings.rollbacks
        trainer.accelerator.print(f"{trainer.name}: {reason} at update {step}")
        if again:
            self.rollbacks += 1
            trainer.method.lr_scale = self.settings.lr_factor**self.rollbacks
            trainer.roll_back(self.good_step, self._good)
        else:
            trainer.accelerator.print(
                f"{trainer.name}: stopped after {self.rollbacks} rollbacks; the best weights are kept"
            )
            trainer.stop()
        action = f"rolled back to update {self.good_step}" if again else "stopped"
        self.events.append({"step": step, "reason": reason, "action": action, "lr_scale": trainer.method.lr_scale})


def collapse(history: Sequence[Mapping[str, float]], good_step: int, settings: GuardSettings) -> str | None:
    """What the losses say is wrong, or None: not finite, one-sided, or a gap beyond its limit that still grows.

    good_step: updates before which nothing counts; windows of losses begin after it.
    """
    if reason := not_finite(history[-1]):
        return reason
    window = settings.window
    if len(history) - good_step < 2 * window:
        return None
    recent, before = history[-window:], history[-2 * window : -window]
    loss, gap, gap_before = _mean(recent, "discriminator_loss"), _mean(recent, "logit_gap"), _mean(before, "logit_gap")
    if loss is not None and loss < settings.one_sided:
        return f"the discriminator is one-sided: its loss {loss:.3g} is below {settings.one_sided:g}"
    if gap is not None and gap_before is not None and gap > settings.gap and gap > gap_before:
        return f"the logit gap {gap:.3g} is above {settings.gap:g} and growing"
    return None


def below_floor(metrics: Mapping[str, float], floor: float) -> str | None:
    """Which of diversity and motion is below this share of the real clips', as a sentence; None where neither is."""
    for name in ("diversity", "motion"):
        share = metrics.get(name)
        if share is not None and share < floor:
            return f"{name} {share:.2f} of the real clips' is below {floor:g}"
    return None


def _mean(history: Sequence[Mapping[str, float]], key: str) -> float | None:
    values = [numbers[key] for numbers in history if key in numbers]
    return sum(values) / len(values) if values else None
