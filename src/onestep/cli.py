"""The `onestep` command line: one command per stage, and what people type by hand.

Heavy libraries are imported inside the commands, so that `onestep --help` answers at once.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Turn a multi-step video diffusion model into a one-step generator, on your own footage.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
pretrain = typer.Typer(help="Make the bundled base model and judge (`data/bundled/dvc.yaml`).", no_args_is_help=True)
app.add_typer(pretrain, name="pretrain", rich_help_panel="Making a base model")

ParamsFile = Annotated[Path, typer.Option("--params", help="The settings file.")]
Out = Annotated[Path, typer.Option(help="Where the result goes.")]
PARAMS = Path("params.yaml")
STAGES = "Stages (what `dvc repro` runs)"


def _params(path: Path):
    from onestep.config import load_params

    params = load_params(path)
    _pin_threads(params.machine.threads)
    return params


def _pin_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


@app.command(rich_help_panel=STAGES)
def footage(out: Out, params: ParamsFile = PARAMS) -> None:
    """Render the demo world's video files and `metadata.csv`."""
    from onestep.config import load_params
    from onestep.data.footage import render_footage

    render_footage(out, load_params(params).footage)


@app.command(rich_help_panel=STAGES)
def ingest(
    source: Annotated[str, typer.Argument(help="Footage folder: a path or an fsspec URL.")],
    out: Out,
    params: ParamsFile = PARAMS,
) -> None:
    """Cut footage into shots and clips of one size; what cannot be used goes to quarantine with its reason."""
    from onestep.config import load_params
    from onestep.data.ingest import ingest as run

    run(source, out, load_params(params).ingest)


@app.command(rich_help_panel=STAGES)
def validate(
    clips: Path, out: Out, page: Annotated[Path, typer.Option(help="HTML page.")], params: ParamsFile = PARAMS
) -> None:
    """Check the clips; the verdict goes into the JSON, and later stages refuse a failed one."""
    from onestep.config import load_params
    from onestep.data.expectations import validate as run

    settings = load_params(params)
    run(clips, out, page, settings.validate_, settings.ingest)


@pretrain.command("footage")
def pretrain_footage(out: Out, params: ParamsFile = PARAMS) -> None:
    """Render the footage that the bundled models are trained on."""
    from onestep.data.footage import render_footage
    from onestep.pretraining.settings import load_pretraining

    render_footage(out, load_pretraining(params).footage)


@pretrain.command("ingest")
def pretrain_ingest(source: str, out: Out, params: ParamsFile = PARAMS) -> None:
    """Cut that footage into clips."""
    from onestep.data.ingest import ingest as run
    from onestep.pretraining.settings import load_pretraining

    run(source, out, load_pretraining(params).ingest)


@pretrain.command("vae")
def pretrain_vae(clips: Path, out: Out, curves: Path, params: ParamsFile = PARAMS) -> None:
    """Train the autoencoder."""
    from onestep.pretraining.settings import load_pretraining
    from onestep.pretraining.vae import train_vae

    settings = load_pretraining(params)
    _pin_threads(settings.machine.threads)
    train_vae(clips, out, curves, settings.vae)


def main() -> None:
    """Run the command line; expected failures are one sentence on standard error and exit code 1."""
    try:
        app()
    except Exception as error:
        if not _expected(error):
            raise
        print(f"onestep: {error}", file=sys.stderr)
        raise SystemExit(getattr(error, "exit_code", 1)) from None


def _expected(error: Exception) -> bool:
    return type(error).__module__.startswith("onestep.")
