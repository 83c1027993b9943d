import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from onestep.cli import entry
from onestep.provenance import ledger
from onestep.registry.trials import TrialRefused, override
from onestep.vcs.git import Repository
from onestep.vcs.project import Project
from tests.test_graph import ROOT
from tests.toy_project import run

SHIPPED = ["--params", str(ROOT / "params.yaml")]


def typed(*words: str) -> str:
    """What `onestep ledger …` prints in the current folder."""
    done = CliRunner().invoke(entry.app, ["ledger", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project


def test_one_night_by_hand(here: Path) -> None:
    assert "comparison 1 against no champion: alpha 0.00636, seed 99" in typed("offer", *SHIPPED)
    assert json.loads((here / "data/production.json").read_text())["judge"].startswith("6616d675")
    assert "nothing changed since the last trial" in typed("offer", "--if-changed", *SHIPPED)
    assert "comparison 1: promote. because; the ledger's head is" in typed("close")
    said = typed("override", "reject", "--reason", "it flickers")
    assert "comparison 1: reject by A Person <person@example.org>: it flickers" in said
    shown = typed("show").splitlines()
    assert [line.split()[2] for line in shown[:-1]] == ["attempt", "verdict", "override"]
    assert shown[-1] == f"3 entries, head {ledger.head(Repository(here))}"
    assert typed("show", "--json") == run(here, "git", "show", "ledger:ledger.jsonl")


def test_power_reports_what_the_coming_nights_can_find(here: Path) -> None:
    lines = typed("power", str(ROOT / "reports/metrics.json"), *SHIPPED).splitlines()
    assert lines[0] == "after 0 comparisons, 0 of them promotions by the gate: wealth 0.025"
    assert [line.split()[1] for line in lines[1:]] == ["1", "30", "90", "365"]
    assert "alpha 6.36e-03  found with a chance of 0.8: frechet_video_distance" in lines[1]
    smallest = [float(line.split("attribute_accuracy ")[1]) for line in lines[1:]]
    assert smallest == sorted(smallest)


def test_override_takes_two_words_and_a_reason(here: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(entry.app, ["ledger", "override", "hold", "--reason", "x"]).exit_code == 2
    assert runner.invoke(entry.app, ["ledger", "override", "promote"]).exit_code == 2
    assert runner.invoke(entry.app, ["ledger", "override", "promote", "--reason", " "]).exit_code == 2
    with pytest.raises(TrialRefused, match="needs its reason"):
        override(Project(here), "promote", " ")
    assert ledger.read(Repository(here)) == []


def test_broken_ledger_has_an_exit_code_of_its_own(here: Path, monkeypatch, capsys) -> None:
    typed("offer", *SHIPPED)
    repository = Repository(here)
    commit = repository.commit(repository.tree_of({ledger.FILE: b"{}\n"}), None, "tampered")
    repository.git("update-ref", ledger.REF, commit)
    monkeypatch.setattr("sys.argv", ["onestep", "ledger", "show"])
    with pytest.raises(SystemExit) as caught:
        entry.main()
    assert caught.value.code == 6
    assert "the ledger is broken at entry 1" in capsys.readouterr().err
