"""The source files that a piece of code runs: the modules it imports, and what these import and render."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path


class CodeClosure:
    """Import closures within one package at `src/<package>`; each file is read once.

    without: subpackages that are no part of any closure, as `cli`.
    """

    def __init__(self, src: Path, package: str, without: Iterable[str] = ()) -> None:
        self._src, self._package = src, package
        self._without = {f"{package}.{name}" for name in without}
        self._templates = sorted((src / package).rglob("*.j2"))
        self._needed: dict[Path, set[Path]] = {}

    def of(self, tree: ast.AST) -> list[Path]:
        """The files that this code runs, sorted: imported modules, the packages around them that hold code, templates.

        Imports inside functions count, those under `if TYPE_CHECKING` do not. A template is needed where its name stands
        in a module or in another template.
        """
        found: set[Path] = set()
        waiting = self._imported(tree, None)
        while waiting:
            path = waiting.pop()
            if path not in found:
                found.add(path)
                waiting |= self._needs(path)
        return sorted(found)

    def _needs(self, path: Path) -> set[Path]:
        if path not in self._needed:
            text = path.read_text(encoding="utf-8")
            needed = {template for template in self._templates if template != path and template.name in text}
            if path.suffix == ".py":
                needed |= self._imported(ast.parse(text, str(path)), path)
            self._needed[path] = needed
        return self._needed[path]

    def _imported(self, tree: ast.AST, path: Path | None) -> set[Path]:
        names = {name for name in _modules(tree, self._around(path)) if name.split(".")[0] == self._package}
        names = {name for name in names if not any(f"{name}.".startswith(f"{left_out}.") for left_out in self._without)}
        return {file for name in names for file in self._files(name)}

    def _around(self, path: Path | None) -> list[str]:
        return list(path.relative_to(self._src).parent.parts) if path else []

    def _files(self, name: str) -> Iterator[Path]:
        """The module's file, where the name is a module's, and the `__init__.py` of each package above it that runs code."""
        parts = name.split(".")
        module = self._src.joinpath(*parts).with_suffix(".py")
        if module.is_file():
            yield module
        for length in range(1, len(parts) + 1):
            init = self._src.joinpath(*parts[:length], "__init__.py")
            if init.is_file() and _runs_code(init):
                yield init


def _modules(tree: ast.AST, around: list[str]) -> Iterator[str]:
    """The dotted names that code imports; `from a import b` gives `a.b` too, which is a module or a name within one."""
    for node in _executed(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = around[: len(around) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        only_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and child in node.body
        if not only_types:
            yield from _executed(child)


def _runs_code(init: Path) -> bool:
    body = ast.parse(init.read_text(encoding="utf-8"), str(init)).body
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body)
