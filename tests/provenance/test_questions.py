"""What the records answer: blame, without, diff, show."""

import hashlib
from pathlib import Path

import pytest
from rich.console import Console

from onestep.provenance.blame import NoSource, blame, without
from onestep.provenance.diff import diff
from onestep.provenance.page import layout, write_page
from onestep.provenance.show import tree
from onestep.provenance.store import NoRecord, everything, find
from onestep.vcs.project import Project


@pytest.mark.parametrize("name", ["shots/0.mp4", "0.mp4", "clip-0", "sha256", "a file elsewhere"])
def test_blame_finds_each_run_that_saw_a_source(audited: Path, tmp_path: Path, name: str) -> None:
    if name == "sha256":
        name = hashlib.sha256(b"video 0").hexdigest()
    elif name == "a file elsewhere":
        (tmp_path / "renamed.mp4").write_bytes(b"video 0")
        name = str(tmp_path / "renamed.mp4")
    uses = blame(Project(audited), name)
    assert [use.model for use in uses[:2]] == ["onestep@v1.0.0", "onestep@v1.1.0"]
    assert {use.role for use in uses} == {"trained on it"}
    assert [use.in_production for use in uses] == [False, True, False]
    assert [use.verdict for use in uses] == ["promote", "promote", "reject"]


def test_blame_tells_training_from_judging_from_refusing(audited: Path) -> None:
    assert {use.role for use in blame(Project(audited), "1.mp4")} == {"judged on it"}
    assert [use.role for use in blame(Project(audited), "3.mp4")] == [
        "refused it (black)",
        "trained on it",
        "trained on it",
    ]
    assert next(use.model for use in blame(Project(audited), "4.mp4")) == "onestep@v1.1.0"
    with pytest.raises(NoSource, match="none of 3 recorded runs used 77"):
        blame(Project(audited), "77.mp4")


def test_without_names_models_to_retrain_and_stages_to_run(audited: Path) -> None:
    found = without(Project(audited), "3.mp4")
    assert next(use.model for use in found.retrain) == "onestep@v1.1.0"
    assert [use.model for use in found.measure] == ["onestep@v1.0.0"]
    assert found.stages == ["ingest", "train", "evaluate", "latency", "gate"]


def test_diff_names_footage_params_and_metrics_and_nothing_that_is_the_same(audited: Path) -> None:
    found = diff(Project(audited), "onestep@v1.0.0", "onestep@v1.1.0")
    assert [(change.what, change.before is None) for change in found.footage] == [
        ("shots/3.mp4", False),
        ("shots/4.mp4", True),
    ]
    assert [(c.what, c.before, c.after) for c in found.params] == [
        ("footage.files", "4", "5"),
        ("train.learning_rate", "0.1", "0.2"),
    ]
    assert [change.what for change in found.metrics] == ["onestep.accuracy"]
    assert (found.code, found.environment) == ([], [])
    assert "models/onestep" in {change.what for change in found.outputs}
    assert "models/judge" not in {change.what for change in found.outputs}


def test_tree_shows_stages_hashes_and_verdict(audited: Path) -> None:
    console = Console(width=200, record=True, file=(audited / "shown").open("w"))
    found = find(Project(audited), "onestep")
    console.print(tree(Project(audited), found))
    text = console.export_text()
    assert "in production (onestep#prod#2)" in text
    assert found.record.sha256[:12] in text
    for stage in ("footage", "ingest", "judge", "train", "evaluate", "gate"):
        assert stage in text
    assert "models/judge: not stated in dvc.yaml" in text


def test_page_is_one_offline_file_with_every_stage(audited: Path, tmp_path: Path) -> None:
    found = find(Project(audited), "onestep")
    write_page(Project(audited), found, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
    assert "<script src" not in text
    assert all(f'data-stage="{stage.name}"' in text for stage in found.record.stages)


def test_no_two_boxes_of_the_page_overlap_and_inputs_stand_above(audited: Path) -> None:
    record = find(Project(audited), "onestep").record
    boxes = {box["name"]: box for box in layout(record)}
    for stage in record.stages:
        for dep in stage.deps:
            maker = record.producer(dep.path)
            if maker is not None:
                assert boxes[maker.name]["y"] < boxes[stage.name]["y"]
    places = [(box["x"], box["y"]) for box in boxes.values()]
    assert len(set(places)) == len(places)


def test_what_is_not_recorded_is_said_with_what_is(audited: Path) -> None:
    with pytest.raises(NoRecord, match=r"'nothing' here; recorded are onestep@v1\.0\.0, onestep@v1\.1\.0, runs/"):
        find(Project(audited), "nothing")
    assert len(everything(Project(audited))) == 3
