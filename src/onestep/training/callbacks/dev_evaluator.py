"""Samples are measured on the dev split while a generator trains.

Losses that look healthy prove nothing (a port with fine losses went from FID 31 to 341): a run is judged by its samples.
Everything drawn for a measurement comes from generators of its own, so that an evaluated run makes the same updates as
one that is not.
"""

from collections.abc import Mapping
from typing import Protocol, cast

from onestep.training.measurement import Evaluation, Measure, Sampler
from onestep.training.trainer import Callback, Trainer


class Sampled(Protocol):
    """What a method must offer to be evaluated."""

    def samplers(self) -> Mapping[str, Sampler]:
        """One-step samplers by the name of their EMA."""
        ...


class DevEvaluator(Callback):
    """Measures every EMA's samples, and the start's: a stage that does not help shall not harm."""

    def __init__(self, measure: Measure, every: int, freeze_steps: int = 0) -> None:
        """every: updates between two evaluations; freeze_steps: first updates, which leave the EMAs as they were."""
        self.measure, self.every, self.freeze_steps = measure, every, freeze_steps

    def on_train_start(self, trainer: Trainer) -> None:
        """Measure the start, where all EMAs are alike."""
        if trainer.step == 0:
            self._evaluate(trainer, first=1)

    def on_update_end(self, trainer: Trainer) -> None:
        """Measure where it is time, and at the end."""
        step = trainer.step
        if step > self.freeze_steps and (step == trainer.updates or step % self.every == 0):
            self._evaluate(trainer)

    def _evaluate(self, trainer: Trainer, first: int | None = None) -> None:
        samplers = list(cast(Sampled, trainer.method).samplers().items())[:first]
        trainer.evaluated([Evaluation(trainer.step, name, self.measure(sampler)) for name, sampler in samplers])
