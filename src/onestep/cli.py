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
Curves = Annotated[Path, typer.Option(help="Folder of the training curves and sample sheets.")]
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


@app.command(rich_help_panel=STAGES)
def base(out: Out, params: ParamsFile = PARAMS) -> None:
    """Fetch the multi-step base model by URL, check it, record its fingerprint."""
    from onestep.models.fetch import fetch_folder
    from onestep.models.pipeline import load_pipeline

    sha256 = fetch_folder(_params(params).base, out)
    load_pipeline(out)
    print(f"base sha256 {sha256}")


@app.command(rich_help_panel=STAGES)
def judge(out: Out, params: ParamsFile = PARAMS) -> None:
    """Fetch the judge by URL, check it, record its fingerprint."""
    from onestep.evaluation.judge import load_judge
    from onestep.models.fetch import fetch_folder

    sha256 = fetch_folder(_params(params).judge, out)
    load_judge(out)
    print(f"judge sha256 {sha256}")


@app.command(rich_help_panel=STAGES)
def encode(clips: Path, base: Path, validation: Path, out: Out, params: ParamsFile = PARAMS) -> None:
    """Encode clips and captions into latents and text states."""
    from onestep.data.latents import encode as run

    run(clips, base, validation, out, _params(params).encode)


@app.command(rich_help_panel=STAGES)
def consistency(latents: Path, base: Path, out: Out, curves: Curves, params: ParamsFile = PARAMS) -> None:
    """Few-step initialisation: consistency distillation of the base (APT section 3.2)."""
    from onestep.training.consistency import train_consistency

    train_consistency(latents, base, out, curves, _params(params).consistency)


@app.command(rich_help_panel=STAGES)
def adversarial(
    latents: Path,
    base: Path,
    consistency: Path,
    out: Out,
    discriminator: Annotated[Path, typer.Option(help="Where the discriminator goes.")],
    curves: Curves,
    params: ParamsFile = PARAMS,
) -> None:
    """Adversarial post-training against real clips (APT section 3.3): the one-step model."""
    from onestep.training.adversarial import train_adversarial

    train_adversarial(latents, base, consistency, out, discriminator, curves, _params(params).adversarial)


@app.command(rich_help_panel=STAGES)
def samples(
    model: Path,
    clips: Path,
    out: Out,
    family: Annotated[str, typer.Option(help="teacher | onestep | consistency | champion")],
    params: ParamsFile = PARAMS,
) -> None:
    """Sample one family of models from the test prompts, all with the same noise."""
    from onestep.evaluation.sampling import sample_student, sample_teacher

    settings = _params(params)
    if family == "teacher":
        sample_teacher(model, clips, out, settings.encode.text_tokens, settings.samples)
    else:
        sample_student(model, family, clips, out, settings.encode.text_tokens, settings.samples)


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
def pretrain_vae(clips: Path, out: Out, curves: Curves, params: ParamsFile = PARAMS) -> None:
    """Train the autoencoder."""
    from onestep.pretraining.settings import load_pretraining
    from onestep.pretraining.vae import train_vae

    settings = load_pretraining(params)
    _pin_threads(settings.machine.threads)
    train_vae(clips, out, curves, settings.vae)


@pretrain.command("teacher")
def pretrain_teacher(clips: Path, vae: Path, out: Out, curves: Curves, params: ParamsFile = PARAMS) -> None:
    """Train the multi-step transformer and its text encoder, and write the whole pipeline."""
    from onestep.pretraining.settings import load_pretraining
    from onestep.pretraining.teacher import train_teacher

    settings = load_pretraining(params)
    _pin_threads(settings.machine.threads)
    train_teacher(clips, vae, out, curves, settings.teacher)


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
