"""The stages of the graph, one command each: what `dvc repro` runs. A person reads them in the order of `dvc.yaml`.

A command checks all of `params.yaml` and hands its stage that stage's own settings. The imports inside a command are
what its stage depends on (`onestep graph sync` follows them); `_settings` and `_params` are no part of that.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onestep.cli.arguments import (
    PARAMS,
    ParamsFile,
    input_file,
    input_folder,
    output_file,
    output_folder,
    output_place,
    sentence,
    source_url,
)
from onestep.cli.here import here

if TYPE_CHECKING:
    from onestep.cli.params import Params

app = typer.Typer()

Production = Annotated[Path, input_file("data/production.json: what this run is judged against.")]
Clips = Annotated[Path, input_folder("Folder of the clips, from `ingest`.")]
ClipsOption = Annotated[Path, input_folder("Folder of the clips, from `ingest`.", option=True)]
Base = Annotated[Path, input_folder("Folder of the multi-step base model, a diffusers pipeline.")]
Judge = Annotated[Path, input_folder("Folder of the judge, from `judge`.")]
JudgeOption = Annotated[Path, input_folder("Folder of the judge, from `judge`.", option=True)]
Latents = Annotated[Path, input_folder("Folder of the latents, from `encode`.")]
Validation = Annotated[Path, input_file("reports/validation.json, from `validate`; a failed one is refused.")]
Metrics = Annotated[Path, input_file("reports/metrics.json, from `evaluate`.")]
MarginsOption = Annotated[Path, input_file("data/margins.json: within how much two clips are the same.", option=True)]
OutFolder = Annotated[Path, output_folder("Folder that the result replaces.")]
OutFile = Annotated[Path, output_file("File that the result replaces.")]
OutPage = Annotated[Path, output_file("HTML page for people.")]
Champion = Annotated[Path, input_folder("The champion's folder, which holds its clips' index.")]
Curves = Annotated[Path, output_place("Folder of the training curves and sample sheets.")]
Name = Annotated[str, sentence("What the model is called in the tables.", option=True)]
STAGES = "Stages (what `dvc repro` runs)"


def _settings(path: Path) -> "Params":
    """All settings, checked with what must fit between the groups: no stage starts while another's are impossible."""
    from onestep.cli.params import load_params

    return load_params(path)


def _params(path: Path) -> "Params":
    """The same for a stage that computes with torch, which gets as many threads as `machine` says."""
    from onestep.cli.params import pin_threads

    params = _settings(path)
    pin_threads(params.machine)
    return params


@app.command(rich_help_panel=STAGES)
def footage(out: OutFolder, params: ParamsFile = PARAMS) -> None:
    """Render the demo world's video files and `metadata.csv`."""
    from onestep.demo.footage import render_footage

    render_footage(out, _settings(params).footage)


@app.command(rich_help_panel=STAGES)
def ingest(
    source: Annotated[str, source_url("Footage folder: a path or an fsspec URL; it holds `metadata.csv`.")],
    out: OutFolder,
    params: ParamsFile = PARAMS,
) -> None:
    """Cut footage into shots and clips of one size; what cannot be used goes to quarantine with its reason."""
    from onestep.data.ingest import ingest as run

    run(source, out, _settings(params).ingest)


@app.command(rich_help_panel=STAGES)
def validate(clips: Clips, out: OutFile, params: ParamsFile = PARAMS) -> None:
    """Check the clips; the verdict goes into the JSON, and later stages refuse a failed one."""
    from onestep.data.expectations import validate as run

    settings = _settings(params)
    run(clips, out, settings.validate_, settings.ingest)


@app.command(rich_help_panel=STAGES)
def validation_page(
    clips: Clips, validation: Annotated[Path, input_file("reports/validation.json, from `validate`.")], out: OutPage
) -> None:
    """Write the page of the checks: what failed, clips that break a check, a sample of the others, the quarantine."""
    from onestep.report.validation_page import write_validation_page

    write_validation_page(clips, validation, out)


@app.command(rich_help_panel=STAGES)
def production(
    pin: Production,
    out: OutFolder,
) -> None:
    """Export the pinned champion, or an empty folder with a marker where there is none yet."""
    from onestep.registry.champion import fetch_production

    fetch_production(here(), pin, out)


@app.command(rich_help_panel=STAGES)
def drift(clips: Clips, production: Champion, out: OutFile, params: ParamsFile = PARAMS) -> None:
    """Compare the clips with those that the model in production was trained on."""
    from onestep.data.drift import drift as run
    from onestep.data.schema import INDEX

    run(clips, production / INDEX, out, _settings(params).drift)


@app.command(rich_help_panel=STAGES)
def drift_page(
    clips: Clips,
    production: Champion,
    drift: Annotated[Path, input_file("reports/drift.json, from `drift`.")],
    out: OutPage,
) -> None:
    """Write the page of that comparison: Evidently's own."""
    from onestep.data.schema import INDEX
    from onestep.report.drift_page import write_drift_page

    write_drift_page(clips, production / INDEX, drift, out)


@app.command(rich_help_panel=STAGES)
def base(out: OutFolder, params: ParamsFile = PARAMS) -> None:
    """Fetch the multi-step base model by URL, check it, record its fingerprint."""
    from onestep.models.fetch import fetch_folder
    from onestep.models.pipeline import load_pipeline

    sha256 = fetch_folder(_params(params).base, out)
    load_pipeline(out)
    print(f"base sha256 {sha256}")


@app.command(rich_help_panel=STAGES)
def judge(out: OutFolder, params: ParamsFile = PARAMS) -> None:
    """Fetch the judge by URL, check it, record its fingerprint."""
    from onestep.evaluation.judge import load_judge
    from onestep.models.fetch import fetch_folder

    sha256 = fetch_folder(_params(params).judge, out)
    load_judge(out)
    print(f"judge sha256 {sha256}")


@app.command(rich_help_panel=STAGES)
def encode(clips: Clips, base: Base, validation: Validation, out: OutFolder, params: ParamsFile = PARAMS) -> None:
    """Encode clips and captions into latents and text states."""
    from onestep.data.encode import encode as run

    run(clips, base, validation, out, _params(params).encode)


@app.command(rich_help_panel=STAGES)
def consistency(latents: Latents, base: Base, out: OutFolder, curves: Curves, params: ParamsFile = PARAMS) -> None:
    """The base becomes a student that samples in one step: consistency, progressive or trajectory distillation (APT
    section 3.2), then distribution matching (DMD). Groups `consistency` and `consistency.dmd` of the settings.
    """
    from onestep.training.distillation import train_consistency

    train_consistency(latents, base, out, curves, _params(params).consistency)


@app.command(rich_help_panel=STAGES)
def adversarial(
    latents: Latents,
    base: Base,
    consistency: Annotated[Path, input_folder("Folder of the student to start from, from `consistency`.")],
    out: OutFolder,
    discriminator: Annotated[Path, output_folder("Folder of the discriminator.")],
    curves: Curves,
    clips: ClipsOption,
    judge: JudgeOption,
    margins: MarginsOption,
    params: ParamsFile = PARAMS,
) -> None:
    """Adversarial post-training against real clips (APT section 3.3): the one-step model."""
    from onestep.evaluation.dev_evaluator import dev_measure_of
    from onestep.training.adversarial import train_adversarial

    settings, measure = _params(params).adversarial, dev_measure_of(clips, judge, margins)
    train_adversarial(latents, base, consistency, out, discriminator, curves, settings, measure)


@app.command(rich_help_panel=STAGES)
def samples(
    model: Annotated[Path, input_folder("Folder of the one-step model.")],
    clips: Clips,
    production: Production,
    out: OutFolder,
    name: Name,
    params: ParamsFile = PARAMS,
) -> None:
    """Sample a one-step model from the test prompts; every model gets the same noise."""
    from onestep.inference.samples import pass_over

    if pass_over(model, out):
        return
    from onestep.gate.pin import read_pin
    from onestep.inference.sampler import sample_student

    pin, settings = read_pin(production), _params(params)
    sample_student(model, name, clips, out, settings.encode.text_tokens, settings.samples.with_seed(pin.seed))


@app.command(rich_help_panel=STAGES)
def baselines(
    model: Base,
    clips: Clips,
    judge: Judge,
    shipped: Annotated[Path, input_folder("Measured baselines, reused where their fingerprints match.")],
    production: Production,
    out: OutFolder,
    params: ParamsFile = PARAMS,
) -> None:
    """Sample the multi-step model at every setting, from the same prompts and noise; or reuse what ships with it."""
    from onestep.evaluation.measurement import measuring_code
    from onestep.gate.pin import read_pin
    from onestep.inference.baselines import sample_baselines

    pin, settings = read_pin(production), _params(params)
    samples, tokens = settings.samples.with_seed(pin.seed), settings.encode.text_tokens
    sample_baselines(model, clips, judge, shipped, out, tokens, samples, measuring_code())


@app.command(rich_help_panel=STAGES)
def evaluate(
    samples: Annotated[list[Path], input_folder("The families' sample folders.")],
    clips: ClipsOption,
    judge: JudgeOption,
    production: Annotated[
        Path, input_file("data/production.json: alpha, seed and judge of the comparison.", option=True)
    ],
    margins: MarginsOption,
    out: Annotated[Path, output_place("Folder that gets metrics.json, per_prompt.parquet and plots.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Measure every model on the same prompts, with paired intervals and tests."""
    from onestep.evaluation.evaluate import evaluate as run
    from onestep.evaluation.statistics import Comparison
    from onestep.gate.pin import read_pin

    pin = read_pin(production)
    comparison = Comparison(pin.alpha, pin.seed, pin.judge)
    run(samples, clips, judge, out, _params(params).evaluate, comparison, margins)


@app.command(rich_help_panel=STAGES)
def latency(
    student: Annotated[Path, input_folder("Folder of the one-step model.")],
    base: Base,
    out: OutFile,
    machine: Annotated[Path, output_file("File that names this machine; neither git nor DVC carries it to another.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Time the student and the teacher's settings, in turn, on this machine."""
    from onestep.inference.latency import latency as run

    settings = _params(params)
    run(student, base, out, machine, settings.encode.text_tokens, settings.samples, settings.latency)


@app.command(rich_help_panel=STAGES)
def gate(
    metrics: Metrics,
    latency: Annotated[Path, input_file("reports/latency.json, from `latency`.")],
    validation: Validation,
    production: Production,
    seeds: Annotated[Path, input_folder("Folder of metrics.json of models trained alike with other seeds.")],
    machine: Annotated[
        Path, input_file("The file that names the machine of the timings, from `latency`.", option=True)
    ],
    out: OutFile,
    params: ParamsFile = PARAMS,
) -> None:
    """Judge the candidate by the rules in the settings: promote, hold or reject."""
    from onestep.gate.verdict import gate as run

    run(metrics, latency, machine, validation, production, seeds, out, _settings(params).gate)


@app.command(rich_help_panel=STAGES)
def report(
    metrics: Metrics,
    samples: Annotated[list[Path], input_folder("The families' sample folders.")],
    clips: ClipsOption,
    latency: Annotated[Path, input_file("reports/latency.json, from `latency`.", option=True)],
    verdict: Annotated[Path, input_file("reports/verdict.json, from `gate`.", option=True)],
    curves: Annotated[Path, input_folder("Folder that holds each training stage's curves.", option=True)],
    per_prompt: Annotated[Path, input_file("per_prompt.parquet, from `evaluate`.", option=True)],
    picture: Annotated[Path, output_file("GIF of the same videos.")],
    out: Annotated[Path, output_file("HTML page with the videos.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Write the page with the videos side by side, the numbers and the verdict; and the videos as one GIF."""
    from onestep.report.report import write_picture, write_report

    folders = {folder.name: folder for folder in sorted(curves.glob("*")) if folder.is_dir()}
    settings = _params(params).evaluate
    write_report(metrics, samples, clips, out, settings, latency, verdict, folders, per_prompt)
    write_picture(metrics, samples, clips, picture, settings)
