"""The rules of promotion: one pure function each, all of one signature.

A rule looks at the parsed reports and the `gate` settings and yields one result per thing it checks; `gates.py` adds
the results up to a verdict and says what the outcomes mean.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from onestep.config import GateSettings

CANDIDATE = "onestep"
CHAMPION = "champion"
CEILING = "real"

Outcome = Literal["passed", "held", "failed", "unmeasured"]


class GateError(ValueError):
    """A rule in `params.yaml` or a report cannot be understood; the message names it."""


@dataclass(frozen=True)
class Evidence:
    """Everything a rule may look at: the parsed reports, and whether a champion is pinned."""

    metrics: Mapping[str, Any]
    latency: Mapping[str, Any]
    validation: Mapping[str, Any]
    has_champion: bool


@dataclass(frozen=True)
class RuleResult:
    """What one rule saw and decided: `observed` with its interval, the `limit` it was held against, and a sentence."""

    name: str
    outcome: Outcome
    observed: float | None
    low: float | None
    high: float | None
    limit: float | None
    reason: str

    @property
    def passed(self) -> bool:
        """Whether the rule was shown to be met."""
        return self.outcome == "passed"


Rule = Callable[[Evidence, GateSettings], Iterable[RuleResult]]


def validation_passed(evidence: Evidence, settings: GateSettings) -> Iterator[RuleResult]:
    """The clips that the candidate was trained and judged on passed validation."""
    del settings
    failing = [check["name"] for check in evidence.validation.get("checks", []) if not check["passed"]]
    if evidence.validation.get("passed") is True:
        yield RuleResult("validation", "passed", None, None, None, None, "the clips passed validation")
    else:
        detail = f": {', '.join(failing)}" if failing else ""
        yield RuleResult("validation", "failed", None, None, None, None, f"the clips failed validation{detail}")


def finite_numbers(evidence: Evidence, settings: GateSettings) -> Iterator[RuleResult]:
    """Every number in the reports is finite: one that is not means that something was not computed."""
    del settings
    broken = [
        key
        for report, content in (("metrics", evidence.metrics), ("latency", evidence.latency))
        for table in ("models", "comparisons")
        for key in _not_finite(content.get(table, {}), f"{report}.{table}")
    ]
    if broken:
        shown = ", ".join(broken[:3]) + (f" and {len(broken) - 3} more" if len(broken) > 3 else "")
        yield RuleResult(
            "finite numbers", "failed", float(len(broken)), None, None, 0.0, f"not a finite number: {shown}"
        )
    else:
        yield RuleResult("finite numbers", "passed", 0.0, None, None, 0.0, "every reported number is finite")


def enough_prompts(evidence: Evidence, settings: GateSettings) -> Iterator[RuleResult]:
    """The comparison rests on at least `gate.min_prompts` test prompts."""
    prompts, limit = evidence.metrics.get("prompts", 0), settings.min_prompts
    outcome: Outcome = "passed" if prompts >= limit else "held"
    yield RuleResult(
        "prompts", outcome, float(prompts), None, None, float(limit), f"{prompts} test prompts, {limit} needed"
    )


def better_than_teacher(evidence: Evidence, settings: GateSettings) -> Iterator[RuleResult]:
    """Better than every named row on every named metric, the paired interval of the difference clear of zero."""
    measured = False
    for baseline in settings.better_than:
        for metric in settings.better_metrics:
            result = _compare(evidence, baseline, metric)
            measured = measured or result.outcome != "unmeasured"
            yield result
    if not measured:
        yield RuleResult(
            "improvement",
            "held",
            None,
            None,
            None,
            None,
            "no metric in gate.better_metrics could be measured, so nothing shows an improvement",
        )


def not_worse_than_champion(evidence: Evidence, settings: GateSettings) -> Iterator[RuleResult]:
    """Where a champion is pinned: not shown to be worse than it on any named metric."""
    if not evidence.has_champion:
        return
    for metric in settings.better_metrics:
        result = _compare(evidence, CHAMPION, metric)
        name = f"not worse than the champion: {metric}"
        if result.outcome == "held" and result.observed is not None:
            yield RuleResult(
                name,
                "passed",
                result.observed,
                result.low,
                result.high,
                result.limit,
                f"{metric} is not shown to be worse than the champion's {_interval(result)}",
            )
        else:
            yield RuleResult(
                name, result.outcome, result.observed, result.low, result.high, result.limit, result.reason
            )


def floors(evidence: Evidence, settings: GateSettings) -> Iterator[RuleResult]:
    """At least the named share of the row `real`; for a metric where lower is better, at most `real` over the share."""
    for metric, share in sorted(settings.floors.items()):
        name = f"floor: {metric}"
        better = _direction(metric, f"gate.floors.{metric}")
        if unmeasured := _unmeasured(evidence, metric, name):
            yield unmeasured
            continue
        candidate, ceiling = (_cell(evidence, row, metric) for row in (CANDIDATE, CEILING))
        if candidate is None or ceiling is None:
            row = CANDIDATE if candidate is None else CEILING
            yield RuleResult(name, "held", None, None, None, None, f"metrics.json has no {metric} of {row!r}")
            continue
        at_most = better == "lower" and share > 0
        limit = ceiling["value"] / share if at_most else ceiling["value"] * share
        observed, low, high = candidate["value"], candidate["low"], candidate["high"]
        if not all(map(_finite, (observed, low, high, limit))):
            yield RuleResult(name, "held", None, None, None, None, f"{metric} has no finite value to hold to its floor")
            continue
        outcome = _side(limit - high, limit - low) if at_most else _side(low - limit, high - limit)
        words = "at most" if at_most else "at least"
        yield RuleResult(
            name,
            outcome,
            observed,
            low,
            high,
            limit,
            f"{metric} {observed:.4g} [{low:.4g}, {high:.4g}], {words} {limit:.4g} needed",
        )


def speedup(evidence: Evidence, settings: GateSettings) -> Iterator[RuleResult]:
    """The denoiser alone is faster than the teacher's best setting by at least `gate.min_speedup`."""
    name, limit = "denoiser speed-up", settings.min_speedup
    teacher = best_teacher(evidence)
    slow = evidence.latency.get("models", {}).get(teacher, {}).get("denoiser_s") if teacher else None
    fast = evidence.latency.get("models", {}).get(CANDIDATE, {}).get("denoiser_s")
    if not slow or not fast:
        row = CANDIDATE if not fast else teacher or "teacher"
        yield RuleResult(name, "held", None, None, None, limit, f"latency.json has no denoiser time of {row!r}")
        return
    if not all(_finite(time[key]) and time[key] > 0 for time in (slow, fast) for key in ("value", "low", "high")):
        yield RuleResult(name, "held", None, None, None, limit, "a denoiser time is not a positive finite number")
        return
    observed = slow["value"] / fast["value"]
    low, high = slow["low"] / fast["high"], slow["high"] / fast["low"]
    yield RuleResult(
        name,
        _side(low - limit, high - limit),
        observed,
        low,
        high,
        limit,
        f"denoiser {observed:.3g} times [{low:.3g}, {high:.3g}] as fast as {teacher}, {limit:g} needed",
    )


RULES: tuple[Rule, ...] = (
    validation_passed,
    finite_numbers,
    enough_prompts,
    better_than_teacher,
    not_worse_than_champion,
    floors,
    speedup,
)


def best_teacher(evidence: Evidence) -> str | None:
    """The row of the teacher with the lowest Fréchet video distance, its best setting; null when none was sampled."""
    scores = {
        row: cells["frechet_video_distance"]["value"]
        for row, cells in evidence.metrics.get("models", {}).items()
        if row.startswith("teacher-") and _finite(cells.get("frechet_video_distance", {}).get("value"))
    }
    return min(sorted(scores), key=lambda row: scores[row], default=None)


def _compare(evidence: Evidence, baseline: str, metric: str) -> RuleResult:
    name = f"better than {baseline}: {metric}"
    better = _direction(metric, "gate.better_metrics")
    if unmeasured := _unmeasured(evidence, metric, name):
        return unmeasured
    comparison = f"{CANDIDATE} vs {baseline}"
    cell = evidence.metrics.get("comparisons", {}).get(comparison, {}).get(metric)
    if cell is None:
        return RuleResult(name, "held", None, None, None, None, f"metrics.json does not compare {metric} {comparison}")
    observed, low, high = cell["difference"], cell["low"], cell["high"]
    if not all(map(_finite, (observed, low, high))):
        return RuleResult(name, "held", None, None, None, 0.0, f"{metric} {comparison} has no finite difference")
    gains = (low, high) if better == "higher" else (-high, -low)
    outcome = "held" if 0.0 in (low, high) else _side(*gains)
    verb = {"passed": "better than", "held": "not shown to be better than", "failed": "worse than"}[outcome]
    reason = f"{metric} is {verb} {baseline}: {observed:+.4g} [{low:+.4g}, {high:+.4g}], {better} is better"
    return RuleResult(name, outcome, observed, low, high, 0.0, reason)


def _side(low: float, high: float) -> Outcome:
    """Where an interval lies whose right side is zero and above."""
    if low >= 0:
        return "passed"
    return "failed" if high < 0 else "held"


def _unmeasured(evidence: Evidence, metric: str, name: str) -> RuleResult | None:
    reason = evidence.metrics.get("unmeasured", {}).get(metric)
    if reason is None:
        return None
    return RuleResult(name, "unmeasured", None, None, None, None, f"{metric} was not measured: {reason}")


def _direction(metric: str, key: str) -> Literal["higher", "lower"]:
    """Which way a metric improves; raises `GateError` that names the rule's key when nothing measures the metric."""
    from onestep.evaluation.metrics import METRICS

    if metric not in METRICS:
        raise GateError(f"params.yaml: {key} names {metric!r}, which is not a metric; known are {', '.join(METRICS)}")
    return METRICS[metric].better


def _cell(evidence: Evidence, row: str, metric: str) -> Mapping[str, float] | None:
    return evidence.metrics.get("models", {}).get(row, {}).get(metric)


def _interval(result: RuleResult) -> str:
    return f"({result.observed:+.4g} [{result.low:+.4g}, {result.high:+.4g}])"


def _finite(number: Any) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)


def _not_finite(content: Any, where: str) -> Iterator[str]:
    if isinstance(content, Mapping):
        for key, value in sorted(content.items()):
            yield from _not_finite(value, f"{where}.{key}")
    elif isinstance(content, list):
        for index, value in enumerate(content):
            yield from _not_finite(value, f"{where}[{index}]")
    elif content is None or (isinstance(content, float) and not math.isfinite(content)):
        yield where
