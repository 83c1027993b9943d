"""A piece of code depends on the modules that it imports, on what these import, and on the templates that they name."""

import ast
from pathlib import Path

import pytest

from onestep.vcs.code_closure import CodeClosure

MODULES = {
    "__init__.py": "",
    "rooms/__init__.py": '"""A docstring alone runs nothing."""\n',
    "rooms/train.py": "from pkg.rooms import losses\nfrom pkg.rooms.settings import Settings\n",
    "rooms/losses.py": "def loss():\n    from pkg.core import storage\n",
    "rooms/settings.py": "import json\n",
    "rooms/other.py": "from pkg.rooms.settings import Settings\n",
    "rooms/relative.py": "from . import losses\nfrom ..core.storage import read\n",
    "rooms/types_only.py": "if TYPE_CHECKING:\n    from pkg.rooms.other import Settings\nelse:\n    import pkg.rooms.losses\n",
    "rooms/page.py": 'TEMPLATE = "page.html.j2"\nfrom pkg.cli import main\n',
    "rooms/page.html.j2": '{% include "style.html.j2" %}',
    "rooms/style.html.j2": "",
    "rooms/unused.html.j2": "",
    "core/__init__.py": "VERSION = 1\n",
    "core/storage.py": "",
    "cli/__init__.py": "from pkg.rooms import other\n",
    "cli/main.py": "",
}


@pytest.fixture
def closure(tmp_path: Path) -> CodeClosure:
    for name, text in MODULES.items():
        path = tmp_path / "pkg" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return CodeClosure(tmp_path, "pkg", without=["cli"])


@pytest.mark.parametrize(
    ("code", "files"),
    [
        ("import torch", []),
        ("from pkg.rooms.settings import Settings", ["rooms/settings.py"]),
        (
            "def command():\n    from pkg.rooms.train import train",
            ["core/__init__.py", "core/storage.py", "rooms/losses.py", "rooms/settings.py", "rooms/train.py"],
        ),
        ("from pkg.rooms import other", ["rooms/other.py", "rooms/settings.py"]),
        (
            "import pkg.rooms.relative",
            ["core/__init__.py", "core/storage.py", "rooms/losses.py", "rooms/relative.py"],
        ),
        (
            "import pkg.rooms.types_only",
            ["core/__init__.py", "core/storage.py", "rooms/losses.py", "rooms/types_only.py"],
        ),
        ("import pkg.rooms.page", ["rooms/page.html.j2", "rooms/page.py", "rooms/style.html.j2"]),
        ("from pkg.cli import main\nfrom pkg import cli", []),
    ],
)
def test_code_depends_on_what_it_imports_and_renders(closure: CodeClosure, code: str, files: list[str]) -> None:
    assert [path.as_posix().split("/pkg/")[1] for path in closure.of(ast.parse(code))] == files
