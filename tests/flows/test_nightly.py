"""Nights on a small graph against a real server, in the order in which they come."""

import json
from pathlib import Path
from typing import Any

import pytest
from flows.nightly import nightly
from flows.retrain import retrain

from onestep.provenance import ledger
from onestep.registry.champion import champion
from onestep.registry.history import JudgedTrial, judged_trials
from onestep.vcs.git import Repository
from onestep.vcs.project import Project
from tests.flows.asking import artifact, statuses
from tests.flows.conftest import Played
from tests.night_project import write_footage, write_night_params
from tests.toy_project import run

pytestmark = pytest.mark.usefixtures("prefect_server")
STAGES = ["ingest", "validate", "production", "drift", "train", "evaluate", "gate"]


def attempts(root: Path) -> list[JudgedTrial]:
    return judged_trials(ledger.read(Repository(root)))


def state(root: Path) -> dict[str, Any]:
    """What a night that promotes nothing must leave alone."""
    return {
        "refs": run(root, "git", "for-each-ref"),
        "status": run(root, "git", "status", "--porcelain"),
        "head": run(root, "git", "rev-parse", "HEAD"),
        "lock": (root / "dvc.lock").read_text() if (root / "dvc.lock").exists() else None,
    }


def test_first_night_ends_promoted_and_main_has_lock_and_pin(first_night: Played) -> None:
    root = first_night.root
    assert first_night.said.startswith("onestep@v1.0.0 is in production")
    now = champion(Project(root))
    assert now is not None
    assert now.version_tag == "onestep@v1.0.0"
    (attempt,) = attempts(root)
    branch = f"runs/{attempt.run}"
    assert run(root, "git", "branch", "--list", "*", "--format=%(refname:short)").split() == ["ledger", "main", branch]
    assert run(root, "git", "merge-base", "main", branch) == run(root, "git", "rev-parse", branch)
    assert run(root, "git", "status", "--porcelain") == ""
    assert json.loads((root / "data/production.json").read_text())["champion"]["tag"] == "onestep@v1.0.0"
    assert "models/onestep" in (root / "dvc.lock").read_text()
    assert not (root / "models/onestep").exists()  # the working tree is a person's: `dvc checkout` is theirs to type
    page = (root / "reports/nightly.html").read_text()
    assert "A new model is in production" in page
    assert "http://" not in page
    assert (root.parent / "remote").is_dir()


def test_second_night_without_footage_does_nothing_and_says_so(after_first_night: Path) -> None:
    before = state(after_first_night)
    said = nightly(str(after_first_night))
    assert said == "Nothing to do: no rule is a reason to retrain."
    assert state(after_first_night) == before
    assert list(statuses()) == STAGES
    assert [statuses()[stage] for stage in ("ingest", "validate", "train")] == ["cached"] * 3
    rows = {row["rule"]: row for row in json.loads(artifact("decision"))}
    assert rows["new clips"]["observed"] == "0 new, 0 removed"
    assert "Nothing to do" in (after_first_night / "reports/nightly.html").read_text()


def test_night_with_drifted_footage_retrains(waiting_night: Played) -> None:
    assert "may be promoted" in waiting_night.said
    assert waiting_night.decision["drift"]["effect"] == "retrain"
    assert waiting_night.decision["new clips"]["effect"] == "no reason"
    assert waiting_night.stages["train"] == "ran"
    assert champion(Project(waiting_night.root)).version_tag == "onestep@v1.0.0"


def test_candidate_whose_promotion_did_not_happen_is_promoted_the_night_after(second_night: Played) -> None:
    assert second_night.said.startswith("onestep@v1.1.0 is in production")
    assert second_night.stages["train"] == "not run"
    assert champion(Project(second_night.root)).version_tag == "onestep@v1.1.0"
    assert len(attempts(second_night.root)) == 2


def test_night_with_bad_footage_stops_at_validation_and_the_old_champion_stays(after_first_night: Path) -> None:
    write_footage(after_first_night.parent / "footage", -5.0, range(30, 60))
    before, now = state(after_first_night), champion(Project(after_first_night))
    said = nightly(str(after_first_night))
    assert said == "Not retrained: the clips failed validation (brightness)."
    assert state(after_first_night) == before
    assert champion(Project(after_first_night)) == now
    assert statuses()["validate"] == "ran"
    assert statuses()["train"] == "not run"
    assert "Stopped before training" in (after_first_night / "reports/nightly.html").read_text()


def test_refused_candidate_is_recorded_and_not_tried_again(after_first_night: Path) -> None:
    root = after_first_night
    write_night_params(root, verdict="hold")
    run(root, "git", "commit", "--quiet", "--all", "--message", "A stricter gate")
    write_footage(root.parent / "footage", 0.9, range(30, 49))
    assert nightly(str(root)) == "because"
    assert attempts(root)[0].verdict == "hold"
    held = attempts(root)[0].run
    assert run(root, "git", "show", f"runs/{held}:dvc.lock").count("models/onestep") > 0
    assert champion(Project(root)).version_tag == "onestep@v1.0.0"
    again = nightly(str(root))
    assert again == "Not retrained, though drift: the same clips, parameters and code were comparison 2 (hold)."
    assert retrain(str(root)).startswith("Not retrained, though by hand")
    assert len(attempts(root)) == 2
