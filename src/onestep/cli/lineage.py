"""`onestep lineage`: what made a model, is that still true, does it come out again, and which runs used which footage."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from onestep.cli.arguments import decimal, input_file, output_file, output_place, sentence
from onestep.cli.here import here

app = typer.Typer(help="What made a model: show, verify, reproduce, diff, blame, without, card.", no_args_is_help=True)

Model = Annotated[
    str,
    sentence("onestep (the champion, else the newest run), onestep@v1.0.0, runs/<id>, or a commit."),
]


@app.command()
def show(
    model: Model = "onestep",
    html: Annotated[Path | None, output_file("Write one offline page instead.")] = None,
) -> None:
    """Show what made a model: stages from footage to weights, hashes, metrics, verdict."""
    from rich.console import Console

    from onestep.provenance.show import tree
    from onestep.provenance.store import find

    project = here()
    found = find(project, model)
    if html is None:
        Console().print(tree(project, found))
        return
    from onestep.provenance.page import write_page

    write_page(project, found, html)
    print(f"{found.title}: {html}")


@app.command(name="list")
def list_() -> None:
    """List every recorded run, promoted or refused, oldest first."""
    from onestep.provenance.store import everything
    from onestep.registry.champion import champion

    project = here()
    now = champion(project)
    for found in everything(project):
        record = found.record
        place = f"  in production ({now.tag})" if now is not None and now.commit == found.commit else ""
        signed = found.signer.fingerprint[:17] if found.signer else "UNSIGNED"
        print(
            f"{record.recorded_at}  {found.title:<22} {record.verdict.verdict:<8} {record.sha256[:12]}  {signed}{place}"
        )


@app.command()
def verify(
    model: Model = "onestep",
    trust: Annotated[
        Path | None,
        input_file("Public keys to trust, from outside the repository; default .onestep/signing-key.pub.", option=True),
    ] = None,
    copy: Annotated[bool, typer.Option(help="Compare the working copy with the record too.")] = True,
) -> None:
    """Check signatures, ledger, tags and every hash, and compute the verdict again; name the first break.

    Exit codes: 0 passed; 3 broken; 4 whole, but unsigned; 5 whole, but signed by an unknown key (no --trust); 6 whole, but
    the working copy is not what was recorded; 1 there is nothing to check.
    """
    from onestep.provenance.verify import verify as run

    report = run(here(), model, trust, copy)
    for check, detail in report.passed:
        print(f"  ok      {check}: {detail}")
    if report.broken:
        print(f"  BROKEN  {report.broken[0]}: {report.broken[1]}")
    print(report.summary, file=sys.stderr if report.exit_code else sys.stdout)
    raise typer.Exit(report.exit_code)


@app.command()
def reproduce(
    model: Model = "onestep",
    whole: Annotated[
        bool, typer.Option("--whole", help="All stages from the footage on, not the training alone.")
    ] = False,
    tolerance: Annotated[float, decimal(0, 1, "Largest relative distance that is not `different`.")] = 1e-3,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build the recorded environment, do not use this one.")
    ] = False,
    folder: Annotated[Path | None, output_place("Work here and keep it; default a temporary folder.")] = None,
) -> None:
    """Make the model again in a fresh clone at its commit and compare weights and metrics.

    Exit codes: 0 identical; 7 within tolerance, or identical bytes in another environment; 8 different; 1 not made.
    """
    from onestep.provenance.reproduce import reproduce as run

    done = run(here(), model, whole, tolerance, rebuild, folder, say=lambda line: print(line, flush=True))
    print(f"{done.title}: {done.word} by {len(done.stages)} stages run again")
    print(f"  weights  distance {done.weights:.3g}; metrics distance {done.metrics:.3g} {done.worst_metric}".rstrip())
    for path in done.differing[:10]:
        print(f"  differs  {path}")
    if done.environment:
        print(f"  environment is not the recorded one: {len(done.environment)} differences, named above")
    raise typer.Exit(done.exit_code)


@app.command()
def diff(
    a: Annotated[str, sentence("The model before, named as for `lineage show`.")],
    b: Annotated[str, sentence("The model after.")],
) -> None:
    """Say which footage, parameters, code and environment differ between two models, and which metrics moved."""
    from rich.console import Console
    from rich.table import Table

    from onestep.provenance.diff import diff as run

    found = run(here(), a, b)
    console = Console()
    for kind in ("footage", "params", "code", "inputs", "environment", "outputs", "metrics"):
        changes = getattr(found, kind)
        if not changes:
            console.print(f"{kind}: the same")
            continue
        table = Table(kind, found.before, found.after, title=f"{kind}: {len(changes)} differ", title_justify="left")
        for change in changes[:40]:
            table.add_row(change.what, *(("absent" if s is None else s[:40]) for s in (change.before, change.after)))
        if len(changes) > 40:
            table.add_row(f"and {len(changes) - 40} more", "", "")
        console.print(table)


@app.command()
def blame(
    source: Annotated[str, sentence("A file on disk, its sha256, a source's name, or a clip's id.")],
) -> None:
    """Say which models used this source file: the question that a take-down request asks."""
    from onestep.provenance.blame import blame as run

    for use in run(here(), source):
        clips = sum(map(len, use.clips.values()))
        place = ", in production" if use.in_production else ""
        print(f"{use.model} ({use.verdict}, {use.recorded_at[:10]}{place}): {use.source}, {clips} clips: {use.role}")


@app.command()
def without(
    source: Annotated[str, sentence("A file on disk, its sha256, a source's name, or a clip's id.")],
) -> None:
    """Say what would have to be made again if this source file had to go."""
    from onestep.provenance.blame import without as run

    found = run(here(), source)
    print(f"without {', '.join(found.source)}:")
    for use in found.retrain:
        place = ", in production: replace it" if use.in_production else ""
        print(f"  retrain  {use.model} ({use.run}{place}): {use.role}")
    for use in found.measure:
        print(f"  measure  {use.model} ({use.run}): {use.role}")
    print(f"  stages   {', '.join(found.stages)}")
    print("  base and judge are fetched, not trained here: ask their makers")


@app.command()
def card(
    model: Model = "onestep",
    out: Annotated[Path, output_place("Folder; gets README.md and bom.cdx.json.")] = Path("card"),
) -> None:
    """Write a Hugging Face model card and a CycloneDX ML-BOM from the record."""
    from onestep.provenance.model_card import write_card
    from onestep.provenance.store import find

    project = here()
    for path in write_card(project, find(project, model), out):
        print(path)
