"""The dependencies of stages on code, written into the text of `dvc.yaml`; all else in the file stays as it stands."""

import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

from onestep.core.disk import replacing
from onestep.core.paths import CODE, CONSTRAINTS, GRAPH
from onestep.core.yaml_files import parse_document
from onestep.vcs.project import GraphError, Project

WIDTH = 120  # characters of a line

CodeOf = Callable[[list[str]], Iterable[str] | None]


def with_code(text: str, code_of: CodeOf, source: str) -> str:
    """`dvc.yaml` as it should be: each stage's `deps` end with its code and the lock of the libraries.

    code_of: the files that a command runs, from its words; null where the command is not this package's, whose stage
    keeps its deps. Raises `GraphError` where a comment inside `deps` would be lost.
    """
    stages = _entry(parse_document(text, source).node, "stages")
    edits = []
    for key, node in stages.value if stages is not None else []:
        body = _entry(node, "do") or node
        code = _code(_entry(body, "cmd"), code_of)
        if code is not None:
            edits.append(_edit(text, key.value, body, code))
    for start, end, new in reversed(edits):
        text = text[:start] + new + text[end:]
    return text


def _edit(text: str, stage: str, body: Any, code: Sequence[str]) -> tuple[int, int, str]:
    """Where to cut and what to put there, for one stage."""
    deps, indent = _entry(body, "deps"), " " * body.start_mark.column
    if deps is None:
        keys = [key for key, _ in body.value]
        place = [key.value for key in keys].index("cmd")
        start = (keys[place + 1] if place + 1 < len(keys) else keys[place]).start_mark.index
        return start, start, f"deps: {_listed([], code, indent)}\n{indent}"
    start = deps.start_mark.index
    end = start + len(text[start : deps.end_mark.index].rstrip())
    if re.search(r"(^|\s)#", text[start:end]):
        raise GraphError(f"{GRAPH}: a comment stands inside the deps of {stage}: put it above the stage")
    data = [
        text[item.start_mark.index : item.end_mark.index].strip() for item in deps.value if not _is_code(item.value)
    ]
    colon = text.rindex(":", 0, start) + 1
    return colon, end, f" {_listed(data, code, indent)}"


def _is_code(path: Any) -> bool:
    return isinstance(path, str) and (path.startswith(f"{CODE}/") or path == CONSTRAINTS)


def _listed(data: Sequence[str], code: Sequence[str], indent: str) -> str:
    """The list in lines: data and the lock after the bracket, then the code, each room on lines of its own."""
    first = _wrapped([*data, CONSTRAINTS], WIDTH - len(indent) - len("deps: [,"))
    rooms = [list(files) for _, files in groupby(sorted(code), _room)]
    rest = [line for room in rooms for line in _wrapped(room, WIDTH - len(indent) - len("  ,"))]
    return "[" + f",\n{indent}  ".join([*first, *rest]) + "]"


def _room(path: str) -> PurePosixPath:
    return PurePosixPath(path).parent


def _wrapped(items: Iterable[str], width: int) -> list[str]:
    lines: list[str] = []
    for item in items:
        if lines and len(lines[-1]) + len(item) + 2 <= width:
            lines[-1] += f", {item}"
        else:
            lines.append(item)
    return lines


def _code(command: Any, code_of: CodeOf) -> list[str] | None:
    if command is None:
        return None
    lines = command.value if isinstance(command.value, str) else "\n".join(line.value for line in command.value)
    found = [code_of(shlex.split(line)) for line in lines.splitlines() if line.strip()]
    if all(files is None for files in found):
        return None
    return sorted({path for files in found if files for path in files})


def _entry(node: Any, key: str) -> Any:
    pairs = node.value if node is not None and isinstance(node.value, list) else []
    return next((value for name, value in pairs if name.value == key), None)


def sync(project: Project, code_of: CodeOf, write: bool) -> list[str]:
    """Write the code of every stage into `dvc.yaml`; the stages whose deps were not as they should be."""
    path = project.root / GRAPH
    before = path.read_text(encoding="utf-8")
    after = with_code(before, code_of, str(path))
    if write and after != before:
        with replacing(path) as partial:
            partial.write_text(after, encoding="utf-8")
    return _changed(before, after)


def _changed(before: str, after: str) -> list[str]:
    """The stages whose deps differ between two texts of one graph, in its order; also where only their lines do."""
    if before == after:
        return []
    was, now = (
        {name: _deps(stage) for name, stage in parse_document(text, GRAPH).content["stages"].items()}
        for text in (before, after)
    )
    return [name for name in now if now[name] != was[name]] or list(now)


def _deps(stage: Any) -> Any:
    return stage.get("do", stage).get("deps")
