"""An eye on a run: looks at samples on the dev split, keeps the best, and rolls a collapse back.

Losses that look healthy prove nothing (a port with fine losses went from FID 31 to 341), so what counts here is measured
on samples. The measuring itself is handed in: training knows no metric but by name. Everything drawn for it comes from
generators of its own, so that a watched run makes the same updates as an unwatched one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from onestep.training.adversarial_settings import GuardSettings

Generate = Callable[[Tensor, Tensor], Tensor]  # noise [N, C, T, H, W] and text states [N, L, D] → clean latents
Tensors = dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Seen:
    """What was measured of samples: each metric, and its values `[R]` on resampled prompts, the same ones at every look."""

    metrics: dict[str, float]  # by name; `diversity` and `motion` as shares of the real clips'
    resampled: dict[str, np.ndarray] = field(default_factory=dict)  # the value itself where none


Measure = Callable[[Generate], Seen]


class NothingToSelectBy(RuntimeError):
    """The samples have none of the metrics that the best is chosen by; the message names those that they have."""


class Watched(Protocol):
    """What a method must offer to be watched."""

    rate: float

    def generators(self) -> Mapping[str, Generate]:
        """One-step samplers by the name of their weights: one for each average."""
        ...


@dataclass
class Watch:
    """What is looked at and when, and what was seen and done so far."""

    measure: Measure
    every: int  # updates between two looks
    select: Mapping[str, float]  # weights of the metrics; the lowest weighted sum is the best
    certainty: float  # share of the resamples that must agree before something takes the best's place
    guard: GuardSettings
    still: int = 0  # first updates, which leave the averages as they were: nothing to look at
    best: dict[str, Any] | None = None  # step, name of the average, metrics and score
    best_resampled: list[float] = field(default_factory=list)  # scores of the best on resampled prompts
    events: list[dict[str, Any]] = field(default_factory=list)
    looks: list[dict[str, Any]] = field(default_factory=list)
    unmeasured: list[str] = field(default_factory=list)  # metrics of `select` that these samples do not have
    good_step: int = 0
    rollbacks: int = 0

    def due(self, step: int, last: bool) -> bool:
        """Whether update `step` ends with a look."""
        return step > self.still and (last or step % self.every == 0)

    def look(self, step: int, method: Watched) -> tuple[bool, str | None]:
        """Measure every average's samples: whether one of them is the best so far, and what is wrong, or None.

        Raises `NothingToSelectBy` when the samples have none of the metrics of `select`.
        """
        improved, trouble = False, None
        averages = list(method.generators().items())
        for name, generate in averages if step else averages[:1]:  # at the start they are all alike
            seen = self.measure(generate)
            metrics, weights = seen.metrics, {m: w for m, w in self.select.items() if m in seen.metrics}
            self.unmeasured = [metric for metric in self.select if metric not in metrics]
            if not weights:
                raise NothingToSelectBy(
                    f"adversarial.select: none of {', '.join(self.select) or 'no metric'} can be measured on this footage; "
                    f"what can: {', '.join(metrics)}"
                )
            score = sum(weight * metrics[metric] for metric, weight in weights.items())
            resampled = sum(w * np.atleast_1d(seen.resampled.get(m, metrics[m])) for m, w in weights.items())
            share = 1.0 if self.best is None else float(np.mean(resampled < np.array(self.best_resampled)))
            self.looks.append({"step": step, "average": name, "score": score, "better": share, **metrics})
            wrong = self._too_little(metrics)
            trouble = trouble or wrong
            if self.best is None or (share >= self.certainty and not wrong):
                self.best, improved = {"step": step, "average": name, "score": score, "metrics": metrics}, True
                self.best_resampled = np.atleast_1d(resampled).tolist()
        return improved, trouble

    def trouble(self, history: Sequence[Mapping[str, float]]) -> str | None:
        """What the losses say is wrong, or None: not finite, one-sided, or a gap beyond its limit that still grows."""
        last = history[-1]
        for name, value in last.items():
            if not torch.isfinite(torch.tensor(value)):
                return f"{name} is not finite"
        window = self.guard.window
        if len(history) - self.good_step < 2 * window:
            return None
        loss, gap, gap_before = (
            _mean(history[start:end], key)
            for key, start, end in (
                ("discriminator_loss", -window, None),
                ("logit_gap", -window, None),
                ("logit_gap", -2 * window, -window),
            )
        )
        if loss is not None and loss < self.guard.one_sided:
            return f"the discriminator is one-sided: its loss {loss:.3g} is below {self.guard.one_sided:g}"
        if gap is not None and gap_before is not None and gap > self.guard.gap and gap > gap_before:
            return f"the logit gap {gap:.3g} is above {self.guard.gap:g} and growing"
        return None

    def collapsed(self, step: int, reason: str, method: Watched) -> bool:
        """Note a collapse; true where the run goes back to its last good state at a lower rate, false where it ends."""
        again = self.rollbacks < self.guard.rollbacks
        if again:
            self.rollbacks += 1
            method.rate = self.guard.rate_factor**self.rollbacks
        self.events.append(
            {
                "step": step,
                "reason": reason,
                "action": f"rolled back to update {self.good_step}" if again else "stopped",
                "rate": method.rate,
            }
        )
        return again

    def record(self) -> dict[str, Any]:
        """Everything seen and done, for the run's record."""
        return {"best": self.best, "events": self.events, "looks": self.looks, "unmeasured": self.unmeasured}

    def progress(self) -> dict[str, Any]:
        """What a resume needs beside the tensors."""
        return self.record() | {
            "best_resampled": self.best_resampled,
            "good_step": self.good_step,
            "rollbacks": self.rollbacks,
        }

    def restore(self, progress: Mapping[str, Any]) -> None:
        """The inverse of `progress`."""
        for name, value in progress.items():
            setattr(self, name, value)

    def _too_little(self, metrics: Mapping[str, float]) -> str | None:
        for name in ("diversity", "motion"):
            share = metrics.get(name)
            if share is not None and share < self.guard.floor:
                return f"{name} {share:.2f} of the real clips' is below {self.guard.floor:g}"
        return None


def _mean(history: Sequence[Mapping[str, float]], key: str) -> float | None:
    values = [numbers[key] for numbers in history if key in numbers]
    return sum(values) / len(values) if values else None
