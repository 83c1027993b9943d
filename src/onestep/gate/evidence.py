"""What the rules of promotion read and what they return: parsed reports in, one result per thing checked out."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from onestep.evaluation.names import METRICS, Direction, better
from onestep.gate.pin import Pin
from onestep.gate.settings import GateSettings

Outcome = Literal["passed", "held", "failed", "unmeasured"]


class GateError(ValueError):
    """A rule in `params.yaml`, a report or the pin cannot be understood; the message names it."""


@dataclass(frozen=True)
class Evidence:
    """Everything a rule may look at: the parsed reports, the pin, and the metrics of models trained with other seeds."""

    metrics: Mapping[str, Any]
    latency: Mapping[str, Any]
    validation: Mapping[str, Any]
    pin: Pin
    seeds: Mapping[str, Mapping[str, Any]]  # by file name

    @property
    def has_champion(self) -> bool:
        """Whether the run is judged against a champion."""
        return self.pin.champion is not None


@dataclass(frozen=True)
class RuleResult:
    """What one rule saw and decided.

    `observed` with its interval, the `limit` it was held against, the p-value (times the number of metrics tried) with
    the `alpha` offered, and a sentence.
    """

    name: str
    outcome: Outcome
    observed: float | None
    low: float | None
    high: float | None
    limit: float | None
    reason: str
    p_value: float | None = None
    alpha: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the rule was shown to be met."""
        return self.outcome == "passed"


Rule = Callable[[Evidence, GateSettings], Iterable[RuleResult]]


def without_numbers(name: str, outcome: Outcome, reason: str, limit: float | None = None) -> RuleResult:
    """A result that rests on no number."""
    return RuleResult(name, outcome, None, None, None, limit, reason)


def side(low: float, high: float) -> Outcome:
    """Where an interval lies whose right side is zero and above."""
    if low >= 0:
        return "passed"
    return "failed" if high < 0 else "held"


def not_measured(evidence: Evidence, metric: str, name: str) -> RuleResult | None:
    """The result of a rule on a metric that does not exist for this footage, null where it does."""
    reason = evidence.metrics.get("unmeasured", {}).get(metric)
    return None if reason is None else without_numbers(name, "unmeasured", f"{metric} was not measured: {reason}")


def direction(metric: str, key: str) -> Direction:
    """Which way a metric improves; raises `GateError` that names the rule's key when nothing measures the metric."""
    try:
        return better(metric)
    except KeyError as error:
        raise GateError(
            f"params.yaml: {key} names {metric!r}, which is not a metric; known are {', '.join(METRICS)}"
        ) from error


def cell(evidence: Evidence, row: str, metric: str) -> Mapping[str, float] | None:
    """A row's number with its interval, null where `metrics.json` has none."""
    return evidence.metrics.get("models", {}).get(row, {}).get(metric)


def finite(number: Any) -> bool:
    """Whether this is a finite number."""
    return isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
