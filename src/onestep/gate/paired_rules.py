"""The rules that compare the candidate with another model, prompt by prompt: better than one, not worse than another."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from onestep.evaluation.names import Direction
from onestep.gate.evidence import (
    Evidence,
    Outcome,
    RuleResult,
    cell,
    direction,
    finite,
    not_measured,
    side,
    without_numbers,
)
from onestep.gate.settings import GateSettings, Margin
from onestep.inference.rows import CANDIDATE, CHAMPION

BETTER_METRICS = "gate.better_metrics"
MARGINS = "gate.margins"


@dataclass(frozen=True)
class Difference:
    """Candidate less other on one metric, with the paired interval."""

    metric: str
    other: str
    value: float
    low: float
    high: float
    better: Direction

    @property
    def gains(self) -> tuple[float, float]:
        """The interval, turned so that more is better."""
        return (self.low, self.high) if self.better == "higher" else (-self.high, -self.low)

    def __str__(self) -> str:
        return f"{self.value:+.4g} [{self.low:+.4g}, {self.high:+.4g}], {self.better} is better"

    def result(self, name: str, outcome: Outcome, limit: float, reason: str, **test: float) -> RuleResult:
        """The result of a rule that looked at this difference."""
        return RuleResult(name, outcome, self.value, self.low, self.high, limit, reason, **test)


def better_than_champion(evidence: Evidence, settings: GateSettings) -> Iterator[RuleResult]:
    """Where a champion is pinned: better than it on at least one metric, at the alpha that was offered.

    The smallest p-value times the number of metrics (Bonferroni) is held against alpha; the other metrics are held
    by `not_worse_than_champion`.
    """
    if not evidence.has_champion:
        return
    name = "better than the champion"
    tried = [m for m in settings.better_metrics if not_measured(evidence, m, name) is None]
    tests = {metric: _test(evidence, CHAMPION, metric) for metric in tried}
    missing = [metric for metric, test in tests.items() if test is None]
    if missing or not tried:
        lack = f"no test of {missing[0]} {CANDIDATE} vs {CHAMPION}" if missing else f"nothing of {BETTER_METRICS}"
        yield without_numbers(name, "held", f"metrics.json has {lack}, so nothing shows an improvement")
        return
    adjusted = {metric: min(test["p_value"] * len(tried), 1.0) for metric, test in tests.items() if test}
    best = min(tried, key=lambda metric: adjusted[metric])
    alpha = evidence.pin.alpha
    shown = "; ".join(f"{metric} {_signed(evidence, metric)}, p {adjusted[metric]:.2g}" for metric in tried)
    passed = adjusted[best] <= alpha
    words = f"{best} is better than the champion's" if passed else "nothing is shown to be better than the champion"
    reason = f"{words} ({shown}; alpha offered {alpha:.2g})"
    found = _difference(evidence, CHAMPION, best, name, BETTER_METRICS)
    if isinstance(found, RuleResult):
        yield found
        return
    yield found.result(name, "passed" if passed else "held", 0.0, reason, p_value=adjusted[best], alpha=alpha)


def better_than_teacher(evidence: Evidence, settings: GateSettings) -> Iterator[RuleResult]:
    """Better than every named row on every named metric, the paired interval of the difference clear of zero.

    Before there is a champion this is the claim that a promotion rests on, so each p-value must also be at most the
    alpha that was offered; all must pass, so none is multiplied (Berger's intersection-union test, 1982).
    """
    measured = False
    for baseline in settings.better_than:
        for metric in settings.better_metrics:
            result = _better_than(evidence, baseline, metric)
            measured = measured or result.outcome != "unmeasured"
            yield result
    if not measured:
        reason = f"no metric in {BETTER_METRICS} could be measured, so nothing shows an improvement"
        yield without_numbers("improvement", "held", reason)


def not_worse_than_champion(evidence: Evidence, settings: GateSettings) -> Iterator[RuleResult]:
    """Where a champion is pinned: no worse than it by more than the margins; where a metric has none, not shown worse."""
    if not evidence.has_champion:
        return
    for metric in dict.fromkeys((*settings.better_metrics, *sorted(settings.margins))):
        yield _not_worse(evidence, CHAMPION, metric, settings.margins.get(metric))


def not_inferior_to_reference(evidence: Evidence, settings: GateSettings) -> Iterator[RuleResult]:
    """No worse than the named row of the multi-step teacher by more than the margins, with the whole interval.

    This anchor does not move with the champion, so that many small losses, each within a margin, cannot add up.
    """
    for metric, margin in sorted(settings.margins.items()):
        yield _not_worse(evidence, settings.reference, metric, margin)


def training_seeds_agree(evidence: Evidence, settings: GateSettings) -> Iterator[RuleResult]:
    """Where several training seeds are asked for: models trained alike with other seeds point the same way.

    On every metric where the candidate's own difference from its opponent is a gain, each other seed's must be one too.
    """
    if settings.training_seeds == 1:
        return
    name = "training seeds"
    opponent = CHAMPION if evidence.has_champion else settings.better_than[-1]
    models = {evidence.metrics.get("comparison", {}).get("candidate")}
    for file, metrics in sorted(evidence.seeds.items()):
        drawn = metrics.get("comparison", {})
        if drawn.get("seed") != evidence.pin.seed:
            reason = f"{file} was measured with noise {drawn.get('seed')}, not {evidence.pin.seed} of this comparison"
            yield without_numbers(f"{name}: {file}", "held", reason)
            continue
        models.add(drawn.get("candidate"))
        yield _agrees(evidence, replace(evidence, metrics=metrics), opponent, f"{name}: {file}", settings)
    count, limit = len(models - {None}), settings.training_seeds
    enough: Outcome = "passed" if count >= limit else "held"
    reason = f"{count} models of different training seeds, {limit} needed"
    yield RuleResult(name, enough, float(count), None, None, float(limit), reason)


def standard_errors(evidence: Evidence, settings: GateSettings) -> dict[str, float]:
    """Of each metric's paired difference from the champion, or from the row of `better_than` where it is largest."""
    from scipy.stats import norm

    confidence = evidence.metrics.get("bootstrap", {}).get("confidence")
    if not finite(confidence):
        return {}
    width = 2 * float(norm.ppf((1 + confidence) / 2))
    errors: dict[str, float] = {}
    for other in (CHAMPION,) if evidence.has_champion else settings.better_than:
        for metric in settings.better_metrics:
            found = _difference(evidence, other, metric, "", BETTER_METRICS)
            if isinstance(found, Difference):
                errors[metric] = max(errors.get(metric, 0.0), (found.high - found.low) / width)
    return errors


def _better_than(evidence: Evidence, baseline: str, metric: str) -> RuleResult:
    name = f"better than {baseline}: {metric}"
    found = _difference(evidence, baseline, metric, name, BETTER_METRICS)
    if isinstance(found, RuleResult):
        return found
    outcome: Outcome = "held" if 0.0 in (found.low, found.high) else side(*found.gains)
    verb = {"passed": "better than", "held": "not shown to be better than", "failed": "worse than"}[outcome]
    result = found.result(name, outcome, 0.0, f"{metric} is {verb} {baseline}: {found}")
    if evidence.has_champion:
        return result
    alpha, test = evidence.pin.alpha, _test(evidence, baseline, metric)
    if test is None:
        reason = f"metrics.json has no test of {metric} {CANDIDATE} vs {baseline}"
        return replace(result, outcome="held", reason=reason) if outcome == "passed" else result
    result = replace(result, p_value=test["p_value"], alpha=alpha)
    if outcome == "passed" and test["p_value"] > alpha:
        reason = f"{metric} is not shown to be better than {baseline} at the alpha offered: {found}"
        result = replace(result, outcome="held", reason=reason)
    return replace(result, reason=f"{result.reason}; p {test['p_value']:.2g}, alpha offered {alpha:.2g}")


def _not_worse(evidence: Evidence, other: str, metric: str, margin: Margin | None) -> RuleResult:
    title = "the champion" if other == CHAMPION else other
    name = f"not worse than {title}: {metric}"
    found = _difference(evidence, other, metric, name, MARGINS if margin else BETTER_METRICS)
    if isinstance(found, RuleResult):
        return found
    low, high = found.gains
    if margin is None:
        worse = high < 0
        words = "worse than" if worse else "not shown to be worse than"
        return found.result(name, "failed" if worse else "passed", 0.0, f"{metric} is {words} {title}: {found}")
    allowed = margin.absolute
    if margin.relative is not None:
        value = (cell(evidence, other, metric) or {}).get("value")
        if value is None or not finite(value):
            return without_numbers(name, "held", f"metrics.json has no {metric} of {other!r}")
        allowed = margin.relative * abs(value)
    assert allowed is not None
    outcome = side(low + allowed, high + allowed)
    words = {
        "passed": f"worse than {title} by at most the margin of {allowed:.4g}",
        "held": f"not shown to be within the margin of {allowed:.4g} of {title}",
        "failed": f"worse than {title} by more than the margin of {allowed:.4g}",
    }[outcome]
    limit = allowed if found.better == "lower" else -allowed
    return found.result(name, outcome, limit, f"{metric} is {words}: {found}")


def _agrees(evidence: Evidence, other_seed: Evidence, opponent: str, name: str, settings: GateSettings) -> RuleResult:
    for metric in settings.better_metrics:
        ours = _difference(evidence, opponent, metric, name, BETTER_METRICS)
        theirs = _difference(other_seed, opponent, metric, name, BETTER_METRICS)
        if isinstance(ours, RuleResult):
            continue  # the rules on the candidate itself say so
        if isinstance(theirs, RuleResult):
            return replace(theirs, outcome="held")
        sign = 1 if ours.better == "higher" else -1
        if sign * ours.value > 0 and sign * theirs.value <= 0:
            outcome: Outcome = "failed" if theirs.gains[1] < 0 else "held"
            reason = f"{metric} against {opponent} is {ours.value:+.4g}, but with another training seed {theirs}"
            return theirs.result(name, outcome, 0.0, reason)
    return without_numbers(name, "passed", "another training seed gains where the candidate does")


def _difference(evidence: Evidence, other: str, metric: str, name: str, key: str) -> Difference | RuleResult:
    """The paired difference, or the result of a rule that cannot have it."""
    better = direction(metric, key)
    if unmeasured := not_measured(evidence, metric, name):
        return unmeasured
    comparison = f"{CANDIDATE} vs {other}"
    found = evidence.metrics.get("comparisons", {}).get(comparison, {}).get(metric)
    if found is None:
        return without_numbers(name, "held", f"metrics.json does not compare {metric} {comparison}")
    numbers = found["difference"], found["low"], found["high"]
    if not all(map(finite, numbers)):
        return without_numbers(name, "held", f"{metric} {comparison} has no finite difference", 0.0)
    return Difference(metric, other, *numbers, better)


def _test(evidence: Evidence, other: str, metric: str) -> Mapping[str, Any] | None:
    found = evidence.metrics.get("tests", {}).get(f"{CANDIDATE} vs {other}", {}).get(metric)
    return found if found and finite(found.get("p_value")) else None


def _signed(evidence: Evidence, metric: str) -> str:
    found = _difference(evidence, CHAMPION, metric, "", BETTER_METRICS)
    return f"{found.value:+.4g}" if isinstance(found, Difference) else "?"
