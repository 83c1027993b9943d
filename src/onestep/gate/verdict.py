"""May this model be promoted? A verdict that can be computed again from its files.

The verdict is a function of the report files and the `gate` group of `params.yaml` alone: no clock, no randomness.

Every rule of `rules.py` ends in one of four outcomes:

* `passed`: shown, with the whole interval on the right side of the limit;
* `held`: not shown either way (the interval touches the limit, too few prompts, or a number the rule needs is missing);
* `failed`: shown to be wrong, with the whole interval on the wrong side, or a check that has no interval failed;
* `unmeasured`: `metrics.json` says with a reason that this metric does not exist for this footage; the rule then
  has no say.

The verdict is `reject` when any rule failed, else `hold` when any rule is held or nothing was left that could show an
improvement, else `promote`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from onestep.core.machine import KEYS, described
from onestep.core.rounding import rounded, significant
from onestep.core.storage import read_mapping, sha256_file, write_json
from onestep.gate.evidence import Evidence, GateError, RuleResult
from onestep.gate.paired_rules import standard_errors
from onestep.gate.pin import Pin, read_pin
from onestep.gate.rules import RULES
from onestep.gate.settings import GateSettings
from onestep.gate.spending import NIGHTS, alpha_without_promotion, detectable
from onestep.inference.rows import CANDIDATE

Verdict = Literal["promote", "hold", "reject"]

_DIGITS = 6  # of what is computed from the reports: all but the last bits, in which libraries differ
_TABLES = {"models": ("value", "low", "high"), "comparisons": ("difference", "low", "high"), "tests": ("p_value",)}


def gate(
    metrics: Path,
    latency: Path,
    machine: Path,
    validation: Path,
    production: Path,
    seeds: Path,
    out: Path,
    settings: GateSettings,
) -> None:
    """Write the verdict on the candidate: the rules' results, one summary sentence, and the sha256 of what was read.

    machine: the file that names the machine of this run; seeds: a folder with the `metrics.json` of models trained alike
    with other seeds. Raises `GateError` when a rule names an unknown metric, the pin offers more alpha than there is or
    the timings are another machine's, `StorageError` when a report is missing or broken.
    """
    files = {"metrics": metrics, "latency": latency, "validation": validation, "production": production}
    others = {path.name: path for path in sorted(seeds.glob("*.json"))}
    pin = read_pin(production)
    _require_affordable(pin, production, settings)
    evidence = Evidence(
        _report(metrics),
        _report(latency),
        read_mapping(validation),
        pin,
        {name: _report(path) for name, path in others.items()},
    )
    _require_timed_here(evidence.latency, latency, machine)
    read = files | {f"seeds/{name}": path for name, path in others.items()}
    write_json(out, judge(evidence, settings) | {"inputs": {name: sha256_file(path) for name, path in read.items()}})


def judge(evidence: Evidence, settings: GateSettings) -> dict[str, Any]:
    """The verdict as JSON-able content.

    `verdict`, `reason`, `rules`, `unmeasured` metrics with their reasons, what the run was offered (`comparison`, `alpha`,
    `champion`, `ledger`), and `power`: the smallest true difference found in four of five comparisons, by nights without
    a promotion.
    """
    results = [result for rule in RULES for result in rule(evidence, settings)]
    verdict, reason = decide(results)
    pin = evidence.pin
    return {
        "candidate": CANDIDATE,
        "champion": pin.champion.tag if pin.champion else None,
        "comparison": pin.comparison,
        "alpha": pin.alpha,
        "ledger": pin.ledger,
        "verdict": verdict,
        "reason": reason,
        "rules": [_as_row(result) for result in results],
        "unmeasured": dict(evidence.metrics.get("unmeasured", {})),
        "power": power_table(evidence, {n: alpha_without_promotion([], n, settings) for n in NIGHTS}, settings),
    }


def power_table(evidence: Evidence, alphas: Mapping[int, float], settings: GateSettings) -> list[dict[str, Any]]:
    """For each night, its alpha and the smallest true difference of each metric that is found with a chance of 0.8."""
    errors = standard_errors(evidence, settings)
    share = len(errors) if evidence.has_champion else 1
    return [
        {
            "night": night,
            "alpha": significant(alpha, _DIGITS),
            "detectable": {
                name: significant(detectable(error, alpha / share), _DIGITS) for name, error in errors.items()
            },
        }
        for night, alpha in alphas.items()
    ]


def decide(results: Iterable[RuleResult]) -> tuple[Verdict, str]:
    """The verdict that a list of rule results adds up to, and one sentence that says why."""
    results = list(results)
    by_outcome = {outcome: [r for r in results if r.outcome == outcome] for outcome in ("failed", "held", "unmeasured")}
    if by_outcome["failed"]:
        return "reject", "Rejected: " + "; ".join(result.reason for result in by_outcome["failed"]) + "."
    if by_outcome["held"]:
        return "hold", "Not proven: " + "; ".join(result.reason for result in by_outcome["held"]) + "."
    sentence = f"All {sum(result.passed for result in results)} rules passed"
    if by_outcome["unmeasured"]:
        sentence += "; not measured: " + ", ".join(result.name for result in by_outcome["unmeasured"])
    return "promote", sentence + "."


def read_verdict(path: Path) -> dict[str, Any]:
    """A verdict's file; raises `StorageError` where it is missing or of another shape."""
    return read_mapping(path, verdict=str, reason=str, rules=list)


def as_markdown(verdict: Mapping[str, Any]) -> str:
    """A verdict as a page: the sentence, and every rule with its numbers."""
    lines = [f"# {str(verdict['verdict']).capitalize()}", "", verdict["reason"], ""]
    lines += ["| rule | outcome | observed | interval | limit | p (alpha) |", "|---|---|---|---|---|---|"]
    for rule in verdict["rules"]:
        low, high = rule.get("low"), rule.get("high")
        interval = "" if low is None or high is None else f"{low:.4g} to {high:.4g}"
        numbers = ("" if rule.get(key) is None else f"{rule[key]:.4g}" for key in ("observed", "limit"))
        observed, limit = numbers
        test = "" if rule.get("p_value") is None else f"{rule['p_value']:.2g} ({rule['alpha']:.2g})"
        lines.append(f"| {rule['name']} | {rule['outcome']} | {observed} | {interval} | {limit} | {test} |")
    if unmeasured := verdict.get("unmeasured"):
        lines += ["", *(f"Not measured: {name} ({reason})." for name, reason in sorted(unmeasured.items()))]
    return "\n".join(lines) + "\n"


def _report(path: Path) -> dict[str, Any]:
    """A report whose tables have the shape that the rules look for; raises `GateError` or `StorageError`."""
    content = read_mapping(path)
    for key in {"comparison", "bootstrap", "unmeasured"} & content.keys():
        _entries(content[key], key, 1, path)
    prompts = content.get("prompts", 0)
    if isinstance(prompts, bool) or not isinstance(prompts, int):
        raise GateError(f"{path}: prompts = {prompts!r:.40} is not a number: run dvc repro")
    for table, needed in _TABLES.items():
        for place, entry in _entries(content.get(table, {}), table, 3, path):
            if missing := [key for key in needed if key not in entry]:
                raise GateError(f"{path}: {place}.{missing[0]} is missing: run dvc repro")
            for key in needed:
                if entry[key] is not None and (isinstance(entry[key], bool) or not isinstance(entry[key], int | float)):
                    raise GateError(f"{path}: {place}.{key} = {entry[key]!r:.40} is not a number: run dvc repro")
    return content


def _entries(content: Any, place: str, depth: int, path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """What lies so many names deep in a table, with its dotted name."""
    if not isinstance(content, Mapping):
        raise GateError(f"{path}: {place} holds no values by name: run dvc repro")
    if depth == 1:
        return [(place, content)]
    return [found for name, inner in content.items() for found in _entries(inner, f"{place}.{name}", depth - 1, path)]


def _require_affordable(pin: Pin, path: Path, settings: GateSettings) -> None:
    """Refuse a pin that offers more than any history could: the ledger itself is checked when the verdict enters it."""
    most = alpha_without_promotion([], 1, settings) if pin.comparison == 1 else settings.alpha
    if pin.alpha > most * (1 + 1e-9):
        raise GateError(
            f"{path} offers alpha {pin.alpha:g} to comparison {pin.comparison}, which can have at most {most:g} by "
            "params.yaml (gate.alpha, gate.initial_wealth): run onestep ledger offer"
        )


def _require_timed_here(report: Mapping[str, Any], latency: Path, machine: Path) -> None:
    """Refuse timings of another machine than this run's: they say nothing of the speed here."""
    timed, here = report.get("machine"), read_mapping(machine)
    if timed != here:
        where = (
            described(timed) if isinstance(timed, Mapping) and set(KEYS) <= set(timed) else "a machine without a name"
        )
        raise GateError(
            f"{latency} was measured on {where}, and this run is on {described(here)}: run "
            "dvc repro --force --single-item latency"
        )


def _as_row(result: RuleResult) -> dict[str, Any]:
    """A result as the verdict holds it: numbers that were computed are rounded, what was offered is as it was."""
    return rounded(asdict(result), _DIGITS) | {"passed": result.passed, "alpha": result.alpha}
