import time

import pytest

from onestep.core import times

GRAPH = """
stages:
  footage:
    cmd: onestep footage --out data/footage
    meta: {budget_s: 60}
  gate:
    cmd: >-
      onestep gate reports/metrics.json
      --out reports/verdict.json
"""
FOOTAGE = ["footage", "--out", "data/footage"]


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text(GRAPH)
    return tmp_path


def ended(words, code=0):
    with pytest.raises(SystemExit), times.timed(words):
        raise SystemExit(code)


def lines(since):
    return {line.split()[0]: line.split()[1:] for line in times.table(since).splitlines()}


def test_a_stage_that_ran_shows_its_time_beside_its_budget_and_others_are_cached():
    ended(FOOTAGE)
    shown = lines(since=time.time() - 1000)
    assert shown["footage"][:2] == ["60", "s"] and shown["footage"][-1] == "s"
    assert shown["gate"] == ["cached"]


def test_a_stage_that_ran_before_counts_as_cached():
    ended(FOOTAGE)
    assert lines(since=time.time() + 1)["footage"] == ["60", "s", "cached"]


def test_a_folded_command_is_recognised():
    ended(["gate", "reports/metrics.json", "--out", "reports/verdict.json"])
    assert lines(since=0)["gate"][-1] == "s"


@pytest.mark.parametrize("words", [["footage", "--out", "elsewhere"], ["params"], []])
def test_what_is_no_stage_leaves_nothing_behind(words, project):
    ended(words)
    assert not (project / ".onestep").exists()


def test_a_failed_stage_has_no_time(project):
    ended(FOOTAGE, code=1)
    assert not (project / ".onestep").exists()


def test_without_a_graph_there_is_one_sentence(project):
    (project / "dvc.yaml").unlink()
    with pytest.raises(times.TimesError, match="folder that holds it"):
        times.table(0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stages: [", "dvc.yaml, line 2 is not valid YAML"),
        ("- 1", "dvc.yaml: stages is missing"),
        ("stages: {a: {cmd: x, meta: {budget_s: soon}}}", "stages.a.meta.budget_s = 'soon': must be seconds"),
        ("stages: {a: {cmd: x, meta: {budget_s: .inf}}}", "must be seconds"),
    ],
)
def test_a_graph_that_cannot_be_read_is_named_by_the_table_and_stops_no_command(project, text, words):
    (project / "dvc.yaml").write_text(text)
    with pytest.raises(times.TimesError) as caught:
        times.table(0)
    assert words in str(caught.value)
    ended(FOOTAGE)
    (project / "dvc.yaml").write_text('stages: {a: {cmd: "onestep \'open"}}')
    ended(FOOTAGE)
