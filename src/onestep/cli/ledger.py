"""`onestep ledger`: what people and schedules do with the ledger by hand."""

from pathlib import Path
from typing import Annotated

import typer

from onestep.cli.arguments import PARAMS, ParamsFile, input_file, sentence
from onestep.cli.here import here
from onestep.core import paths

app = typer.Typer(help="The ledger of every candidate: offer, close, override, show.", no_args_is_help=True)


@app.command()
def show(json_lines: Annotated[bool, typer.Option("--json", help="The lines as they stand in git.")] = False) -> None:
    """Verify the chain and print it: every trial, verdict, override, promotion and rollback."""
    from onestep.provenance import ledger
    from onestep.provenance.entries import head_of

    entries = ledger.read(here().git)
    if json_lines:
        for entry in entries:
            print(entry.line)
        return
    for entry in entries:
        print(f"{entry.index:4} {entry.time} {entry.kind:9} {_sentence(entry.content)}")
    print(f"{len(entries)} entries, head {head_of(entries)}")


@app.command()
def offer(
    params: ParamsFile = PARAMS,
    if_changed: Annotated[
        bool, typer.Option("--if-changed", help="Do nothing where data, settings, code and champion are the last ones.")
    ] = False,
) -> None:
    """Enter the next comparison in the ledger, before its run, and write data/production.json."""
    from onestep.cli.params import load_params
    from onestep.registry.trials import offer as run

    settings = load_params(params)
    pin = run(here(), settings.gate, settings.judge.sha256, if_changed)
    if pin is None:
        print("nothing changed since the last trial: no comparison was entered")
    else:
        against = pin.champion.tag if pin.champion else "no champion"
        print(f"comparison {pin.comparison} against {against}: alpha {pin.alpha:.3g}, seed {pin.seed}; see {paths.PIN}")


@app.command()
def close() -> None:
    """Enter the verdict of reports/verdict.json, whatever it is; entering it twice changes nothing."""
    from onestep.registry.trials import close as run

    entries = run(here())
    print(f"{_sentence(entries[-1].content)}; the ledger's head is {entries[-1].sha256}")


@app.command()
def override(
    verdict: Annotated[str, typer.Argument(help="promote | reject", metavar="VERDICT")],
    reason: Annotated[str, sentence("Why the gate's verdict shall not stand; it is kept for ever.", option=True)],
) -> None:
    """Enter your own verdict on the run in the working copy, with your name and reason."""
    from onestep.registry.trials import override as run

    if verdict not in ("promote", "reject"):
        raise typer.BadParameter(f"{verdict!r} is neither promote nor reject", param_hint="VERDICT")
    entries = run(here(), verdict, reason)
    print(f"{_sentence(entries[-1].content)}; the ledger's head is {entries[-1].sha256}")


@app.command()
def power(
    metrics: Annotated[Path, input_file("reports/metrics.json, from `evaluate`.")] = Path(paths.METRICS),
    params: ParamsFile = PARAMS,
) -> None:
    """Alpha of the coming nights if none promotes, and the true difference that each finds in four of five cases."""
    from onestep.cli.params import load_params
    from onestep.core.storage import read_mapping
    from onestep.gate.evidence import Evidence
    from onestep.gate.pin import read_pin
    from onestep.gate.spending import NIGHTS, alpha_without_promotion, wealth
    from onestep.gate.verdict import power_table
    from onestep.provenance import ledger
    from onestep.provenance.entries import Trial, of_kind
    from onestep.registry.trials import promoted_by_gate

    settings = load_params(params).gate
    entries = ledger.read(here().git)
    history, spent = promoted_by_gate(entries), [trial.alpha for trial in of_kind(entries, Trial)]
    alphas = {night: alpha_without_promotion(history, night, settings) for night in NIGHTS}
    evidence = Evidence(read_mapping(metrics), {}, {}, read_pin(here().root / paths.PIN), {})
    left = wealth(history, spent, settings)
    print(f"after {len(history)} comparisons, {sum(history)} of them promotions by the gate: wealth {left:.3g}")
    for row in power_table(evidence, alphas, settings):
        found = ", ".join(f"{name} {value:.3g}" for name, value in row["detectable"].items())
        print(f"night {row['night']:4}  alpha {row['alpha']:.2e}  found with a chance of 0.8: {found}")


def _sentence(content: object) -> str:
    from onestep.provenance.entries import Override, Promotion, Rollback, Trial, Verdict

    match content:
        case Trial():
            against = content.champion or "no champion"
            return f"comparison {content.comparison} against {against}, alpha {content.alpha:.3g}, seed {content.seed}"
        case Verdict():
            return f"comparison {content.comparison}: {content.verdict}. {content.reason}"
        case Override():
            return f"comparison {content.comparison}: {content.verdict} by {content.person}: {content.reason}"
        case Promotion():
            return f"comparison {content.comparison}: {content.tag} in the place of {content.replaces or 'nothing'}"
        case Rollback():
            return f"back to {content.tag} from {content.replaces or 'nothing'}: {content.reason}"
    raise TypeError(f"{content!r} is not an entry of the ledger")
