import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from onestep.core.params import SettingsError, load_group
from onestep.core.storage import StorageError
from onestep.gate.settings import GateSettings
from onestep.nightly.retrain_policy import RULES, Decision, Reason, Situation, decide, situation_of
from onestep.nightly.settings import RetrainSettings
from onestep.vcs.project import Project
from tests.night_project import ROOT

SETTINGS = RetrainSettings(min_new_clips=20, on_drift=True, max_champion_age_days=30.0, on_new_recipe=False)
NOW = datetime(2027, 12, 24, 2, 0, tzinfo=UTC)
QUIET = Situation(
    now=NOW,
    by_hand=False,
    failed_checks=(),
    new_clips=0,
    removed_clips=0,
    drifted=False,
    drift_reason="0 of 7 columns moved",
    champion_since=NOW - timedelta(days=3),
    new_recipe=False,
    earlier_trial=None,
)


def speaking(decision: Decision) -> list[str]:
    return [reason.rule for reason in decision.reasons if reason.effect == "retrain"]


def test_quiet_night_has_no_reason_and_says_so() -> None:
    decision = decide(QUIET, SETTINGS)
    assert not decision.retrain
    assert decision.sentence == "Nothing to do: no rule is a reason to retrain."
    assert len(decision.as_table()) == len(decision.reasons)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"new_clips": 20}, "new clips"),
        ({"new_clips": 12, "removed_clips": 8}, "new clips"),
        ({"drifted": True}, "drift"),
        ({"champion_since": NOW - timedelta(days=30)}, "age of the champion"),
        ({"by_hand": True}, "by hand"),
        ({"new_clips": None, "removed_clips": None}, "first trial"),
    ],
)
def test_each_reason_is_enough_alone(change: dict[str, object], rule: str) -> None:
    decision = decide(replace(QUIET, **change), SETTINGS)  # type: ignore[arg-type]
    assert decision.retrain
    assert speaking(decision) == [rule]
    assert decision.sentence == f"Retrain: {rule}."


@pytest.mark.parametrize(
    "change",
    [
        {"new_clips": 19},
        {"champion_since": NOW - timedelta(days=29.9)},
        {"champion_since": None},
        {"drifted": None},
        {"new_recipe": True},
    ],
)
def test_less_than_the_limit_is_no_reason(change: dict[str, object]) -> None:
    assert not decide(replace(QUIET, **change), SETTINGS).retrain  # type: ignore[arg-type]


def test_rules_that_are_off_have_no_say() -> None:
    off = SETTINGS.model_copy(update={"on_drift": False, "max_champion_age_days": None})
    assert not decide(replace(QUIET, drifted=True, champion_since=NOW - timedelta(days=400)), off).retrain
    on = SETTINGS.model_copy(update={"on_new_recipe": True})
    assert speaking(decide(replace(QUIET, new_recipe=True), on)) == ["new recipe"]


@pytest.mark.parametrize("reason", [{"drifted": True}, {"by_hand": True}, {"new_clips": 500}])
def test_bad_clips_forbid_it_whatever_else_speaks_for_it(reason: dict[str, object]) -> None:
    decision = decide(replace(QUIET, failed_checks=("brightness",), **reason), SETTINGS)  # type: ignore[arg-type]
    assert not decision.retrain
    assert decision.bad_clips
    assert decision.sentence == "Not retrained: the clips failed validation (brightness)."


def test_an_earlier_trial_is_not_repeated_not_even_by_hand() -> None:
    decision = decide(replace(QUIET, by_hand=True, earlier_trial="comparison 7 (reject)"), SETTINGS)
    assert not decision.retrain
    assert "comparison 7 (reject)" in decision.sentence
    assert not decision.bad_clips


HOLIDAYS = {"2027-12-24", "2027-12-25"}


def holiday(situation: Situation, _: RetrainSettings) -> Reason:
    """A rule as a team would add it: one function of the situation, and its name in `RULES`."""
    day = f"{situation.now:%Y-%m-%d}"
    if day in HOLIDAYS and not situation.by_hand:
        return Reason("holiday", day, "working days", "forbids it", f"{day} is a holiday")
    return Reason("holiday", day, "working days", "no reason")


def test_a_rule_is_added_as_one_function() -> None:
    rules = (*RULES, holiday)
    drifted = replace(QUIET, drifted=True)
    decision = decide(drifted, SETTINGS, rules)
    assert not decision.retrain
    assert decision.sentence == "Not retrained, though drift: 2027-12-24 is a holiday."
    assert decision.as_table()[-1] == {
        "rule": "holiday",
        "observed": "2027-12-24",
        "limit": "working days",
        "effect": "forbids it",
    }
    assert decide(replace(drifted, by_hand=True), SETTINGS, rules).retrain
    assert decide(replace(drifted, now=NOW + timedelta(days=2)), SETTINGS, rules).retrain
    assert decide(QUIET, SETTINGS, rules).sentence == "Nothing to do: no rule is a reason to retrain."


def test_shipped_rules_are_valid_and_strict(tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert load_group(RetrainSettings, ROOT / "params.yaml", "retrain").min_new_clips >= 1
    wrong = tmp_path / "params.yaml"
    wrong.write_text("retrain: {min_new_clips: 0, on_drift: true, max_champion_age_days: null, on_new_recipe: false}\n")
    with pytest.raises(SettingsError, match="min_new_clips"):
        load_group(RetrainSettings, wrong, "retrain")


def test_a_fresh_clone_without_clips_says_how_to_make_them(project: Path) -> None:
    shutil.rmtree(project / "data" / "clips")
    (project / "reports" / "validation.json").write_text('{"passed": true, "checks": []}')
    gate = load_group(GateSettings, ROOT / "params.yaml", "gate")
    with pytest.raises(StorageError, match=r"clips.parquet does not exist: .*`dvc repro validate drift`"):
        situation_of(Project(project), gate)
