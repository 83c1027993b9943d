"""The `onestep` command line: one command per stage, and what people type by hand.

Heavy libraries are imported inside the commands, so that `onestep --help` answers at once.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from onestep import cli_nights
from onestep.ledger_commands import app as ledger
from onestep.lineage_commands import app as lineage
from onestep.registry_commands import app as registry

app = typer.Typer(
    help="Turn a multi-step video diffusion model into a one-step generator, on your own footage.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
pretrain = typer.Typer(help="Make the bundled base model and judge (`data/bundled/dvc.yaml`).", no_args_is_help=True)
app.add_typer(pretrain, name="pretrain", rich_help_panel="Making a base model")

Production = Annotated[Path, typer.Argument(help="data/production.json: what this run is judged against.")]
app.add_typer(ledger, name="ledger", rich_help_panel="By hand")
app.add_typer(lineage, name="lineage", rich_help_panel="By hand")
app.add_typer(registry)

ParamsFile = Annotated[Path, typer.Option("--params", help="The settings file.")]
Out = Annotated[Path, typer.Option(help="Where the result goes.")]
Curves = Annotated[Path, typer.Option(help="Folder of the training curves and sample sheets.")]
PARAMS = Path("params.yaml")
HAND = "By hand"
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
    """The base becomes a student that samples in one step: consistency, progressive or trajectory distillation (APT
    section 3.2), then distribution matching (DMD). Groups `consistency` and `consistency.matching` of the settings.
    """
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
    clips: Annotated[
        Path, typer.Option(help="Folder of the clips: dev captions and real clips to look at samples by.")
    ],
    judge: Annotated[Path, typer.Option(help="Folder of the judge.")],
    margins: Annotated[Path, typer.Option(help="File of the margins, for the fidelity of samples.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Adversarial post-training against real clips (APT section 3.3): the one-step model."""
    from onestep.evaluation.development import watch_with
    from onestep.training.adversarial import train_adversarial

    settings, watch = _params(params).adversarial, watch_with(clips, judge, margins)
    train_adversarial(latents, base, consistency, out, discriminator, curves, settings, watch)


@app.command(rich_help_panel=STAGES)
def samples(
    model: Path,
    clips: Path,
    production: Production,
    out: Out,
    name: Annotated[str, typer.Option(help="What the model is called in the tables.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Sample a one-step model from the test prompts; every model gets the same noise."""
    from onestep.evaluation.samples import pass_over

    if pass_over(model, out):
        return
    from onestep.evaluation.sampling import sample_student
    from onestep.registry.pin import read_pin

    pin, settings = read_pin(production), _params(params)
    sample_student(model, name, clips, out, settings.encode.text_tokens, settings.samples.with_seed(pin.seed))


@app.command(rich_help_panel=STAGES)
def baselines(
    model: Path,
    clips: Path,
    judge: Path,
    shipped: Annotated[Path, typer.Argument(help="Measured baselines, reused where their fingerprints match.")],
    production: Production,
    out: Out,
    params: ParamsFile = PARAMS,
) -> None:
    """Sample the multi-step model at every setting, from the same prompts and noise; or reuse what ships with it."""
    from onestep.evaluation.baselines import sample_baselines
    from onestep.registry.pin import read_pin

    pin, settings = read_pin(production), _params(params)
    samples = settings.samples.with_seed(pin.seed)
    sample_baselines(model, clips, judge, shipped, out, settings.encode.text_tokens, samples)


@app.command(rich_help_panel=STAGES)
def production(
    pin: Production,
    out: Out,
) -> None:
    """Export the pinned champion, or an empty folder with a marker where there is none yet."""
    from onestep.registry.production import fetch_production

    fetch_production(pin, out)


@app.command(rich_help_panel=STAGES)
def drift(
    clips: Path,
    production: Annotated[Path, typer.Argument(help="The champion's folder, which holds its clips' index.")],
    out: Out,
    page: Annotated[Path, typer.Option(help="HTML page.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Compare the clips with those that the model in production was trained on."""
    from onestep.config import load_params
    from onestep.data.drift import drift as run

    reference = production / "clips.parquet"
    run(clips, reference if reference.is_file() else None, out, page, load_params(params).drift)


@app.command(rich_help_panel=STAGES)
def gate(
    metrics: Path,
    latency: Path,
    validation: Path,
    production: Path,
    seeds: Annotated[Path, typer.Argument(help="Folder of metrics.json of models trained alike with other seeds.")],
    out: Out,
    params: ParamsFile = PARAMS,
) -> None:
    """Judge the candidate by the rules in the settings: promote, hold or reject."""
    from onestep.config import load_params
    from onestep.registry.gates import gate as run

    run(metrics, latency, validation, production, seeds, out, load_params(params).gate)


@app.command(rich_help_panel=STAGES)
def evaluate(
    samples: Annotated[list[Path], typer.Argument(help="The families' sample folders.")],
    clips: Annotated[Path, typer.Option(help="Folder of the clips.")],
    judge: Annotated[Path, typer.Option(help="Folder of the judge.")],
    production: Annotated[Path, typer.Option(help="data/production.json: alpha, seed and judge of the comparison.")],
    margins: Annotated[Path, typer.Option(help="data/margins.json: within how much two clips are the same.")],
    out: Out,
    params: ParamsFile = PARAMS,
) -> None:
    """Measure every model on the same prompts, with paired intervals and tests."""
    from onestep.evaluation.evaluate import evaluate as run
    from onestep.evaluation.paired_tests import Comparison
    from onestep.registry.pin import read_pin

    pin = read_pin(production)
    comparison = Comparison(pin.alpha, pin.seed, pin.judge)
    run(samples, clips, judge, out, _params(params).evaluate, comparison, margins)


@app.command(rich_help_panel=STAGES)
def latency(student: Path, base: Path, out: Out, params: ParamsFile = PARAMS) -> None:
    """Time the student and the teacher's settings, in turn."""
    from onestep.evaluation.latency import latency as run

    settings = _params(params)
    run(student, base, out, settings.encode.text_tokens, settings.samples, settings.latency)


@app.command(rich_help_panel=STAGES)
def report(
    metrics: Path,
    samples: Annotated[list[Path], typer.Argument(help="The families' sample folders.")],
    clips: Annotated[Path, typer.Option(help="Folder of the clips.")],
    latency: Annotated[Path, typer.Option(help="latency.json")],
    verdict: Annotated[Path, typer.Option(help="verdict.json")],
    curves: Annotated[Path, typer.Option(help="Folder that holds each training stage's curves.")],
    per_prompt: Annotated[Path, typer.Option(help="per_prompt.parquet")],
    picture: Annotated[Path, typer.Option(help="GIF of the same videos.")],
    out: Out,
    params: ParamsFile = PARAMS,
) -> None:
    """Write the page with the videos side by side, the numbers and the verdict; and the videos as one GIF."""
    from onestep.evaluation.report import write_picture, write_report

    folders = {folder.name: folder for folder in sorted(curves.glob("*")) if folder.is_dir()}
    settings = _params(params).evaluate
    write_report(metrics, samples, clips, out, settings, latency, verdict, folders, per_prompt)
    write_picture(metrics, samples, clips, picture, settings)


@app.command(rich_help_panel=HAND)
def margins(
    clips: Path,
    judge: Path,
    out: Annotated[Path, typer.Option(help="data/margins.json")],
    split: Annotated[str, typer.Option(help="Whose real clips are paired: test, dev or train.")] = "test",
    params: ParamsFile = PARAMS,
) -> None:
    """Fix within how much two clips are the same, from real clips of one caption: once, before any model is scored."""
    from onestep.evaluation.preference import fix_margins

    fix_margins(clips, judge, out, split, _params(params).evaluate.text_model)


@app.command(rich_help_panel=HAND)
def generate(
    prompt: Annotated[str, typer.Argument(help="What to show.")],
    model: Annotated[Path, typer.Option(help="A pipeline folder.")],
    out: Annotated[Path, typer.Option(help="clip.mp4 or clip.gif")],
    steps: Annotated[int | None, typer.Option(help="Denoising steps; 1 for a one-step model, 25 otherwise.")] = None,
    guidance: Annotated[float, typer.Option(help="Guidance scale; 1 = none.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    frames: Annotated[int | None, typer.Option(help="4k+1; default: what the model was trained at.")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    text_tokens: Annotated[int | None, typer.Option(help="Tokens of the padded caption.")] = None,
) -> None:
    """Generate one clip from a sentence: `onestep generate "a small red circle bouncing on teal" …`."""
    from onestep.evaluation.generate import generate as run

    run(prompt, model, out, steps, guidance, seed, (frames, height, width), text_tokens)


@app.command(rich_help_panel=HAND)
def look_back(latents: Path, clips: Path, base: Path, out: Out, count: int = 6) -> None:
    """Decode some latents again and show them beside their clips."""
    from onestep.evaluation.generate import look_back as run

    print(f"PSNR {run(latents, clips, base, out, count):.2f} dB, {out}")


@app.command(rich_help_panel=HAND)
def params(path: Annotated[Path, typer.Argument(help="The settings file.")] = PARAMS) -> None:
    """Check a settings file: every wrong key is named with its nearest legal value."""
    from onestep.config import load_params

    load_params(path)
    print(f"{path} is valid")


@app.command(rich_help_panel=HAND)
def profile(path: Annotated[Path, typer.Argument(help="profiles/full.yaml")], params: ParamsFile = PARAMS) -> None:
    """Print a profile as options of `dvc exp run`, after checking it against the settings."""
    from onestep.config import overrides

    print(" ".join(f"--set-param {change}" for change in overrides(path, params)))


@app.command(rich_help_panel=HAND)
def times(
    since: Annotated[float, typer.Option(help="Seconds of the epoch; a stage that ended earlier was cached.")] = 0,
) -> None:
    """Show how long each stage took, beside its budget in `dvc.yaml`."""
    from onestep.times import table

    print(table(since))


app.command(rich_help_panel=HAND)(cli_nights.doctor)
app.command(rich_help_panel=HAND)(cli_nights.decide)


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


@pretrain.command("latents")
def pretrain_latents(clips: Path, vae: Path, out: Out, params: ParamsFile = PARAMS) -> None:
    """Encode the training clips once."""
    from onestep.pretraining.settings import load_pretraining
    from onestep.pretraining.teacher import encode_clips

    _pin_threads(load_pretraining(params).machine.threads)
    encode_clips(clips, vae, out)


@pretrain.command("teacher")
def pretrain_teacher(
    clips: Path, latents: Path, vae: Path, out: Out, curves: Curves, params: ParamsFile = PARAMS
) -> None:
    """Train the multi-step transformer and its text encoder, and write the whole pipeline."""
    from onestep.pretraining.settings import load_pretraining
    from onestep.pretraining.teacher import train_teacher

    settings = load_pretraining(params)
    _pin_threads(settings.machine.threads)
    train_teacher(clips, latents, vae, out, curves, settings.teacher)


@pretrain.command("baselines")
def pretrain_baselines(samples: Path, clips: Path, judge: Path, out: Out) -> None:
    """Measure sampled baselines and keep the numbers and a few clips, to ship with the base."""
    from onestep.evaluation.baselines import keep_baselines

    keep_baselines(samples, clips, judge, out)


@pretrain.command("score")
def pretrain_score(clips: Path, base: Path, judge: Path, out: Out, params: ParamsFile = PARAMS) -> None:
    """Measure the base on held-out captions, before any student of it exists."""
    from onestep.pretraining.score import score_base
    from onestep.pretraining.settings import load_pretraining

    settings = load_pretraining(params)
    _pin_threads(settings.machine.threads)
    score_base(clips, base, judge, out, settings.teacher.text_tokens, settings.samples, settings.evaluate)


@pretrain.command("judge")
def pretrain_judge(clips: Path, out: Out, params: ParamsFile = PARAMS) -> None:
    """Train the judge on real clips' pixels."""
    from onestep.pretraining.judge import train_judge
    from onestep.pretraining.settings import load_pretraining

    settings = load_pretraining(params)
    _pin_threads(settings.machine.threads)
    train_judge(clips, out, settings.judge)


def main() -> None:
    """Run the command line; expected failures are one sentence on standard error and exit code 1."""
    from onestep.times import timed

    try:
        with timed(sys.argv[1:]):
            app()
    except Exception as error:
        if not _expected(error):
            raise
        print(f"onestep: {error}", file=sys.stderr)
        raise SystemExit(getattr(error, "exit_code", 1)) from None


def _expected(error: Exception) -> bool:
    return type(error).__module__.startswith("onestep.")


if __name__ == "__main__":
    main()
