import json
from collections.abc import Callable
from pathlib import Path

import pytest

from onestep.cli.params import load_params
from onestep.core.paths import PIN, VERDICT
from onestep.core.storage import sha256_file, sha256_folder
from onestep.core.yaml_files import dump_yaml, read_yaml
from onestep.gate.pin import Pin, read_pin
from onestep.gate.spending import alpha_after
from onestep.provenance import ledger
from onestep.provenance.entries import Entry, Override, Promotion, Trial, Verdict, standing_verdict
from onestep.provenance.ledger import LedgerMoved
from onestep.registry.merge import merge
from onestep.registry.promotion import promote
from onestep.registry.trials import TrialRefused, close, due, offer, override, promoted_by_gate, seed_of
from onestep.vcs.git import Repository
from onestep.vcs.graph import inputs_of
from onestep.vcs.project import GraphError, Project
from tests.test_graph import ROOT
from tests.toy_project import reproduce, run

Retrain = Callable[..., None]
SETTINGS = load_params(ROOT / "params.yaml").gate


def entries(project: Path) -> list[Entry]:
    return ledger.read(Repository(project))


def offered(project: Path, only_if_changed: bool = False) -> Pin:
    pin = offer(Project(project), SETTINGS, None, only_if_changed)
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
    assert isinstance(attempt, Trial)
    assert (attempt.comparison, attempt.alpha, attempt.seed) == (1, alpha_after([], SETTINGS), seed_of(1))
    assert attempt.data == sha256_file(project / "data/clips/clips.parquet")
    assert pin == read_pin(project / PIN)
    assert (pin.comparison, pin.alpha, pin.seed, pin.ledger) == (1, attempt.alpha, attempt.seed, entry.sha256)
    second = offered(project)
    assert (second.comparison, second.alpha) == (2, alpha_after([False], SETTINGS))
    assert second.seed != pin.seed
    assert second.last_data == attempt.data


def test_inputs_are_what_the_stages_of_the_verdict_are_given_and_none_makes(project: Path) -> None:
    before = inputs_of(Project(project), VERDICT)
    assert before.files == ("data/production.json", "make.py")
    assert before.settings == {"params.yaml": ("learning_rate", "verdict")}
    assert list(before.commands) == ["gate", "ingest", "train"]
    graph = read_yaml(project / "dvc.yaml")
    graph["stages"]["gate"]["deps"].append("models/onestep/model_index.json")  # of a folder that is made
    (project / "dvc.yaml").write_text(dump_yaml(graph))
    assert inputs_of(Project(project), VERDICT) == before
    with pytest.raises(GraphError, match=r"no stage of dvc\.yaml makes reports/other\.json"):
        inputs_of(Project(project), "reports/other.json")


def add_a_page(project: Path) -> None:
    """A stage after the gate, with code, settings and a template of its own."""
    graph = read_yaml(project / "dvc.yaml")
    graph["stages"]["report"] = {
        "desc": "A page for people",
        "cmd": "python page.py reports/page.html",
        "deps": ["page.py", "page.html.j2", "reports/verdict.json"],
        "params": ["page"],
        "outs": ["reports/page.html"],
    }
    (project / "dvc.yaml").write_text(dump_yaml(graph))
    (project / "page.py").write_text("print('hello')\n")
    (project / "page.html.j2").write_text("<h1>Verdcit</h1>\n")
    (project / "params.yaml").write_text((project / "params.yaml").read_text() + "page: blue\nnights: 1\n")


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("page.html.j2", "Verdcit", "Verdict"),
        ("page.py", "hello", "good morning"),
        ("params.yaml", "page: blue", "page: red"),
        ("params.yaml", "nights: 1", "nights: 2"),
        ("dvc.yaml", "python page.py", "python -u page.py"),
        ("dvc.yaml", "A page for people", "The page for people"),
        ("notes.txt", "mine", "still mine"),
    ],
)
def test_what_cannot_change_the_verdict_is_not_another_candidate(project: Path, path: str, old: str, new: str) -> None:
    add_a_page(project)
    offered(project)
    assert old in (project / path).read_text()
    (project / path).write_text((project / path).read_text().replace(old, new))
    assert offer(Project(project), SETTINGS, None, only_if_changed=True) is None
    assert len(entries(project)) == 1
    assert [entry.kind for entry in close(Project(project))] == ["attempt", "verdict"]


@pytest.mark.parametrize(
    ("path", "old", "new", "named"),
    [
        ("make.py", "works", "work", "code or environment changed"),
        ("dvc.yaml", "make.py train", "make.py  train", "code or environment changed"),
        ("params.yaml", "learning_rate: 1", "learning_rate: 2", r"params\.yaml changed"),
        ("params.yaml", "verdict: promote", "verdict: hold", r"params\.yaml changed"),
    ],
)
def test_what_can_change_the_verdict_is_another_candidate(
    project: Path, path: str, old: str, new: str, named: str
) -> None:
    add_a_page(project)
    offered(project)
    assert old in (project / path).read_text()
    (project / path).write_text((project / path).read_text().replace(old, new))
    with pytest.raises(TrialRefused, match=named):
        due(Project(project), entries(project))
    second = offer(Project(project), SETTINGS, None, only_if_changed=True)
    assert second is not None
    assert second.comparison == 2


def test_verdict_of_every_run_enters_the_ledger_refused_ones_too(project: Path, retrain: Retrain) -> None:
    for number, word in enumerate(("reject", "hold", "promote"), start=1):
        retrain(number, word)
        offered(project)
        reproduce(project)
        after = close(Project(project))
        verdict = after[-1].content
        assert isinstance(verdict, Verdict)
        assert (verdict.comparison, verdict.verdict, verdict.reason) == (number, word, "because")
        assert verdict.verdict_sha256 == sha256_file(project / "reports/verdict.json")
        assert verdict.model_sha256 == sha256_folder(project / "models/onestep")
        assert close(Project(project)) == after
    assert [entry.kind for entry in entries(project)] == ["attempt", "verdict"] * 3


def test_first_run_without_a_ledger_enters_attempt_and_verdict_at_once(project: Path, retrain: Retrain) -> None:
    after = close(Project(project), run="abc")
    assert [entry.kind for entry in after] == ["attempt", "verdict"]
    assert [entry.content.run for entry in after] == ["abc", "abc"]
    attempt = after[0].content
    pin = read_pin(project / PIN)
    assert isinstance(attempt, Trial)
    assert (attempt.comparison, attempt.alpha, attempt.seed) == (1, pin.alpha, pin.seed)
    assert due(Project(project), entries(project)) == []
    retrain(2)
    with pytest.raises(TrialRefused, match=r"params\.yaml changed since comparison 1"):
        due(Project(project), entries(project))


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
    with pytest.raises(TrialRefused, match=named):
        due(Project(project), entries(project))


def test_run_is_refused_once_the_ledger_has_moved(project: Path) -> None:
    offered(project)
    before = (project / PIN).read_text()
    offered(project)
    (project / PIN).write_text(before)
    with pytest.raises(LedgerMoved, match=r"entry 2 \(attempt\) came after comparison 1 was offered"):
        due(Project(project), entries(project))


def test_one_attempt_has_one_verdict(project: Path) -> None:
    offered(project)
    close(Project(project))
    verdict = project / "reports/verdict.json"
    content = json.loads(verdict.read_text()) | {"verdict": "hold"}
    verdict.unlink()
    verdict.write_text(json.dumps(content))
    with pytest.raises(TrialRefused, match=r"comparison 1 has another verdict in the ledger \(promote\)"):
        close(Project(project))


def test_wealth_comes_back_on_promotion_by_the_gate_and_not_by_a_person(project: Path, retrain: Retrain) -> None:
    retrain(1, "hold")
    offered(project)
    override(Project(project), "promote", "the motion is what we want")
    promoted(project, 1)
    retrain(2, "promote")
    assert offered(project).alpha == alpha_after([False], SETTINGS)
    close(Project(project))
    promoted(project, 2)
    assert promoted_by_gate(entries(project)) == [False, True]
    assert offered(project).alpha == alpha_after([False, True], SETTINGS) > 3 * alpha_after([False, False], SETTINGS)


def test_override_is_a_verdict_with_a_name_and_a_reason_beside_the_gates_own(project: Path, retrain: Retrain) -> None:
    retrain(1, "reject")
    offered(project)
    with pytest.raises(TrialRefused, match="an override needs its reason"):
        override(Project(project), "promote", "  ")
    assert len(entries(project)) == 1
    override(Project(project), "promote", "seen by three people")
    assert [entry.kind for entry in entries(project)] == ["attempt", "verdict", "override"]
    standing = standing_verdict(entries(project), 1)
    assert isinstance(standing, Override)
    assert (standing.verdict, standing.reason) == ("promote", "seen by three people")
    assert standing.person == "A Person <person@example.org>"
    assert due(Project(project), entries(project)) == []


def test_schedule_spends_nothing_where_nothing_changed(project: Path, retrain: Retrain) -> None:
    offered(project, only_if_changed=True)
    assert offer(Project(project), SETTINGS, None, only_if_changed=True) is None
    assert len(entries(project)) == 1
    retrain(2)
    assert offered(project, only_if_changed=True).comparison == 2


def test_offer_names_the_champion_in_production(project: Path) -> None:
    done = promote(Project(project))
    merge(Project(project), done.branch)
    pin = offered(project)
    assert pin.champion is not None
    assert (pin.champion.tag, pin.champion.sha256) == (done.version_tag, done.sha256)


def test_offer_before_there_are_clips_is_refused_in_a_sentence(project: Path) -> None:
    run(project, "rm", "-r", "data/clips")
    with pytest.raises(TrialRefused, match="run dvc repro validate first"):
        offered(project)
    assert entries(project) == []
