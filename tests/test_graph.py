"""`dvc.yaml` against the code: each stage depends on the modules it imports, on the lock, and on its own settings."""

import ast
import re
from pathlib import Path

import pytest

from onestep.cli.params import Params
from onestep.core.yaml_files import read_yaml

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
STAGES = read_yaml(ROOT / "dvc.yaml")["stages"]
EXCLUDED = {"onestep.cli.entry", "onestep.cli.params"}  # what a command runs is in the modules it imports


def module_path(name: str) -> Path | None:
    path = SOURCE / Path(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("onestep"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                names.add(inner if module_path(inner) else node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.startswith("onestep.")}
    return names - EXCLUDED


def closure(start: set[str]) -> set[str]:
    seen: set[str] = set()
    waiting = set(start)
    while waiting:
        name = waiting.pop()
        path = module_path(name)
        if name in seen or path is None or path.name == "__init__.py":
            continue
        seen.add(name)
        waiting |= imported(ast.parse(path.read_text()))
    return seen


def command_functions() -> dict[str, ast.FunctionDef]:
    tree = ast.parse((SOURCE / "onestep" / "cli" / "stages.py").read_text())
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def code_of(stage: str) -> set[str]:
    """The files that the stage's command runs, and the templates beside them."""
    functions = command_functions()
    name = re.match(r"onestep ([a-z-]+)", STAGES[stage]["cmd"]).group(1).replace("-", "_")
    start = imported(functions[name])
    for node in ast.walk(functions[name]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in functions:
            start |= imported(functions[node.func.id])
    files = {module_path(module) for module in closure(start)}
    templates = {
        template for path in files for template in path.parent.glob("*.j2") if template.name in path.read_text()
    }
    templates |= {other for t in set(templates) for other in t.parent.glob("*.j2") if other.name in t.read_text()}
    return {path.relative_to(ROOT).as_posix() for path in files | templates}


def settings_of(stage: str) -> set[str]:
    """The groups of params.yaml that the stage's command reads."""
    functions = command_functions()
    name = re.match(r"onestep ([a-z-]+)", STAGES[stage]["cmd"]).group(1).replace("-", "_")
    groups = {f.alias or n for n, f in Params.model_fields.items()}
    read = {
        node.attr.rstrip("_")
        for node in ast.walk(functions[name])
        if isinstance(node, ast.Attribute) and node.attr.rstrip("_") in groups and ast.unparse(node.value) != "pin"
    }
    calls = {n.func.id for n in ast.walk(functions[name]) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    return read | ({"machine"} if "_params" in calls else set())


@pytest.mark.parametrize("stage", STAGES)
def test_stage_depends_on_the_modules_it_imports_and_on_the_lock(stage: str) -> None:
    declared = {dep for dep in STAGES[stage]["deps"] if dep.startswith("src/")}
    assert declared == code_of(stage)
    assert "constraints.txt" in STAGES[stage]["deps"]


def pinned_by(stage: str) -> set[str]:
    """The keys of data/production.json that the stage's command takes by name, as `pin.seed`."""
    name = re.match(r"onestep ([a-z-]+)", STAGES[stage]["cmd"]).group(1).replace("-", "_")
    return {
        node.attr
        for node in ast.walk(command_functions()[name])
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
