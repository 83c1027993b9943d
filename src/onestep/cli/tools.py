"""`onestep generate`, `reconstruct`, `params`, `profile`, `times` and `margins`: what people type by hand.

Heavy libraries are imported inside the commands, so that `onestep --help` answers at once.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from onestep.cli.arguments import (
    HAND,
    PARAMS,
    SEEDS,
    ParamsFile,
    decimal,
    input_file,
    input_folder,
    output_file,
    sentence,
    whole,
)
from onestep.core.paths import MARGINS

app = typer.Typer()

Size = Annotated[int | None, whole(1, 16384, "Pixels, a multiple of 16; default: what the model was trained at.")]


@app.command(rich_help_panel=HAND)
def generate(
    prompt: Annotated[str, sentence("What to show.")],
    model: Annotated[Path, input_folder("A pipeline folder, such as models/onestep or models/base.", option=True)],
    out: Annotated[Path, output_file("clip.mp4 or clip.gif")],
    steps: Annotated[
        int | None, whole(1, 1000, "Denoising steps; default: 1 for a one-step model, 25 for another.")
    ] = None,
    guidance: Annotated[float, decimal(1, 100, "Guidance scale; 1 = none.")] = 1.0,
    seed: Annotated[int, whole(0, SEEDS, "Of the noise: the same seed gives the same clip.")] = 0,
    frames: Annotated[int | None, whole(1, 100_001, "Frames, 4k+1; default: what the model was trained at.")] = None,
    height: Size = None,
    width: Size = None,
    text_tokens: Annotated[
        int | None, whole(1, 4096, "Tokens of the padded caption; default: what the model was trained at.")
    ] = None,
) -> None:
    """Generate one clip from a sentence: `onestep generate "a small red circle bouncing on teal" …`."""
    from onestep.inference.generate import generate as run

    run(prompt, model, out, steps, guidance, seed, (frames, height, width), text_tokens)


@app.command(rich_help_panel=HAND)
def reconstruct(
    latents: Annotated[Path, input_folder("Folder of the latents, from `encode`.")],
    clips: Annotated[Path, input_folder("Folder of the clips that they were made from.")],
    base: Annotated[Path, input_folder("Folder of the base model that made them.")],
    out: Annotated[Path, output_file("Picture, PNG.")],
    count: Annotated[int, whole(1, 1000, "How many clips.")] = 6,
) -> None:
    """Decode some latents and show them beside their clips, with the PSNR between them."""
    from onestep.inference.generate import reconstruct as run

    print(f"PSNR {run(latents, clips, base, out, count):.2f} dB, {out}")


@app.command(rich_help_panel=HAND)
def params(path: Annotated[Path, input_file("The settings file.")] = PARAMS) -> None:
    """Check a settings file: every wrong key is named with its nearest legal value."""
    from onestep.cli.params import load_params

    load_params(path)
    print(f"{path} is valid")


@app.command(rich_help_panel=HAND)
def profile(
    path: Annotated[Path, input_file("The profile, such as profiles/full.yaml.")], params: ParamsFile = PARAMS
) -> None:
    """Print a profile as options of `dvc exp run`, after checking it against the settings."""
    from onestep.cli.params import overrides

    print(" ".join(f"--set-param {change}" for change in overrides(path, params)))


@app.command(rich_help_panel=HAND)
def times(
    since: Annotated[float, decimal(0, 1e11, "Seconds of the epoch; a stage that ended earlier was cached.")] = 0,
) -> None:
    """Show how long each stage took, beside its budget in `dvc.yaml`."""
    from onestep.core.times import table

    print(table(since))


@app.command(rich_help_panel=HAND)
def margins(
    clips: Annotated[Path, input_folder("Folder of the clips, from `ingest`.")],
    judge: Annotated[Path, input_folder("Folder of the judge, from `judge`.")],
    out: Annotated[Path, output_file(MARGINS)],
    split: Annotated[Literal["test", "dev", "train"], typer.Option(help="Whose real clips are paired.")] = "test",
    params: ParamsFile = PARAMS,
) -> None:
    """Fix within how much two clips are the same, from real clips of one caption: once, before any model is scored."""
    from onestep.cli.params import load_params, pin_threads
    from onestep.evaluation.margins import fix_margins

    settings = load_params(params)
    pin_threads(settings.machine)
    fix_margins(clips, judge, out, split, settings.evaluate.text_model)
