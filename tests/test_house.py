"""Each law of the house (CONTRIBUTING.md) holds, and its test fails where the law is broken."""

import ast
import inspect
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from onestep.cli.graph import command_code
from onestep.cli.params import Params
from onestep.core.settings import Settings
from onestep.core.yaml_files import read_yaml
from onestep.demo import world
from tests import house

ROOT = Path(__file__).parents[1]
FILES = house.sources()
PACKAGE_FILES = {path: text for path, text in FILES.items() if path.startswith("src/")}
STAGES = read_yaml(ROOT / "dvc.yaml")["stages"]
FOLDERS = {path.split("/")[0] for stage in STAGES.values() for path in house.outs(stage)} | {".onestep"}
WORLD = {*world.SHAPES, *world.MOTIONS, *world.BACKGROUNDS}


def edited(path: str, line: str) -> dict[str, str]:
    """The package with one more line at the end of one module."""
    return {**FILES, path: f"{FILES.get(path, '')}\n{line}\n"}


def test_imports_point_one_way() -> None:
    assert house.against_the_arrows(FILES) == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("src/onestep/core/disk.py", "from onestep.media import video"),
        ("src/onestep/media/video.py", "def late():\n    import onestep.vcs.git"),
        ("src/onestep/training/losses.py", "from onestep.inference.samples import pass_over"),
        ("src/onestep/gate/rules.py", "from onestep import report"),
        ("src/onestep/registry/gc.py", "from onestep.cli import app"),
        ("src/onestep/data/clips.py", "from onestep.demo import settings"),
        ("src/onestep/demo/world.py", "from onestep.pretraining import vae"),
        ("src/onestep/nightly/publish.py", "from flows.nightly import nightly"),
    ],
)
def test_import_against_the_arrows_is_found(path: str, line: str) -> None:
    added = set(house.against_the_arrows(edited(path, line))) - set(house.against_the_arrows(FILES))
    assert len(added) == 1 and added.pop().startswith(f"{path} imports ")


def test_imports_name_their_room() -> None:
    assert house.relative_imports(FILES) == []
    assert house.relative_imports(edited("src/onestep/gate/rules.py", "from . import pin"))


def test_every_room_has_its_floor() -> None:
    rooms = {house.room_of(path) for path in FILES} - {""}
    assert rooms - house.ASIDE.keys() == house.FLOOR.keys()


def test_settings_stand_in_modules_of_their_own() -> None:
    assert house.settings_in_no_settings_module(PACKAGE_FILES) == []
    path, line = "src/onestep/training/losses.py", "class LossSettings(Settings):\n    weight: float"
    assert house.settings_in_no_settings_module(edited(path, line)) == [f"{path}: LossSettings"]


def settings_modules() -> dict[str, set[str]]:
    """The groups of params.yaml whose settings each module holds, also those of groups within groups."""
    owners: dict[str, set[str]] = {}

    def note(kind: Any, group: str) -> None:
        for part in (kind, *getattr(kind, "__args__", ())):
            if inspect.isclass(part) and issubclass(part, Settings):
                owners.setdefault(Path(inspect.getfile(part)).relative_to(ROOT).as_posix(), set()).add(group)
                for field in part.model_fields.values():
                    note(field.annotation, group)

    for name, field in Params.model_fields.items():
        note(field.annotation, field.alias or name)
    owners.pop("src/onestep/core/settings.py")  # what every group is made of, and the machine's
    return owners


@pytest.mark.parametrize("stage", STAGES)
def test_room_of_a_stage_owns_its_settings(stage: str) -> None:
    words = shlex.split(STAGES[stage]["cmd"])
    rooms = {module.split(".")[1] for module in house.imports(ast.unparse(command_code(words[1:])))}
    own = {path for path, groups in settings_modules().items() if words[1] in groups}
    assert {house.room_of(path) for path in own} <= rooms


def test_stage_depends_on_no_settings_that_it_does_not_read() -> None:
    assert house.settings_of_others(STAGES, settings_modules()) == []


def test_dependency_on_the_settings_of_another_stage_is_found() -> None:
    stage = {"params": ["encode", "machine"], "deps": ["src/onestep/gate/settings.py", "src/onestep/data/latents.py"]}
    found = house.settings_of_others({"encode": stage}, settings_modules())
    assert found == ["encode depends on src/onestep/gate/settings.py, the settings of gate"]


def test_verdict_depends_on_no_page() -> None:
    assert {"encode", "consistency", "adversarial", "evaluate", "gate"} <= set(house.upstream(STAGES, "gate"))
    assert house.pages_upstream(STAGES, "gate") == []


def test_page_upstream_of_the_gate_is_found() -> None:
    page = "src/onestep/report/page.py"
    graph = {name: dict(stage, deps=[d for d in stage["deps"] if "report/" not in d]) for name, stage in STAGES.items()}
    graph["encode"]["deps"].append(page)
    graph["report"]["deps"].append(page)
    assert house.pages_upstream(graph, "gate") == [f"encode depends on {page}"]


def test_no_function_below_the_command_line_takes_root() -> None:
    assert house.takes_root(FILES) == []


def test_function_that_takes_root_is_found() -> None:
    path = "src/onestep/gate/rules.py"
    added = set(house.takes_root(edited(path, "def f(*, root: Path | None): ..."))) - set(house.takes_root(FILES))
    assert len(added) == 1 and added.pop().startswith(path)


def test_paths_are_written_in_the_graph_and_in_one_module() -> None:
    assert house.path_literals(FILES, FOLDERS) == []


def test_path_in_another_module_is_found() -> None:
    path = "src/onestep/gate/rules.py"
    lines = 'HERE = "reports/metrics.json"\nSAID = "reports/metrics.json, from `evaluate`"\nCODE = "models/ema.py"'
    added = set(house.path_literals(edited(path, lines), FOLDERS)) - set(house.path_literals(FILES, FOLDERS))
    assert [found.split(": ")[1] for found in added] == ["reports/metrics.json"]


def test_the_demo_alone_knows_its_world() -> None:
    assert house.who_knows_the_world(FILES, WORLD) == []


def test_word_of_the_world_in_another_room_is_found() -> None:
    path = "src/onestep/evaluation/metrics.py"
    files = edited(path, '"""circle"""\nSHAPES = ["circle", "hexagon of no world"]')
    added = set(house.who_knows_the_world(files, WORLD)) - set(house.who_knows_the_world(FILES, WORLD))
    assert len(added) == 1 and added.pop().endswith("says 'circle'")


def test_no_file_and_no_function_is_longer_than_a_reader_keeps_in_mind() -> None:
    assert house.too_long(PACKAGE_FILES) == []


def test_long_file_and_long_function_are_found() -> None:
    body = "\n".join(["def f():", *["    pass"] * 60])
    assert house.too_long({"src/onestep/gate/a.py": body}) == ["src/onestep/gate/a.py, line 1: f has 61 lines"]
    assert house.too_long({"src/onestep/gate/a.py": "x = 1\n" * 351}) == ["src/onestep/gate/a.py has 351 lines"]


LAST_WITH_LONG_SUBJECTS = "65ae12bf4"  # commits up to this one stay as they are


def test_subjects_of_commits_fit_72_characters() -> None:
    log = subprocess.run(
        ["git", "log", "--format=%s", f"{LAST_WITH_LONG_SUBJECTS}..HEAD"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if log.returncode:
        pytest.skip("not in the history of a clone of few commits, nor in a folder without git")
    assert [subject for subject in log.stdout.splitlines() if len(subject) > 72] == []
