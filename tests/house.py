"""The laws of the house (CONTRIBUTING.md) as functions of the source: each gives what breaks its law, one line each."""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = "onestep"
FLOORS = (  # from the ground up; a room imports from the floors below its own, the rooms of one floor not from each other
    ("core",),
    ("media", "vcs"),
    ("models",),
    ("data",),
    ("training", "inference"),
    ("evaluation",),
    ("gate",),
    ("report",),
    ("provenance",),
    ("registry",),
    ("nightly",),
    ("cli",),
    ("flows",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
ASIDE = {"demo": ("cli", "pretraining"), "pretraining": ("cli",)}  # and which rooms may import them
LONGEST_FILE, LONGEST_FUNCTION = 350, 60
RESUME = ".onestep/resume"
PATHS = "src/onestep/core/paths.py"
PROJECT = "src/onestep/vcs/project.py"

Sources = Mapping[str, str]  # Python files by their path from the top


def sources(root: Path = ROOT) -> dict[str, str]:
    """The text of every module of the package and of the flows."""
    files = [*(root / "src" / PACKAGE).rglob("*.py"), *(root / "flows").rglob("*.py")]
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in sorted(files)}


@cache
def parsed(text: str) -> ast.Module:
    return ast.parse(text)


def room_of(path: str) -> str:
    """`training` for src/onestep/training/losses.py, `flows` for flows/nightly.py, the package's own files have none."""
    parts = PurePosixPath(path).parts
    return parts[0] if parts[0] == "flows" else parts[2] if len(parts) > 3 else ""


def imports(text: str) -> Iterator[str]:
    """The rooms that a module imports from, with the module."""
    for node in ast.walk(parsed(text)):
        modules = [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            modules = [f"{PACKAGE}.{alias.name}" for alias in node.names]
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        yield from (module for module in modules if module.split(".")[0] in (PACKAGE, "flows"))


def against_the_arrows(files: Sources) -> list[str]:
    """Imports of a room of the same floor or of one above; and of the rooms aside by others than their own commands."""
    found = []
    for path, text in files.items():
        here = room_of(path)
        for module in imports(text):
            there = module.split(".")[0] if module.startswith("flows") else f"{module}.".split(".")[1]
            if there in ("", here) or not here:
                continue
            if there in ASIDE:
                wrong = here not in ASIDE[there]
            elif here in ASIDE:
                wrong = FLOOR[there] >= FLOOR["cli"]
            else:
                wrong = FLOOR[there] >= FLOOR[here]
            if wrong:
                found.append(f"{path} imports {module}")
    return found


def relative_imports(files: Sources) -> list[str]:
    """Imports with dots, whose room a reader would have to work out."""
    return [
        f"{path}, line {node.lineno}"
        for path, text in files.items()
        for node in ast.walk(parsed(text))
        if isinstance(node, ast.ImportFrom) and node.level
    ]


def who_knows_the_world(files: Sources, words: set[str]) -> list[str]:
    """Rooms, other than the demo and those that may import it, that name a thing of the rendered world."""
    allowed = {"demo", *ASIDE["demo"]}
    return [
        f"{path}, line {line} says {text!r}"
        for path, source in files.items()
        if room_of(path) not in allowed
        for line, text in strings(source)
        if text in words
    ]


def strings(text: str) -> Iterator[tuple[int, str]]:
    """The texts in a module with their lines, without docstrings."""
    tree = parsed(text)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def takes_root(files: Sources) -> list[str]:
    """Functions below the command line and the flows that take `root: Path`, where a `Project` should be handed in."""
    return [
        f"{path}, line {node.lineno}: {node.name}"
        for path, text in files.items()
        if room_of(path) not in ("cli", "flows") and path != PROJECT
        for node in ast.walk(parsed(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(
            argument.arg == "root" and argument.annotation and "Path" in ast.unparse(argument.annotation)
            for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        )
    ]


def path_literals(files: Sources, folders: set[str]) -> list[str]:
    """Texts that are a path in one of the project's folders, outside `core/paths.py`.

    The folder of what a stage resumes from is named by the stage: if it stood in `core/paths.py`, every path would be a
    dependency of training.
    """
    path_of_project = re.compile(rf"({'|'.join(re.escape(folder) for folder in sorted(folders))})/[\w./-]+(?<!\.py)")
    return [
        f"{path}, line {line}: {text}"
        for path, source in files.items()
        if path != PATHS
        for line, text in strings(source)
        if path_of_project.fullmatch(text) and not text.startswith(RESUME)
    ]


def too_long(files: Sources) -> list[str]:
    """Files and functions of the package with more lines than a reader keeps in mind."""
    found = [f"{path} has {lines} lines" for path, text in files.items() if (lines := text.count("\n")) > LONGEST_FILE]
    for path, text in files.items():
        for node in ast.walk(parsed(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    found.append(f"{path}, line {node.lineno}: {node.name} has {lines} lines")
    return found


def settings_in_no_settings_module(files: Sources) -> list[str]:
    """Classes of settings that stand neither in `settings.py` nor in `*_settings.py`, so that code is edited with them."""
    found, kinds = [], {"Settings"}
    classes = [
        (path, node)
        for path, text in files.items()
        for node in ast.walk(parsed(text))
        if isinstance(node, ast.ClassDef)
    ]
    for _ in range(3):  # of settings that are made from other settings
        kinds |= {node.name for _, node in classes if kinds & {ast.unparse(base) for base in node.bases}}
    for path, node in classes:
        composed = path == "src/onestep/cli/params.py"  # all groups together
        if node.name in kinds and not path.endswith("settings.py") and not composed:
            found.append(f"{path}: {node.name}")
    return found


def upstream(stages: Mapping[str, Any], target: str) -> list[str]:
    """The stages that a stage needs, directly or not, and the stage itself, in the order of the graph."""
    made = {path: name for name, stage in stages.items() for path in outs(stage)}
    found, waiting = set(), {target}
    while waiting:
        name = waiting.pop()
        found.add(name)
        deps = [dep for dep in stages[name].get("deps", []) if isinstance(dep, str)]
        for dep in deps:
            waiting |= {made[path] for path in made if f"{dep}/".startswith(f"{path}/")} - found
    return [name for name in stages if name in found]


def outs(stage: Mapping[str, Any]) -> list[str]:
    """The paths that a stage makes."""
    entries = [entry for key in ("outs", "metrics", "plots") for entry in stage.get(key, [])]
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def pages_upstream(stages: Mapping[str, Any], target: str) -> list[str]:
    """Templates and pages that the verdict would depend on."""
    return [
        f"{name} depends on {dep}"
        for name in upstream(stages, target)
        for dep in stages[name].get("deps", [])
        if dep.endswith(".j2") or dep.startswith("src/onestep/report/")
    ]


def settings_of_others(stages: Mapping[str, Any], owners: Mapping[str, set[str]]) -> list[str]:
    """Stages that depend on the settings module of a group that they do not read.

    owners: the groups of params.yaml whose settings a module holds, by its path; none for what all groups are made of.
    """
    found = []
    for name, stage in stages.items():
        groups = {group for group in stage.get("params", []) if isinstance(group, str)}
        for dep in stage.get("deps", []):
            if dep in owners and owners[dep] and not owners[dep] & groups:
                found.append(f"{name} depends on {dep}, the settings of {', '.join(sorted(owners[dep]))}")
    return found
