import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from onestep.config import GateSettings
from onestep.registry.gates import gate
from onestep.registry.rules import GateError

SETTINGS = GateSettings(
    min_prompts=128,
    better_than=("teacher-1", "teacher-4"),
    better_metrics=("frechet_video_distance", "attribute_accuracy"),
    floors={"diversity": 0.7},
    min_speedup=4.0,
)


def cell(value: float, spread: float = 0.01) -> dict[str, float]:
    return {"value": value, "low": value - spread, "high": value + spread}


def difference(value: float, spread: float) -> dict[str, float]:
    return {"difference": value, "low": value - spread, "high": value + spread}


def good_reports() -> dict[str, Any]:
    better = {"frechet_video_distance": difference(-20.0, 5.0), "attribute_accuracy": difference(0.05, 0.02)}
    row = {"frechet_video_distance": cell(80.0, 4.0), "attribute_accuracy": cell(0.92), "diversity": cell(0.9)}
    return {
        "metrics": {
            "models": {
                "onestep": row,
                "teacher-1": row | {"frechet_video_distance": cell(250.0)},
                "teacher-4": row | {"frechet_video_distance": cell(100.0)},
                "teacher-25": row | {"frechet_video_distance": cell(60.0)},
                "real": {"diversity": cell(1.0)},
            },
            "comparisons": {"onestep vs teacher-1": better, "onestep vs teacher-4": better},
            "prompts": 128,
            "unmeasured": {},
        },
        "latency": {
            "models": {
                "onestep": {"denoiser_s": cell(0.010, 0.001)},
                "teacher-1": {"denoiser_s": cell(0.010, 0.001)},
                "teacher-25": {"denoiser_s": cell(0.250, 0.01)},
            }
        },
        "validation": {"passed": True, "checks": [{"name": "schema", "passed": True}]},
        "production": {"champion": None},
    }


@pytest.fixture
def verdict_of(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def judged(reports: dict[str, Any], settings: GateSettings = SETTINGS) -> dict[str, Any]:
        paths = {name: tmp_path / f"{name}.json" for name in reports}
        for name, content in reports.items():
            paths[name].write_text(json.dumps(content))
        gate(**paths, out=tmp_path / "verdict.json", settings=settings)
        content: dict[str, Any] = json.loads((tmp_path / "verdict.json").read_text())
        return content

    return judged


VerdictOf = Callable[..., dict[str, Any]]


def outcomes(verdict: dict[str, Any]) -> dict[str, str]:
    return {rule["name"]: rule["outcome"] for rule in verdict["rules"]}


def test_model_that_is_shown_to_be_better_is_promoted(verdict_of: VerdictOf) -> None:
    verdict = verdict_of(good_reports())
    assert verdict["verdict"] == "promote"
    assert set(outcomes(verdict).values()) == {"passed"}
    assert len(verdict["rules"]) == 3 + 2 * 2 + 1 + 1


def test_verdict_is_a_pure_function_of_its_files(verdict_of: VerdictOf, tmp_path: Path) -> None:
    verdict_of(good_reports())
    first = (tmp_path / "verdict.json").read_bytes()
    verdict_of(good_reports())
    assert (tmp_path / "verdict.json").read_bytes() == first
    changed = good_reports()
    changed["metrics"]["models"]["onestep"]["diversity"]["value"] += 0.001
    verdict_of(changed)
    assert (tmp_path / "verdict.json").read_bytes() != first


@pytest.mark.parametrize(
    ("metric", "low", "high", "outcome", "verdict"),
    [
        ("frechet_video_distance", -3.0, -0.1, "passed", "promote"),
        ("frechet_video_distance", -3.0, 0.0, "held", "hold"),
        ("frechet_video_distance", -3.0, 1.0, "held", "hold"),
        ("frechet_video_distance", 0.1, 3.0, "failed", "reject"),
        ("attribute_accuracy", 0.001, 0.1, "passed", "promote"),
        ("attribute_accuracy", 0.0, 0.1, "held", "hold"),
        ("attribute_accuracy", -0.1, 0.1, "held", "hold"),
        ("attribute_accuracy", -0.1, -0.01, "failed", "reject"),
    ],
)
def test_better_means_the_paired_interval_is_clear_of_zero_in_the_metrics_own_direction(
    verdict_of: VerdictOf, metric: str, low: float, high: float, outcome: str, verdict: str
) -> None:
    reports = good_reports()
    reports["metrics"]["comparisons"]["onestep vs teacher-4"] = deepcopy(
        reports["metrics"]["comparisons"]["onestep vs teacher-4"]
    ) | {metric: {"difference": (low + high) / 2, "low": low, "high": high}}
    found = verdict_of(reports)
    assert found["verdict"] == verdict
    rule = next(rule for rule in found["rules"] if rule["name"] == f"better than teacher-4: {metric}")
    assert (rule["outcome"], rule["low"], rule["high"], rule["limit"]) == (outcome, low, high, 0.0)
    if verdict != "promote":
        assert f"{metric} is " in found["reason"]
        assert "teacher-4" in found["reason"]


def test_rejection_outweighs_a_hold_and_names_its_reasons(verdict_of: VerdictOf) -> None:
    reports = good_reports()
    reports["metrics"]["prompts"] = 64
    reports["validation"] = {"passed": False, "checks": [{"name": "no duplicates", "passed": False}]}
    verdict = verdict_of(reports)
    assert verdict["verdict"] == "reject"
    assert verdict["reason"] == "Rejected: the clips failed validation: no duplicates."


def test_too_few_prompts_prove_nothing(verdict_of: VerdictOf) -> None:
    reports = good_reports()
    reports["metrics"]["prompts"] = 127
    verdict = verdict_of(reports)
    assert (verdict["verdict"], verdict["reason"]) == ("hold", "Not proven: 127 test prompts, 128 needed.")


@pytest.mark.parametrize(("diversity", "verdict"), [(0.72, "promote"), (0.705, "hold"), (0.6, "reject")])
def test_floor_is_a_share_of_the_real_clips(verdict_of: VerdictOf, diversity: float, verdict: str) -> None:
    reports = good_reports()
    reports["metrics"]["models"]["onestep"] = reports["metrics"]["models"]["onestep"] | {"diversity": cell(diversity)}
    found = verdict_of(reports)
    assert found["verdict"] == verdict
    rule = next(rule for rule in found["rules"] if rule["name"] == "floor: diversity")
    assert (rule["observed"], rule["limit"]) == (diversity, 0.7)


@pytest.mark.parametrize(("seconds", "verdict"), [(0.05, "promote"), (0.0625, "hold"), (0.1, "reject")])
def test_speed_is_held_against_the_teachers_best_setting(verdict_of: VerdictOf, seconds: float, verdict: str) -> None:
    reports = good_reports()
    reports["latency"]["models"]["onestep"] = {"denoiser_s": cell(seconds, seconds / 10)}
    found = verdict_of(reports)
    assert found["verdict"] == verdict
    rule = next(rule for rule in found["rules"] if rule["name"] == "denoiser speed-up")
    assert "teacher-25" in rule["reason"]
    assert rule["observed"] == pytest.approx(0.25 / seconds)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), None])
def test_number_that_is_not_finite_is_rejected_by_name(verdict_of: VerdictOf, number: float | None) -> None:
    reports = good_reports()
    reports["metrics"]["models"]["teacher-25"]["attribute_accuracy"] = {"value": number, "low": 0.0, "high": 1.0}
    verdict = verdict_of(reports)
    assert verdict["verdict"] == "reject"
    assert "not a finite number: metrics.models.teacher-25.attribute_accuracy.value" in verdict["reason"]


def test_footage_without_attributes_is_judged_on_what_remains(verdict_of: VerdictOf) -> None:
    reports = good_reports()
    reports["metrics"]["unmeasured"] = {"attribute_accuracy": "the footage has no attribute columns"}
    for comparison in reports["metrics"]["comparisons"].values():
        comparison.pop("attribute_accuracy", None)
    verdict = verdict_of(reports)
    assert verdict["verdict"] == "promote"
    assert outcomes(verdict)["better than teacher-1: attribute_accuracy"] == "unmeasured"
    assert "not measured: better than teacher-1: attribute_accuracy" in verdict["reason"]
    assert verdict["unmeasured"] == {"attribute_accuracy": "the footage has no attribute columns"}


def test_nothing_measured_is_never_a_promotion(verdict_of: VerdictOf) -> None:
    reports = good_reports()
    reports["metrics"]["unmeasured"] = dict.fromkeys(SETTINGS.better_metrics, "not here")
    verdict = verdict_of(reports)
    assert verdict["verdict"] == "hold"
    assert "nothing shows an improvement" in verdict["reason"]


@pytest.mark.parametrize(
    ("remove", "sentence"),
    [
        (("metrics", "comparisons", "onestep vs teacher-4"), "does not compare frechet_video_distance onestep vs teac"),
        (("metrics", "models", "real"), "metrics.json has no diversity of 'real'"),
        (("latency", "models", "teacher-25"), "latency.json has no denoiser time of 'teacher-25'"),
    ],
)
def test_number_that_a_rule_needs_and_nobody_reported_holds(
    verdict_of: VerdictOf, remove: tuple[str, str, str], sentence: str
) -> None:
    reports = good_reports()
    report, table, row = remove
    del reports[report][table][row]
    verdict = verdict_of(reports)
    assert verdict["verdict"] == "hold"
    assert sentence in verdict["reason"]


@pytest.mark.parametrize(("shift", "verdict"), [(-5.0, "promote"), (0.0, "promote"), (5.0, "reject"), (None, "hold")])
def test_pinned_champion_must_not_be_shown_to_be_better(
    verdict_of: VerdictOf, shift: float | None, verdict: str
) -> None:
    reports = good_reports()
    reports["production"] = {"champion": {"tag": "onestep@v1.0.0", "sha256": "a" * 64}}
    if shift is not None:
        reports["metrics"]["comparisons"]["onestep vs champion"] = {
            "frechet_video_distance": difference(shift, 2.0),
            "attribute_accuracy": difference(0.0, 0.01),
        }
    assert verdict_of(reports)["verdict"] == verdict


def test_rule_on_an_unknown_metric_is_refused_by_its_key(verdict_of: VerdictOf) -> None:
    settings = SETTINGS.model_copy(update={"better_metrics": ("prettiness",)})
    with pytest.raises(GateError, match=r"gate\.better_metrics names 'prettiness', which is not a metric"):
        verdict_of(good_reports(), settings)
