"""The `onestep` command line: joins the groups of commands and runs one; a group is a module beside this one.

Heavy libraries are imported inside the commands, so that `onestep --help` answers at once.
"""

import os
import sys
from pathlib import Path

import typer

from onestep.cli import graph, ledger, lineage, nightly, pretrain, registry, stages, tools
from onestep.cli.arguments import HAND, require_text
from onestep.core import failures
from onestep.core.child_environment import drop_signing_key
from onestep.core.environment import require_own_code, settle

SIGN = ("record", "promote", "rollback", "keygen", "doctor")

app = typer.Typer(
    help="Turn a multi-step video diffusion model into a one-step generator, on your own footage.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    epilog=(
        "Exit codes: 0 well; 1 it cannot be done, and one sentence says why; 2 wrong usage or settings; 3 to 8 as the "
        "command's help says; 70 a fault of onestep, with its traceback in a file; 75 disk, memory or machine: try again; "
        "130 interrupted."
    ),
)
app.add_typer(stages.app)
app.add_typer(pretrain.app, name="pretrain", rich_help_panel="Making a base model")
app.add_typer(graph.app, name="graph", rich_help_panel=HAND)
app.add_typer(ledger.app, name="ledger", rich_help_panel=HAND)
app.add_typer(lineage.app, name="lineage", rich_help_panel=HAND)
for group in (registry, tools, nightly):
    app.add_typer(group.app)


@app.callback()
def _without_key(context: typer.Context) -> None:
    """A stage runs other people's files through other people's code: the signing key stays with those who sign."""
    if context.invoked_subcommand not in SIGN:
        drop_signing_key()


def main() -> None:
    """Run the command line; whatever goes wrong is one sentence on standard error and an exit code (`onestep.core.failures`)."""
    from onestep.core.times import timed

    words = sys.argv[1:]
    settle()
    with failures.one_sentence("onestep", words), timed(words):
        require_text(words)
        require_own_code(Path(), words)
        raise SystemExit(_run(words))


def _run(words: list[str]) -> int:
    """Run one command; its exit code. What it raises comes out as it is, which `app()` does not promise."""
    if "_ONESTEP_COMPLETE" in os.environ:  # the shell asks for completions
        app(prog_name="onestep")
    command = typer.main.get_command(app)
    try:
        with command.make_context("onestep", list(words)) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    return 0


if __name__ == "__main__":
    main()
