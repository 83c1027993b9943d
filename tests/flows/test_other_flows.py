"""What is not a night: footage in, a model measured again, cleaning, the audit."""

import json
from pathlib import Path

import dvc.api
import pytest
from flows.audit import AuditFailed, audit, version_of_the_week
from flows.clean import clean
from flows.evaluate import evaluate
from flows.ingest import ingest

from onestep.core.paths import CLONES, MODEL
from onestep.core.storage import sha256_folder
from onestep.registry.gc import missing
from onestep.vcs.project import Project
from onestep.vcs.versions import versions
from tests.flows.asking import artifact, statuses
from tests.flows.test_nightly import state
from tests.night_project import write_footage
from tests.toy_project import run

pytestmark = pytest.mark.usefixtures("prefect_server")
FIRST, SECOND = "onestep@v1.0.0", "onestep@v1.1.0"


def clones(root: Path) -> list[Path]:
    """The clones of runs, oldest first."""
    return sorted((root / CLONES).glob("*/"), key=lambda clone: (clone / ".git/config").stat().st_mtime)


def cached(root: Path) -> set[Path]:
    return {path for path in (root / ".dvc/cache/files").rglob("*") if path.is_file()}


def test_ingest_says_what_a_night_would_do_and_does_not_do_it(after_first_night: Path) -> None:
    write_footage(after_first_night.parent / "footage", 0.9, range(30, 49))
    before = state(after_first_night)
    assert ingest(str(after_first_night)) == "Retrain: drift."
    assert state(after_first_night) == before
    ran = {stage for stage, status in statuses().items() if status == "ran"}
    assert ran >= {"ingest", "validate", "drift"}
    assert not ran & {"train", "evaluate", "gate"}
    assert "Retrain: drift." in (after_first_night / "reports/ingest.html").read_text()


def test_earlier_version_is_measured_again_and_nothing_is_recorded(after_second_night: Path) -> None:
    root = after_second_night
    before = state(root)
    said = evaluate(FIRST, str(root))
    assert said == f"{FIRST}, measured at main: because"
    assert state(root) == before
    assert (statuses()["train"], statuses()["evaluate"], statuses()["gate"]) == ("not run", "ran", "ran")
    sha256 = {version.tag: version.sha256 for version in versions(Project(root).git, MODEL)}
    assert sha256_folder(clones(root)[-1] / "models/onestep") == sha256[FIRST] != sha256[SECOND]


def test_cleaning_keeps_what_every_registered_version_needs_and_the_audit_finds_it(after_second_night: Path) -> None:
    root = after_second_night
    (root / "waste").write_text("nobody needs this")
    run(root, "dvc", "add", "--quiet", "waste")
    (root / "waste.dvc").unlink()
    (waste,) = [path for path in cached(root) if path.read_bytes() == b"nobody needs this"]
    before, newest = cached(root), clones(root)[-1]
    said = clean(str(root), keep=1)
    assert said.endswith("cache: kept what 2 recorded runs need")
    assert clones(root) == [newest]
    assert before - cached(root) == {waste}
    assert missing(Project(root)) == {}
    assert audit(str(root)) == "3 of 3 checks passed"
    rows = [(row["model"], row["check"], row["outcome"]) for row in json.loads(artifact("audit"))]
    chosen = version_of_the_week([FIRST, SECOND])
    assert rows == [(FIRST, "verify", "passed"), (SECOND, "verify", "passed"), (chosen, "reproduce", "identical")]


def test_audit_fails_and_names_the_model_that_is_not_what_its_record_says(after_second_night: Path) -> None:
    root = after_second_night
    weights = dvc.api.read("models/onestep/weights", repo=str(root), rev=SECOND)
    copies = [path for path in {*cached(root), *(root.parent / "remote/files").rglob("*/*/*")} if path.is_file()]
    for path in copies:
        if path.read_bytes() == weights.encode():
            path.chmod(0o644)
            path.write_text("other weights")
    with pytest.raises(AuditFailed) as failure:
        audit(str(root), reproduce=False)
    assert SECOND in str(failure.value)
    assert FIRST not in str(failure.value)
    outcomes = {row["model"]: row["outcome"] for row in json.loads(artifact("audit"))}
    assert outcomes == {FIRST: "passed", SECOND: "failed"}
