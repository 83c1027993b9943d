import shutil
from pathlib import Path

import pytest

from onestep.vcs.graph import changes, kept_in_git, plan
from onestep.vcs.project import GraphError, Project


def test_plan_has_the_graphs_order_and_everything_below_a_change_as_affected(project: Path) -> None:
    assert [(stage.name, stage.affected) for stage in plan(Project(project))] == [
        ("ingest", False),
        ("train", False),
        ("gate", False),
    ]
    (project / "params.yaml").write_text("learning_rate: 8\nverdict: promote\n")
    assert [(stage.name, stage.changed, stage.affected) for stage in plan(Project(project))] == [
        ("ingest", False, False),
        ("train", True, True),
        ("gate", False, True),
    ]


def test_before_the_first_run_every_stage_is_affected(project: Path) -> None:
    (project / "dvc.lock").unlink()
    for folder in ("data/clips", "models", "reports"):
        shutil.rmtree(project / folder)
    assert [(stage.name, stage.affected) for stage in plan(Project(project))] == [
        ("ingest", True),
        ("train", True),
        ("gate", True),
    ]


def test_a_file_that_no_stage_makes_is_named_when_it_is_missing(project: Path) -> None:
    (project / "data" / "production.json").unlink()
    with pytest.raises(GraphError, match=r"production\.json"):
        plan(Project(project))


def test_git_keeps_what_dvc_does_not(project: Path) -> None:
    kept = kept_in_git(Project(project))
    assert {"dvc.lock", "dvc.yaml", "make.py", "params.yaml", "reports/verdict.json"} <= set(kept)
    assert not [path for path in kept if path in ("models/onestep", "data/clips", "notes.txt")]


def test_finished_run_has_no_changes(project: Path) -> None:
    assert changes(Project(project)) == []


def test_artifact_is_found_by_name_and_its_absence_named(project: Path) -> None:
    opened = Project(project)
    assert opened.artifact("onestep") == "models/onestep"
    assert opened.artifact("clips", "HEAD") == "data/clips"
    with pytest.raises(GraphError, match=r"dvc\.yaml at HEAD has no artifact 'other'"):
        opened.artifact("other", "HEAD")


def test_folder_without_a_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="is not a DVC project"), Project(tmp_path).graph():
        pass


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stages: [\n", r"dvc\.yaml, line 2 is not valid YAML"),
        ("stages: 3\n", r"validation failed: expected a dictionary for dictionary value @ data\['stages'\]"),
        ("stages: {a: {cmd: 3}}\n", r"expected str for dictionary value @ data\['stages'\]\['a'\]\['cmd'\]"),
        ("- 1\n", "validation failed: expected a dictionary"),
        ("stages: {a: {cmd: echo}}\nstages: {}\n", "stages stands twice, first on line 1"),
    ],
)
def test_a_graph_that_dvc_refuses_is_one_sentence(project: Path, text: str, words: str) -> None:
    (project / "dvc.yaml").write_text(text)
    for ask in (changes, kept_in_git):
        with pytest.raises(GraphError, match=words) as caught:
            ask(Project(project))
        assert "\n" not in str(caught.value)
    if "twice" in words or "not valid" in words:
        with pytest.raises(GraphError, match=words):
            Project(project).artifact("clips")
