"""Ten edits of the kind that people make, and the stages that `dvc repro` runs again for each: those and no others."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from onestep.core.yaml_files import read_yaml
from onestep.vcs.graph import PlannedStage, depending_on, plan
from onestep.vcs.project import Project
from tests import house
from tests.small_project import ROOT, command
from tests.toy_project import started

STAGES = list(read_yaml(ROOT / "dvc.yaml")["stages"])


def line(text: str) -> Callable[[Path], None]:
    """The edit that adds a line at the end of a file."""
    return lambda path: path.write_text(f"{path.read_text()}{text}\n")


def instead(old: str, new: str) -> Callable[[Path], None]:
    """The edit that writes one text for another, which stands there."""

    def edit(path: Path) -> None:
        text = path.read_text()
        assert old in text, f"{path} has no {old!r}"
        path.write_text(text.replace(old, new))

    return edit


EDITS = {
    "one stage's setting": ("params.yaml", instead("evaluate_every:", "evaluate_every: 1  # was"), {"adversarial"}),
    "a comment in one stage's settings": (
        "src/onestep/training/adversarial_settings.py",
        line("# a comment"),
        {"adversarial"},
    ),
    "a page's template": ("src/onestep/report/report.html.j2", line("<p>More.</p>"), {"report"}),
    "a metric's title": ("src/onestep/report/metric_definitions.py", line("# a title"), {"report"}),
    "a metric's computation": (
        "src/onestep/evaluation/clip_metrics.py",
        line("# a metric"),
        {"adversarial", "samples-teacher", "evaluate"},
    ),
    "a loss": ("src/onestep/training/losses.py", line("# a loss"), {"consistency", "adversarial"}),
    "the demo world": ("src/onestep/demo/world.py", line("# a shape"), {"footage"}),
    "a rule of the gate": ("src/onestep/gate/rules.py", line("# a rule"), {"gate"}),
    "a help text of the command line": ("src/onestep/cli/stages.py", instead("Folder of", "The folder of"), set()),
    "the versions of the libraries": ("constraints.txt", line("# a version"), set(STAGES)),
}

pytestmark = pytest.mark.slow  # DVC reads the whole graph once for each edit


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped graph with a lock that fits it: every stage's outs stand for what it would make."""
    root = tmp_path_factory.mktemp("reruns") / "project"
    root.mkdir()
    for name in ("dvc.yaml", "params.yaml", "constraints.txt", ".dvcignore"):
        shutil.copyfile(ROOT / name, root / name)
    shutil.copytree(ROOT / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (root / "data").mkdir()
    for name in ("production.json", "margins.json"):
        shutil.copyfile(ROOT / "data" / name, root / "data" / name)
    for name in ("seeds", "baselines"):
        shutil.copytree(ROOT / "data" / name, root / "data" / name)
    with started(root):
        pass
    for stage in read_yaml(root / "dvc.yaml")["stages"].values():
        for out in house.outs(stage):
            path = root / out if Path(out).suffix else root / out / "content"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(out)
    command(root, "dvc", "commit", "--force", "--quiet")
    return root


@pytest.fixture
def edited(complete: Path, request: pytest.FixtureRequest) -> Iterator[list[PlannedStage]]:
    """What would run after an edit, which is undone afterwards."""
    path, edit = complete / request.param[0], request.param[1]
    before = path.read_bytes()
    edit(path)
    yield plan(Project(complete))
    path.write_bytes(before)


def test_complete_project_reruns_nothing(complete: Path) -> None:
    assert [stage.name for stage in plan(Project(complete)) if stage.affected] == []


@pytest.mark.parametrize(
    ("edited", "reruns"),
    [pytest.param(row[:2], row[2], id=name) for name, row in EDITS.items()],
    indirect=["edited"],
)
def test_edit_reruns_the_stages_that_it_can_change(edited: list[PlannedStage], reruns: set[str]) -> None:
    assert {stage.name for stage in edited if stage.changed} == reruns
    following = {stage.name for name in reruns for stage in depending_on(edited, name)}
    assert {stage.name for stage in edited if stage.affected} == reruns | following
