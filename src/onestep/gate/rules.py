"""The rules of promotion: one pure function each, all of one signature.

A rule looks at the parsed reports and the `gate` settings and yields one result per thing it checks; `verdict.py` adds
the results up to a verdict and says what the outcomes mean. Those that compare two models are in `paired_rules.py`.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from onestep.evaluation.teacher import best_teacher
from onestep.gate.evidence import (
    Evidence,
    Outcome,
    Rule,
    RuleResult,
    cell,
    direction,
    finite,
    not_measured,
    side,
)
from onestep.gate.paired_rules import (
    better_than_champion,
    better_than_teacher,
    not_inferior_to_reference,
    not_worse_than_champion,
    training_seeds_agree,
)
from onestep.gate.settings import GateSettings
from onestep.inference.rows import CANDIDATE, REAL


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
        for table in ("models", "comparisons", "tests")
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


def floors(evidence: Evidence, settings: GateSettings) -> Iterator[RuleResult]:
    """At least the named share of the row `real`; for a metric where lower is better, at most `real` over the share."""
    for metric, share in sorted(settings.floors.items()):
        name = f"floor: {metric}"
        better = direction(metric, f"gate.floors.{metric}")
        if unmeasured := not_measured(evidence, metric, name):
            yield unmeasured
            continue
        candidate, ceiling = (cell(evidence, row, metric) for row in (CANDIDATE, REAL))
        if candidate is None or ceiling is None:
            row = CANDIDATE if candidate is None else REAL
            yield RuleResult(name, "held", None, None, None, None, f"metrics.json has no {metric} of {row!r}")
            continue
        at_most = better == "lower" and share > 0
        limit = ceiling["value"] / share if at_most else ceiling["value"] * share
        observed, low, high = candidate["value"], candidate["low"], candidate["high"]
        if not all(map(finite, (observed, low, high, limit))):
            yield RuleResult(name, "held", None, None, None, None, f"{metric} has no finite value to hold to its floor")
            continue
        outcome = side(limit - high, limit - low) if at_most else side(low - limit, high - limit)
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
    teacher = best_teacher(evidence.metrics.get("models", {}))
    slow = evidence.latency.get("models", {}).get(teacher, {}).get("denoiser_s") if teacher else None
    fast = evidence.latency.get("models", {}).get(CANDIDATE, {}).get("denoiser_s")
    if not slow or not fast:
        row = CANDIDATE if not fast else teacher or "teacher"
        yield RuleResult(name, "held", None, None, None, limit, f"latency.json has no denoiser time of {row!r}")
        return
    if not all(finite(time[key]) and time[key] > 0 for time in (slow, fast) for key in ("value", "low", "high")):
        yield RuleResult(name, "held", None, None, None, limit, "a denoiser time is not a positive finite number")
        return
    observed = slow["value"] / fast["value"]
    low, high = slow["low"] / fast["high"], slow["high"] / fast["low"]
    yield RuleResult(
        name,
        side(low - limit, high - limit),
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
    training_seeds_agree,
    better_than_champion,
    better_than_teacher,
    not_worse_than_champion,
    not_inferior_to_reference,
    floors,
    speedup,
)


def _not_finite(content: Any, where: str) -> Iterator[str]:
    if isinstance(content, Mapping):
        for key, value in sorted(content.items()):
            yield from _not_finite(value, f"{where}.{key}")
    elif isinstance(content, list):
        for index, value in enumerate(content):
            yield from _not_finite(value, f"{where}[{index}]")
    elif content is None or (isinstance(content, float) and not math.isfinite(content)):
        yield where
