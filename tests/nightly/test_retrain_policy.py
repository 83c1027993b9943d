import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from onestep.core.params import SettingsError, load_group
from onestep.core.storage import StorageError
from onestep.gate.settings import GateSettings
from onestep.nightly.retrain_policy import Decision, Situation, decide, look
from onestep.nightly.settings import RetrainSettings
from tests.night_project import ROOT

SETTINGS = RetrainSettings(min_new_clips=20, on_drift=True, max_champion_age_days=30.0, on_new_recipe=False)
QUIET = Situation(
    by_hand=False,
    failed_checks=(),
    new_clips=0,
    gone_clips=0,
    drifted=False,
    drift_says="0 of 7 columns moved",
    champion_age_days=3.0,
    new_recipe=False,
    tried_as=None,
)


def speaking(decision: Decision) -> list[str]:
    return [reason.rule for reason in decision.reasons if reason.speaks_for]


def test_quiet_night_has_no_reason_and_says_so() -> None:
    decision = decide(QUIET, SETTINGS)
    assert not decision.retrain
    assert decision.says == "Nothing to do: no rule is a reason to retrain."
    assert len(decision.as_table()) == len(decision.reasons)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"new_clips": 20}, "new clips"),
        ({"new_clips": 12, "gone_clips": 8}, "new clips"),
        ({"drifted": True}, "drift"),
        ({"champion_age_days": 30.0}, "age of the champion"),
        ({"by_hand": True}, "by hand"),
        ({"new_clips": None, "gone_clips": None}, "first attempt"),
    ],
)
def test_each_reason_is_enough_alone(change: dict[str, object], rule: str) -> None:
    decision = decide(replace(QUIET, **change), SETTINGS)  # type: ignore[arg-type]
    assert decision.retrain
    assert speaking(decision) == [rule]
    assert decision.says == f"Retrain: {rule}."


@pytest.mark.parametrize(
    "change",
    [
        {"new_clips": 19},
        {"champion_age_days": 29.9},
        {"champion_age_days": None},
        {"drifted": None},
        {"new_recipe": True},
    ],
)
def test_less_than_the_limit_is_no_reason(change: dict[str, object]) -> None:
    assert not decide(replace(QUIET, **change), SETTINGS).retrain  # type: ignore[arg-type]


def test_rules_that_are_off_have_no_say() -> None:
    off = SETTINGS.model_copy(update={"on_drift": False, "max_champion_age_days": None})
    assert not decide(replace(QUIET, drifted=True, champion_age_days=400.0), off).retrain
    on = SETTINGS.model_copy(update={"on_new_recipe": True})
    assert speaking(decide(replace(QUIET, new_recipe=True), on)) == ["new recipe"]


@pytest.mark.parametrize("reason", [{"drifted": True}, {"by_hand": True}, {"new_clips": 500}])
def test_bad_clips_forbid_it_whatever_else_speaks_for_it(reason: dict[str, object]) -> None:
    decision = decide(replace(QUIET, failed_checks=("brightness",), **reason), SETTINGS)  # type: ignore[arg-type]
    assert not decision.retrain
    assert decision.bad_clips
    assert decision.says == "Not retrained: the clips failed validation (brightness)."


def test_what_was_tried_is_not_tried_again_not_even_by_hand() -> None:
    decision = decide(replace(QUIET, by_hand=True, tried_as="run 7 (reject)"), SETTINGS)
    assert not decision.retrain
    assert "run 7 (reject)" in decision.says
    assert not decision.bad_clips


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
        look(project, gate)
