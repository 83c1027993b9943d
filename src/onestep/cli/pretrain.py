"""`onestep pretrain`: how the bundled base model and judge are made (`data/bundled/dvc.yaml`).`

Heavy libraries are imported inside the commands, so that `onestep --help` answers at once.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onestep.cli.arguments import (
    PARAMS,
    ParamsFile,
    input_folder,
    output_file,
    output_folder,
    output_place,
    source_url,
)

if TYPE_CHECKING:
    from onestep.pretraining.settings import Pretraining

app = typer.Typer(help="Make the bundled base model and judge (`data/bundled/dvc.yaml`).", no_args_is_help=True)

Clips = Annotated[Path, input_folder("Folder of the clips, from `ingest`.")]
Vae = Annotated[Path, input_folder("Folder of the autoencoder, from `vae`.")]
Latents = Annotated[Path, input_folder("Folder of the latents, from `latents`.")]
Base = Annotated[Path, input_folder("Folder of the base model, from `teacher`.")]
Judge = Annotated[Path, input_folder("Folder of the judge, from `judge`.")]
OutFolder = Annotated[Path, output_folder("Folder that the result replaces.")]
OutFile = Annotated[Path, output_file("File that the result replaces.")]
Curves = Annotated[Path, output_place("Folder of the training curves and sample sheets.")]


@app.command("footage")
def footage(out: OutFolder, params: ParamsFile = PARAMS) -> None:
    """Render the footage that the bundled models are trained on."""
    from onestep.demo.footage import render_footage
    from onestep.pretraining.settings import load_pretraining

    render_footage(out, load_pretraining(params).footage)


@app.command("ingest")
def ingest(
    source: Annotated[str, source_url("Footage folder, from `footage`; it holds `metadata.csv`.")],
    out: OutFolder,
    params: ParamsFile = PARAMS,
) -> None:
    """Cut that footage into clips."""
    from onestep.data.ingest import ingest as run
    from onestep.pretraining.settings import load_pretraining

    run(source, out, load_pretraining(params).ingest)


@app.command("vae")
def vae(clips: Clips, out: OutFolder, curves: Curves, params: ParamsFile = PARAMS) -> None:
    """Train the autoencoder."""
    from onestep.pretraining.vae import train_vae

    settings = _settings(params)
    train_vae(clips, out, curves, settings.vae)


@app.command("latents")
def latents(clips: Clips, vae: Vae, out: OutFolder, params: ParamsFile = PARAMS) -> None:
    """Encode the training clips once."""
    from onestep.pretraining.teacher import encode_clips

    _settings(params)
    encode_clips(clips, vae, out)


@app.command("teacher")
def teacher(
    clips: Clips, latents: Latents, vae: Vae, out: OutFolder, curves: Curves, params: ParamsFile = PARAMS
) -> None:
    """Train the multi-step transformer and its text encoder, and write the whole pipeline."""
    from onestep.pretraining.teacher import train_teacher

    settings = _settings(params)
    train_teacher(clips, latents, vae, out, curves, settings.teacher)


@app.command("baselines")
def baselines(
    samples: Annotated[Path, input_folder("Folder of the sampled baselines.")],
    clips: Clips,
    judge: Judge,
    out: OutFolder,
) -> None:
    """Measure sampled baselines and keep the numbers and a few clips, to ship with the base."""
    from onestep.evaluation.baselines import keep_baselines

    keep_baselines(samples, clips, judge, out)


@app.command("score")
def score(clips: Clips, base: Base, judge: Judge, out: OutFile, params: ParamsFile = PARAMS) -> None:
    """Measure the base on held-out captions, before any student of it exists."""
    from onestep.pretraining.score import score_base

    settings = _settings(params)
    score_base(clips, base, judge, out, settings.teacher.text_tokens, settings.samples, settings.evaluate)


@app.command("judge")
def judge(clips: Clips, out: OutFolder, params: ParamsFile = PARAMS) -> None:
    """Train the judge on real clips' pixels."""
    from onestep.pretraining.judge import train_judge

    settings = _settings(params)
    train_judge(clips, out, settings.judge)


def _settings(path: Path) -> "Pretraining":
    """The settings, and as many threads as they say."""
    from onestep.cli.params import pin_threads
    from onestep.pretraining.settings import load_pretraining

    settings = load_pretraining(path)
    pin_threads(settings.machine)
    return settings
