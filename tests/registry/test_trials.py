import json
from collections.abc import Callable
from pathlib import Path

import pytest

from onestep.cli.params import load_params
from onestep.core.storage import sha256_file, sha256_folder
from onestep.core.yaml_files import dump_yaml, read_yaml
from onestep.gate.pin import Pin, read_pin
from onestep.gate.spending import alpha_after
from onestep.provenance import ledger
from onestep.provenance.ledger import (
    Attempt,
    Entry,
    LedgerMoved,
    Override,
    Promotion,
    Verdict,
    standing_verdict,
)
from onestep.registry.promotion import merge, promote
from onestep.registry.trials import (
    PIN,
    AttemptRefused,
    due,
    offer,
    outcomes,
    override,
    record,
    seed_of,
)
from onestep.vcs.git import Repository
from onestep.vcs.graph import code_files
from tests.test_graph import ROOT
from tests.toy_project import reproduce, run

Retrain = Callable[..., None]
SETTINGS = load_params(ROOT / "params.yaml").gate


def entries(project: Path) -> list[Entry]:
    return ledger.read(Repository(project))


def offered(project: Path, only_if_changed: bool = False) -> Pin:
    pin = offer(project, SETTINGS, None, only_if_changed)
    assert pin is not None
    return pin


def promoted(project: Path, comparison: int) -> None:
    """What a promotion enters, without its tags."""
    promotion = Promotion(comparison=comparison, tag="onestep@v1.0.0", model_sha256="a" * 64, replaces=None)
    ledger.append(Repository(project), promotion)


def test_attempt_is_in_the_ledger_before_its_result_and_the_pin_holds_all_the_run_needs(project: Path) -> None:
    pin = offered(project)
    (entry,) = entries(project)
    attempt = entry.content
    assert isinstance(attempt, Attempt)
    assert (attempt.comparison, attempt.alpha, attempt.seed) == (1, alpha_after([], SETTINGS), seed_of(1))
    assert attempt.data == sha256_file(project / "data/clips/clips.parquet")
    assert pin == read_pin(project / PIN)
    assert (pin.comparison, pin.alpha, pin.seed, pin.ledger) == (1, attempt.alpha, attempt.seed, entry.sha256)
    second = offered(project)
    assert (second.comparison, second.alpha) == (2, alpha_after([False], SETTINGS))
    assert second.seed != pin.seed
    assert second.last_data == attempt.data


def test_code_is_what_stages_depend_on_and_nobody_makes(project: Path) -> None:
    assert code_files(project) == ["data/production.json", "dvc.yaml", "make.py"]
    graph = read_yaml(project / "dvc.yaml")
    graph["stages"]["gate"]["deps"].append("models/onestep/model_index.json")  # of a folder that is made
    (project / "dvc.yaml").write_text(dump_yaml(graph))
    assert code_files(project) == ["data/production.json", "dvc.yaml", "make.py"]


def test_verdict_of_every_run_enters_the_ledger_refused_ones_too(project: Path, retrain: Retrain) -> None:
    for number, word in enumerate(("reject", "hold", "promote"), start=1):
        retrain(number, word)
        offered(project)
        reproduce(project)
        after = record(project)
        verdict = after[-1].content
        assert isinstance(verdict, Verdict)
        assert (verdict.comparison, verdict.verdict, verdict.reason) == (number, word, "because")
        assert verdict.verdict_sha256 == sha256_file(project / "reports/verdict.json")
        assert verdict.model_sha256 == sha256_folder(project / "models/onestep")
        assert record(project) == after
    assert [entry.kind for entry in entries(project)] == ["attempt", "verdict"] * 3


def test_first_run_without_a_ledger_enters_attempt_and_verdict_at_once(project: Path, retrain: Retrain) -> None:
    after = record(project, run="abc")
    assert [entry.kind for entry in after] == ["attempt", "verdict"]
    assert [entry.content.run for entry in after] == ["abc", "abc"]
    attempt = after[0].content
    pin = read_pin(project / PIN)
    assert isinstance(attempt, Attempt)
    assert (attempt.comparison, attempt.alpha, attempt.seed) == (1, pin.alpha, pin.seed)
    assert due(project, entries(project)) == []
    retrain(2)
    with pytest.raises(AttemptRefused, match=r"params\.yaml changed since comparison 1"):
        due(project, entries(project))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("params", r"params\.yaml changed since comparison 1"),
        ("code", "code or environment changed"),
        ("clips", "the clips changed"),
        ("alpha", r"alpha in data/production\.json changed"),
        ("seed", r"the seed in data/production\.json changed"),
        ("champion", r"the champion in data/production\.json changed"),
    ],
)
def test_another_candidate_than_the_one_that_was_entered_is_refused(project: Path, change: str, named: str) -> None:
    offered(project)
    pin = json.loads((project / PIN).read_text())
    if change == "params":
        (project / "params.yaml").write_text("learning_rate: 9\nverdict: promote\n")
    elif change == "code":
        (project / "make.py").write_text((project / "make.py").read_text() + "\n")
    elif change == "clips":
        (project / "data/clips/clips.parquet").chmod(0o644)
        (project / "data/clips/clips.parquet").unlink()
        (project / "data/clips/clips.parquet").write_text("others")
    else:
        other = {"alpha": 0.04, "seed": 5, "champion": {"tag": "onestep@v9.0.0", "sha256": "0" * 64}}
        (project / PIN).write_text(json.dumps(pin | {change: other[change]}))
    with pytest.raises(AttemptRefused, match=named):
        due(project, entries(project))


def test_run_is_refused_once_the_ledger_has_moved(project: Path) -> None:
    offered(project)
    before = (project / PIN).read_text()
    offered(project)
    (project / PIN).write_text(before)
    with pytest.raises(LedgerMoved, match=r"entry 2 \(attempt\) came after comparison 1 was offered"):
        due(project, entries(project))


def test_one_attempt_has_one_verdict(project: Path) -> None:
    offered(project)
    record(project)
    verdict = project / "reports/verdict.json"
    content = json.loads(verdict.read_text()) | {"verdict": "hold"}
    verdict.unlink()
    verdict.write_text(json.dumps(content))
    with pytest.raises(AttemptRefused, match=r"comparison 1 has another verdict in the ledger \(promote\)"):
        record(project)


def test_wealth_comes_back_on_promotion_by_the_gate_and_not_by_a_person(project: Path, retrain: Retrain) -> None:
    retrain(1, "hold")
    offered(project)
    override(project, "promote", "the motion is what we want")
    promoted(project, 1)
    retrain(2, "promote")
    assert offered(project).alpha == alpha_after([False], SETTINGS)
    record(project)
    promoted(project, 2)
    assert outcomes(entries(project)) == [False, True]
    assert offered(project).alpha == alpha_after([False, True], SETTINGS) > 3 * alpha_after([False, False], SETTINGS)


def test_override_is_a_verdict_with_a_name_and_a_reason_beside_the_gates_own(project: Path, retrain: Retrain) -> None:
    retrain(1, "reject")
    offered(project)
    with pytest.raises(AttemptRefused, match="an override needs its reason"):
        override(project, "promote", "  ")
    assert len(entries(project)) == 1
    override(project, "promote", "seen by three people")
    assert [entry.kind for entry in entries(project)] == ["attempt", "verdict", "override"]
    standing = standing_verdict(entries(project), 1)
    assert isinstance(standing, Override)
    assert (standing.verdict, standing.reason) == ("promote", "seen by three people")
    assert standing.person == "A Person <person@example.org>"
    assert due(project, entries(project)) == []


def test_schedule_spends_nothing_where_nothing_changed(project: Path, retrain: Retrain) -> None:
    offered(project, only_if_changed=True)
    assert offer(project, SETTINGS, None, only_if_changed=True) is None
    assert len(entries(project)) == 1
    retrain(2)
    assert offered(project, only_if_changed=True).comparison == 2


def test_offer_names_the_champion_in_production(project: Path) -> None:
    done = promote(project)
    merge(project, done.branch)
    pin = offered(project)
    assert pin.champion is not None
    assert (pin.champion.tag, pin.champion.sha256) == (done.version_tag, done.sha256)


def test_offer_before_there_are_clips_is_refused_in_a_sentence(project: Path) -> None:
    run(project, "rm", "-r", "data/clips")
    with pytest.raises(AttemptRefused, match="run dvc repro validate first"):
        offered(project)
    assert entries(project) == []
