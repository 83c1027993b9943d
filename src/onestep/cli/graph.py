"""`onestep graph sync`: the code that each stage of `dvc.yaml` depends on."""

import ast
import inspect
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Annotated

import typer

from onestep.cli.here import here

app = typer.Typer(help="The graph of stages, `dvc.yaml`.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `sync` a command of its own while it is the only one."""


@app.command()
def sync(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit code 1 where a stage's are not right.")
    ] = False,
) -> None:
    """Write into `dvc.yaml` the source files that each stage's command runs: after an import moved, run this."""
    from onestep.vcs.graph_deps import sync as run

    changed = run(here(), code_of_stages(Path()), write=not check)
    if check and changed:
        print(f"dvc.yaml: the code of {', '.join(changed)} is not what their commands run: run onestep graph sync")
        raise typer.Exit(1)
    print(f"dvc.yaml: {len(changed)} stages changed" if changed else "dvc.yaml is as the code is")


def code_of_stages(root: Path) -> Callable[[list[str]], list[str] | None]:
    """What gives the files that a command line runs, relative to `root`; null for a command that is not `onestep`'s."""
    from onestep.vcs.code_closure import CodeClosure

    closure = CodeClosure(root / "src", "onestep", without=["cli"])

    def code_of(words: list[str]) -> list[str] | None:
        if words[:1] != ["onestep"]:
            return None
        return [path.relative_to(root).as_posix() for path in closure.of(command_code(words[1:]))]

    return code_of


def command_code(words: list[str]) -> ast.AST:
    """The function that the words after `onestep` call, as code: what it imports is what the command runs."""
    from onestep.cli import app as whole

    command = typer.main.get_command(whole)
    for word in words:
        command = getattr(command, "commands", {}).get(word, command)
    if command.callback is None or hasattr(command, "commands"):
        raise typer.BadParameter(f"dvc.yaml: onestep {' '.join(words[:2])} is no command")
    return ast.parse(dedent(inspect.getsource(inspect.unwrap(command.callback))))
