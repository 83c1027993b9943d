"""`onestep doctor` and `decide`: what a scheduled run needs and would decide; both work without Prefect."""

from typing import Annotated

import typer

from onestep.cli.arguments import HAND, PARAMS, ParamsFile
from onestep.cli.here import here

app = typer.Typer()


@app.command(rich_help_panel=HAND)
def doctor(
    server: Annotated[
        str | None, typer.Option(help="API address of the Prefect server; default PREFECT_API_URL or this machine's.")
    ] = None,
) -> None:
    """Check Python, git, remote, disk, links, GPU, keys and server, each with its remedy; exit code 1 on any error."""
    from onestep.nightly.doctor import run_checks, table

    results = run_checks(here(), server)
    print(table(results))
    if any(result.status == "error" for result in results):
        raise typer.Exit(1)


@app.command(rich_help_panel=HAND)
def decide(
    by_hand: Annotated[bool, typer.Option(help="As the flow `retrain`, for a person who asks for it.")] = False,
    params: ParamsFile = PARAMS,
) -> None:
    """Whether a scheduled run would retrain on these clips, rule by rule (group `retrain` of the settings)."""
    from onestep.core.params import load_group
    from onestep.gate.settings import GateSettings
    from onestep.nightly.retrain_policy import decide as run
    from onestep.nightly.retrain_policy import situation_of
    from onestep.nightly.settings import RetrainSettings

    situation = situation_of(here(), load_group(GateSettings, params, "gate"), by_hand)
    decision = run(situation, load_group(RetrainSettings, params, "retrain"))
    for row in decision.as_table():
        print(f"{row['rule']:<20} {row['effect']:<11} {row['observed']} (limit: {row['limit'] or 'none'})")
    print(decision.sentence)
