"""`dvc.yaml` against the code: each stage depends on the modules it imports, on the lock, and on its own settings."""

import ast
import shlex
from pathlib import Path

import pytest

from onestep.cli.graph import code_of_stages, command_code
from onestep.cli.params import Params
from onestep.core.yaml_files import read_yaml

ROOT = Path(__file__).parents[1]
STAGES = read_yaml(ROOT / "dvc.yaml")["stages"]
CODE_OF = code_of_stages(ROOT)


def code_of(stage: str) -> set[str]:
    """The files that the stage's command runs, and the templates that they name."""
    return set(CODE_OF(shlex.split(STAGES[stage]["cmd"])))


def function_of(stage: str) -> ast.AST:
    """The function of the stage's command."""
    return command_code(shlex.split(STAGES[stage]["cmd"])[1:])


def settings_of(stage: str) -> set[str]:
    """The groups of params.yaml that the stage's command reads."""
    function = function_of(stage)
    groups = {f.alias or n for n, f in Params.model_fields.items()}
    read = {
        node.attr.rstrip("_")
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and node.attr.rstrip("_") in groups and ast.unparse(node.value) != "pin"
    }
    calls = {n.func.id for n in ast.walk(function) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    return read | ({"machine"} if "_params" in calls else set())


@pytest.mark.parametrize("stage", STAGES)
def test_stage_depends_on_the_modules_it_imports_and_on_the_lock(stage: str) -> None:
    declared = {dep for dep in STAGES[stage]["deps"] if dep.startswith("src/")}
    assert declared == code_of(stage), "run `onestep graph sync`"
    assert "constraints.txt" in STAGES[stage]["deps"]
    assert not any(path.startswith("src/onestep/cli/") for path in declared)


def pinned_by(stage: str) -> set[str]:
    """The keys of data/production.json that the stage's command takes by name, as `pin.seed`."""
    return {
        node.attr
        for node in ast.walk(function_of(stage))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pin"
    }


@pytest.mark.parametrize("stage", STAGES)
def test_stage_depends_on_the_settings_it_reads(stage: str) -> None:
    params = STAGES[stage].get("params", [])
    assert {group for group in params if isinstance(group, str)} == settings_of(stage)
    pinned = {key for group in params if isinstance(group, dict) for key in group["data/production.json"]}
    assert pinned == pinned_by(stage) or stage == "production"  # which takes the champion, inside its module


@pytest.mark.parametrize("stage", STAGES)
def test_paths_on_the_command_line_are_declared(stage: str) -> None:
    known = [
        next(iter(entry)) if isinstance(entry, dict) else entry
        for key in ("deps", "outs", "metrics", "plots", "params")
        for entry in STAGES[stage].get(key, [])
    ]
    for word in STAGES[stage]["cmd"].split():
        if "/" in word:
            assert any(word == path or path.startswith(f"{word}/") or word.startswith(f"{path}/") for path in known), (
                word
            )
