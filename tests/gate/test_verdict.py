import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import norm

from onestep.core.storage import StorageError
from onestep.gate.evidence import GateError
from onestep.gate.settings import GateSettings, Margin
from onestep.gate.verdict import gate
from tests.pins import CHAMPION, FIRST

MACHINE = {"cpu": "A processor", "cores": 2, "gpus": [], "threads": 2}
SETTINGS = GateSettings(
    alpha=0.05,
    initial_wealth=0.025,
    training_seeds=1,
    min_prompts=128,
    better_than=("teacher-1", "teacher-4"),
    better_metrics=("frechet_video_distance", "attribute_accuracy"),
    reference="teacher-25",
    margins={"frechet_video_distance": Margin(absolute=30.0), "attribute_accuracy": Margin(relative=0.1)},
    floors={"diversity": 0.7},
    min_speedup=4.0,
)


def cell(value: float, spread: float = 0.01) -> dict[str, float]:
    return {"value": value, "low": value - spread, "high": value + spread}


def difference(value: float, spread: float) -> dict[str, float]:
    return {"difference": value, "low": value - spread, "high": value + spread}


def good_reports() -> dict[str, Any]:
    better = {"frechet_video_distance": difference(-20.0, 5.0), "attribute_accuracy": difference(0.05, 0.02)}
    level = {"frechet_video_distance": difference(20.0, 5.0), "attribute_accuracy": difference(-0.02, 0.03)}
    found = {name: {"p_value": 0.001, "difference": 0.0, "permutations": 1599} for name in better}
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
            "comparisons": {
                "onestep vs teacher-1": better,
                "onestep vs teacher-4": better,
                "onestep vs teacher-25": level,
            },
            "tests": {"onestep vs teacher-1": found, "onestep vs teacher-4": found},
            "comparison": {"alpha": 0.006, "seed": 99, "candidate": "0" * 64},
            "bootstrap": {"confidence": 0.95},
            "prompts": 128,
            "unmeasured": {},
        },
        "machine": MACHINE,
        "latency": {
            "machine": MACHINE,
            "models": {
                "onestep": {"denoiser_s": cell(0.010, 0.001)},
                "teacher-1": {"denoiser_s": cell(0.010, 0.001)},
                "teacher-25": {"denoiser_s": cell(0.250, 0.01)},
            },
        },
        "validation": {"passed": True, "checks": [{"name": "schema", "passed": True}]},
        "production": FIRST,
    }


def against_champion(p_values: tuple[float, float], shifts: tuple[float, float] = (-5.0, 0.02)) -> dict[str, Any]:
    """Reports in which a champion is pinned: p-values of, and differences in, distance and accuracy."""
    reports = good_reports()
    reports["production"] = FIRST | {"champion": CHAMPION, "comparison": 2, "alpha": 0.004}
    names = ("frechet_video_distance", "attribute_accuracy")
    metrics = reports["metrics"]
    metrics["comparisons"]["onestep vs champion"] = {
        names[0]: difference(shifts[0], 2.0), names[1]: difference(shifts[1], 0.01)
    }  # fmt: skip
    metrics["models"]["champion"] = metrics["models"]["onestep"]
    metrics["tests"] = {
        "onestep vs champion": {
            name: {"p_value": p, "difference": 0.0, "permutations": 2499}
            for name, p in zip(names, p_values, strict=True)
        }
    }
    return reports


@pytest.fixture
def verdict_of(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def judged(
        reports: dict[str, Any], settings: GateSettings = SETTINGS, seeds: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        paths = {name: tmp_path / f"{name}.json" for name in reports}
        for name, content in reports.items():
            paths[name].write_text(json.dumps(content))
        (tmp_path / "seeds").mkdir(exist_ok=True)
        for name, content in (seeds or {}).items():
            (tmp_path / "seeds" / name).write_text(json.dumps(content))
        gate(**paths, seeds=tmp_path / "seeds", out=tmp_path / "verdict.json", settings=settings)
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
    assert len(verdict["rules"]) == 3 + 2 * 2 + 2 + 1 + 1


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
    for table in ("comparisons", "tests"):
        for comparison in reports["metrics"][table].values():
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


@pytest.mark.parametrize(
    ("p_values", "verdict"),
    [
        ((0.0019, 0.5), "promote"),
        ((0.5, 0.0019), "promote"),
        ((0.002, 0.5), "promote"),
        ((0.0021, 0.5), "hold"),
        ((0.5, 0.5), "hold"),
    ],
)
def test_champion_is_replaced_where_one_metric_is_better_at_the_alpha_offered_to_both(
    verdict_of: VerdictOf, p_values: tuple[float, float], verdict: str
) -> None:
    found = verdict_of(against_champion(p_values))
    assert found["verdict"] == verdict
    rule = next(rule for rule in found["rules"] if rule["name"] == "better than the champion")
    assert (rule["p_value"], rule["alpha"]) == (pytest.approx(2 * min(p_values)), 0.004)
    assert (found["champion"], found["comparison"], found["alpha"]) == ("onestep@v1.0.0", 2, 0.004)
    if verdict == "hold":
        assert found["reason"].startswith(
            "Not proven: nothing is shown to be better than the champion (frechet_video_d"
        )


def test_one_measured_metric_pays_for_one_test(verdict_of: VerdictOf) -> None:
    reports = against_champion((0.0035, 0.5))
    reports["metrics"]["unmeasured"] = {"attribute_accuracy": "no attributes"}
    assert verdict_of(reports)["verdict"] == "promote"


@pytest.mark.parametrize(
    ("accuracy", "outcome", "verdict"),
    [(-0.01, "passed", "promote"), (-0.085, "held", "hold"), (-0.2, "failed", "reject")],
)
def test_gain_on_one_metric_does_not_buy_a_loss_beyond_the_margin_on_another(
    verdict_of: VerdictOf, accuracy: float, outcome: str, verdict: str
) -> None:
    found = verdict_of(against_champion((0.001, 1.0), (-5.0, accuracy)))
    assert found["verdict"] == verdict
    rule = next(rule for rule in found["rules"] if rule["name"] == "not worse than the champion: attribute_accuracy")
    assert (rule["outcome"], rule["limit"]) == (outcome, pytest.approx(-0.092))


def test_metric_without_a_margin_must_not_be_shown_to_be_worse_than_the_champions(verdict_of: VerdictOf) -> None:
    settings = SETTINGS.model_copy(update={"margins": {}})
    assert verdict_of(against_champion((0.001, 1.0), (-5.0, -0.005)), settings)["verdict"] == "promote"
    assert verdict_of(against_champion((0.001, 1.0), (-5.0, -0.02)), settings)["verdict"] == "reject"


def test_pinned_champion_that_was_not_tested_holds(verdict_of: VerdictOf) -> None:
    reports = against_champion((0.001, 0.001))
    del reports["metrics"]["tests"]["onestep vs champion"]["attribute_accuracy"]
    found = verdict_of(reports)
    assert found["verdict"] == "hold"
    assert "no test of attribute_accuracy onestep vs champion" in found["reason"]


def test_before_a_champion_every_claim_against_the_teacher_pays_with_the_alpha_offered(verdict_of: VerdictOf) -> None:
    reports = good_reports()
    reports["metrics"]["tests"]["onestep vs teacher-4"] = deepcopy(reports["metrics"]["tests"]["onestep vs teacher-4"])
    reports["metrics"]["tests"]["onestep vs teacher-4"]["attribute_accuracy"]["p_value"] = 0.007
    found = verdict_of(reports)
    assert found["verdict"] == "hold"
    assert found["reason"].endswith("higher is better; p 0.007, alpha offered 0.006.")
    del reports["metrics"]["tests"]["onestep vs teacher-4"]
    assert "no test of frechet_video_distance onestep vs teacher-4" in verdict_of(reports)["reason"]


@pytest.mark.parametrize(
    ("metric", "shift", "spread", "limit", "outcome"),
    [
        ("frechet_video_distance", 24.0, 5.0, 30.0, "passed"),
        ("frechet_video_distance", 28.0, 5.0, 30.0, "held"),
        ("frechet_video_distance", 36.0, 5.0, 30.0, "failed"),
        ("attribute_accuracy", -0.06, 0.03, -0.092, "passed"),
        ("attribute_accuracy", -0.08, 0.03, -0.092, "held"),
        ("attribute_accuracy", -0.13, 0.03, -0.092, "failed"),
    ],
)
def test_margin_to_the_multi_step_teacher_holds_for_the_whole_interval(
    verdict_of: VerdictOf, metric: str, shift: float, spread: float, limit: float, outcome: str
) -> None:
    reports = good_reports()
    reports["metrics"]["comparisons"]["onestep vs teacher-25"][metric] = difference(shift, spread)
    found = verdict_of(reports)
    rule = next(rule for rule in found["rules"] if rule["name"] == f"not worse than teacher-25: {metric}")
    assert (rule["outcome"], rule["limit"]) == (outcome, pytest.approx(limit))
    assert found["verdict"] == {"passed": "promote", "held": "hold", "failed": "reject"}[outcome]


def seed_metrics(shift: float, spread: float = 2.0, noise: int = 99, model: str = "1" * 64) -> dict[str, Any]:
    """What another training seed measured: a difference of `shift` in distance from teacher-4."""
    metrics: dict[str, Any] = deepcopy(good_reports()["metrics"])
    metrics["comparisons"]["onestep vs teacher-4"]["frechet_video_distance"] = difference(shift, spread)
    metrics["comparison"] = {"alpha": 0.006, "seed": noise, "candidate": model}
    return metrics


@pytest.mark.parametrize(
    ("seeds", "verdict", "words"),
    [
        ({"2.json": seed_metrics(-15.0)}, "promote", ""),
        ({"2.json": seed_metrics(1.0)}, "hold", "with another training seed +1"),
        ({"2.json": seed_metrics(9.0)}, "reject", "with another training seed +9"),
        ({}, "hold", "1 models of different training seeds, 2 needed"),
        ({"2.json": seed_metrics(-15.0, model="0" * 64)}, "hold", "1 models of different training seeds"),
        ({"2.json": seed_metrics(-15.0, noise=5)}, "hold", "2.json was measured with noise 5, not 99"),
    ],
)
def test_models_of_other_training_seeds_must_agree_where_they_are_asked_for(
    verdict_of: VerdictOf, seeds: dict[str, Any], verdict: str, words: str
) -> None:
    found = verdict_of(good_reports(), SETTINGS.model_copy(update={"training_seeds": 2}), seeds)
    assert found["verdict"] == verdict
    assert words in found["reason"]
    assert set(found["inputs"]) == {"metrics", "latency", "validation", "production", *(f"seeds/{n}" for n in seeds)}


def test_pin_that_offers_more_than_there_is_is_refused(verdict_of: VerdictOf) -> None:
    reports = good_reports()
    reports["production"] = FIRST | {"alpha": 0.02}
    with pytest.raises(GateError, match=r"offers alpha 0\.02 to comparison 1, which can have at most 0\.00635"):
        verdict_of(reports)
    reports["production"] = FIRST | {"comparison": 9, "alpha": 0.06}
    with pytest.raises(GateError, match=r"at most 0\.05"):
        verdict_of(reports)


def test_power_says_what_each_night_can_find(verdict_of: VerdictOf) -> None:
    table = verdict_of(against_champion((0.001, 0.5)))["power"]
    assert [row["night"] for row in table] == [1, 30, 90, 365]
    assert sorted((row["alpha"] for row in table), reverse=True) == [row["alpha"] for row in table]
    error = 2.0 / 1.959964  # the interval reaches 2 to both sides
    for row in table:
        expected = (norm.isf(row["alpha"] / 2) + norm.ppf(0.8)) * error
        assert row["detectable"]["frechet_video_distance"] == pytest.approx(expected, rel=1e-4)


def test_report_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "production.json").write_text(json.dumps(FIRST))
    files = (tmp_path / f"{name}.json" for name in ("metrics", "latency", "machine", "validation", "production"))
    with pytest.raises(StorageError, match=r"metrics\.json does not exist"):
        gate(*files, tmp_path / "seeds", tmp_path / "verdict.json", SETTINGS)


def test_rule_on_an_unknown_metric_is_refused_by_its_key(verdict_of: VerdictOf) -> None:
    settings = SETTINGS.model_copy(update={"better_metrics": ("prettiness",)})
    with pytest.raises(GateError, match=r"gate\.better_metrics names 'prettiness', which is not a metric"):
        verdict_of(good_reports(), settings)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("metrics", "models"), [], "metrics.json: models holds no values by name"),
        (("metrics", "models", "onestep"), 1.0, "metrics.json: models.onestep holds no values by name"),
        (("metrics", "models", "onestep", "diversity"), {"value": 1.0}, "models.onestep.diversity.low is missing"),
        (
            ("metrics", "comparisons", "onestep vs teacher-4", "attribute_accuracy", "low"),
            "x",
            "low = 'x' is not a number",
        ),
        (
            ("metrics", "tests", "onestep vs teacher-4", "attribute_accuracy"),
            {},
            "attribute_accuracy.p_value is missing",
        ),
        (("metrics", "prompts"), "128", "prompts = '128' is not a number"),
        (("metrics", "unmeasured"), None, "unmeasured holds no values by name"),
        (("latency", "models", "onestep"), [], "latency.json: models.onestep holds no values by name"),
        (("metrics",), [], "metrics.json holds a list where an object is needed"),
        (("validation",), "passed", "validation.json holds the value 'passed' where an object is needed"),
    ],
)
def test_report_that_was_edited_is_named_with_its_key(
    verdict_of: VerdictOf, place: tuple[str, ...], value: object, words: str
) -> None:
    reports = deepcopy(good_reports())
    parent: Any = reports
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = value
    with pytest.raises((GateError, StorageError)) as caught:
        verdict_of(reports)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("timed", "where"),
    [
        (MACHINE | {"cpu": "A faster one"}, "A faster one, 2 cores, no GPU, 2 threads"),
        (MACHINE | {"gpus": ["NVIDIA H100 80GB HBM3, 81559 MiB"]}, "NVIDIA H100 80GB HBM3, 81559 MiB"),
        (MACHINE | {"threads": 8}, "8 threads"),
        (None, "a machine without a name"),
    ],
)
def test_timings_of_another_machine_are_refused(verdict_of: VerdictOf, timed: Any, where: str) -> None:
    reports = good_reports()
    reports["latency"]["machine"] = timed
    with pytest.raises(GateError, match=f"measured on .*{where}.*, and this run is on A processor, 2 cores") as refused:
        verdict_of(reports)
    assert "dvc repro --force --single-item latency" in str(refused.value)


def test_a_verdict_holds_computed_numbers_in_six_digits_and_what_was_offered_as_it_was(verdict_of: VerdictOf) -> None:
    reports = good_reports()
    reports["production"] = FIRST | {"alpha": 0.006123456789}
    reports["latency"]["models"]["teacher-25"]["denoiser_s"] = cell(0.1234567891, 0.001)
    rules = {rule["name"]: rule for rule in verdict_of(reports)["rules"]}
    assert rules["denoiser speed-up"]["observed"] == 12.3457
    assert rules["better than teacher-4: attribute_accuracy"]["alpha"] == 0.006123456789


def test_a_rule_on_an_attribute_of_the_footage_is_judged_like_any_other(verdict_of: VerdictOf) -> None:
    settings = SETTINGS.model_copy(update={"floors": {"attribute_accuracy_breed": 0.5, "diversity": 0.7}})
    reports = good_reports()
    for row, value in (("onestep", 0.7), ("real", 1.0)):
        reports["metrics"]["models"][row] = reports["metrics"]["models"][row] | {
            "attribute_accuracy_breed": cell(value)
        }
    assert outcomes(verdict_of(reports, settings))["floor: attribute_accuracy_breed"] == "passed"
    missing = outcomes(verdict_of(good_reports(), settings))["floor: attribute_accuracy_breed"]
    assert missing == "held"
