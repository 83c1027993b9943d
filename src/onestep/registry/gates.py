"""May this model be promoted? A verdict that anyone can compute again.

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

from onestep.config import GateSettings
from onestep.registry.production import read_pin
from onestep.registry.rules import CANDIDATE, RULES, Evidence, RuleResult
from onestep.storage import StorageError, read_json, sha256_file, write_json

Verdict = Literal["promote", "hold", "reject"]

VERDICT = "reports/verdict.json"


def gate(metrics: Path, latency: Path, validation: Path, production: Path, out: Path, settings: GateSettings) -> None:
    """Write the verdict on the candidate: the rules' results, one summary sentence, and the sha256 of what was read.

    Raises `GateError` when a rule names an unknown metric, `StorageError` when a report is missing or broken.
    """
    files = {"metrics": metrics, "latency": latency, "validation": validation, "production": production}
    evidence = Evidence(read_json(metrics), read_json(latency), read_json(validation), read_pin(production) is not None)
    write_json(out, judge(evidence, settings) | {"inputs": {name: sha256_file(path) for name, path in files.items()}})


def judge(evidence: Evidence, settings: GateSettings) -> dict[str, Any]:
    """The verdict as JSON-able content: `verdict`, `reason`, `rules`, `unmeasured` metrics with their reasons."""
    results = [result for rule in RULES for result in rule(evidence, settings)]
    verdict, reason = decide(results)
    return {
        "candidate": CANDIDATE,
        "verdict": verdict,
        "reason": reason,
        "rules": [asdict(result) | {"passed": result.passed} for result in results],
        "unmeasured": dict(evidence.metrics.get("unmeasured", {})),
    }


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


def read_verdict(root: Path, path: str = VERDICT) -> dict[str, Any]:
    """The verdict of the working copy at `root`; raises `StorageError` where it is missing or of another shape."""
    content = read_json(root / path)
    if not isinstance(content, dict) or not {"verdict", "reason", "rules"} <= content.keys():
        raise StorageError(f"{root / path} is not a verdict: run dvc repro")
    return content


def as_markdown(verdict: Mapping[str, Any]) -> str:
    """A verdict as a page: the sentence, and every rule with its numbers."""
    lines = [f"# {str(verdict['verdict']).capitalize()}", "", verdict["reason"], ""]
    lines += ["| rule | outcome | observed | interval | limit |", "|---|---|---|---|---|"]
    for rule in verdict["rules"]:
        low, high = rule.get("low"), rule.get("high")
        interval = "" if low is None or high is None else f"{low:.4g} to {high:.4g}"
        numbers = ("" if rule.get(key) is None else f"{rule[key]:.4g}" for key in ("observed", "limit"))
        observed, limit = numbers
        lines.append(f"| {rule['name']} | {rule['outcome']} | {observed} | {interval} | {limit} |")
    if unmeasured := verdict.get("unmeasured"):
        lines += ["", *(f"Not measured: {name} ({reason})." for name, reason in sorted(unmeasured.items()))]
    return "\n".join(lines) + "\n"
