"""Does the adversarial stage collapse without its penalty, and does the guard say so? Trains from the same start each time.

    python benchmarks/collapse.py --updates 200
    python benchmarks/collapse.py --report        # run nothing: the picture from results/collapse.json

Needs the graph's outs up to `consistency` (`dvc repro consistency judge`). Four forms: as params.yaml sets it, as published
(the set `published` of profiles/ablations.yaml), and each of them without the penalty. Writes `results/collapse.json`, each
run as it ends, and `docs/images/collapse.png`; `--forms` runs some of them, also side by side, and keeps what the file has of the
others. `--start` takes another student than models/consistency, such as that of an experiment (`dvc get . models/consistency
--rev NAME --out FOLDER`); `--start-name` says in the file what it is. Collapse is read off samples of the dev split's captions
by the shortest EMA, not the losses: attribute accuracy, Fréchet distance, diversity and motion as shares of the real
clips', beside the discriminator's loss. The guard of params.yaml does not roll back here, and what it would have done
first is kept.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from onestep.cli.params import load_params
from onestep.core.failures import one_sentence
from onestep.core.storage import read_json, write_json
from onestep.core.yaml_files import read_yaml
from onestep.evaluation.dev_evaluator import dev_measure
from onestep.evaluation.fidelity import read_margins
from onestep.training.accelerator import make_accelerator
from onestep.training.adversarial import Adversarial
from onestep.training.adversarial_settings import AdversarialSettings
from onestep.training.batches import Batches, seeded
from onestep.training.callbacks.best_checkpoint import BestCheckpoint
from onestep.training.callbacks.collapse_guard import below_floor, collapse
from onestep.training.measurement import Evaluation
from onestep.training.stage import load_for_training, open_stage

RESULT, PICTURE = Path("results/collapse.json"), Path("docs/images/collapse.png")
FORMS = ("as set", "as set, no penalty", "as published", "as published, no penalty")
NO_PENALTY = {"r1": 0.0, "r2": 0.0}


def settings_of(form: str) -> AdversarialSettings:
    """The settings of one form."""
    changes: dict[str, Any] = {}
    if form.startswith("as published"):
        sets = read_yaml(Path("profiles/ablations.yaml"))["sets"]
        changes |= sets["published"]["settings"]["adversarial"]
    if form.endswith("no penalty"):
        changes |= NO_PENALTY
    return load_params(Path("params.yaml")).adversarial.model_copy(update=changes)


def train(start: Path, settings: AdversarialSettings, updates: int, every: int) -> dict[str, Any]:
    """The curve of one run from the student in `start`, losses as means of the guard's window, and what it said first."""
    settings = settings.model_copy(update={"updates": updates, "ema": settings.ema[:1]})
    base = Path("models/base")
    opened = open_stage("adversarial", Path("data/latents"), {"base": base}, settings, Path(tempfile.mkdtemp()))
    accelerator = make_accelerator(settings.precision, settings.accumulate)
    student, teacher = load_for_training(start, accelerator), load_for_training(base, accelerator)
    captions = opened.training.text(sorted(set(opened.training.rows.caption)))
    preview = opened.preview(student, seeded("collapse"))
    method = Adversarial(student, teacher, settings, accelerator, preview, captions)
    batches = Batches(opened.training, settings.batch, accelerator, settings.seed)
    clips, judge = Path("data/clips"), Path("models/judge")
    margins = read_margins(Path("data/margins.json"))
    measure = dev_measure(student, opened.dev, clips, judge, settings.evaluate_clips, settings.seed, margins)
    best = BestCheckpoint(settings.select, settings.certainty, settings.guard.floor)
    curve: list[dict[str, Any]] = []
    history: list[dict[str, float]] = []
    guard: dict[str, Any] | None = None
    for step in range(updates + 1):
        if step % every == 0:
            ((name, sampler),) = method.samplers().items()
            evaluation = Evaluation(step, name, measure(sampler))
            best.consider(evaluation)
            reason = below_floor(evaluation.measured.metrics, settings.guard.floor)
            curve.append(best.evaluations[-1] | {"update": step} | means(history[-settings.guard.window :]))
            print(curve[-1], flush=True)
            guard = guard or ({"update": step, "reason": reason} if reason else None)
        if step < updates:
            history.append(method.update(step, batches))
            reason = collapse(history, 0, settings.guard)
            guard = guard or ({"update": step + 1, "reason": reason} if reason else None)
    return {"curve": curve, "guard": guard}


def means(history: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each number over these updates."""
    keys = {key for numbers in history for key in numbers}
    return {key: fmean(numbers[key] for numbers in history if key in numbers) for key in sorted(keys)}


def plot(runs: dict[str, dict[str, Any]], path: Path) -> None:
    """The curves side by side, with a line where the guard would have stepped in."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    keys = ("frechet_video_distance", "attribute_accuracy", "diversity", "motion", "discriminator_loss", "logit_gap")
    figure, axes = plt.subplots(1, len(keys), figsize=(20, 3.8), constrained_layout=True)
    for axis, key in zip(axes, keys, strict=True):
        for name, found in runs.items():
            points = [(p["update"], p[key]) for p in found["curve"] if key in p]
            (line,) = axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
            if found["guard"]:
                axis.axvline(found["guard"]["update"], color=line.get_color(), linestyle=":", label="guard")
        axis.set_title(key.replace("_", " ") + (" (share of real)" if key in ("diversity", "motion") else ""))
        axis.set_xlabel("update")
        axis.grid(alpha=0.3)
    axes[0].set_ylim(bottom=0.0)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(runs))
    path.parent.mkdir(parents=True, exist_ok=True)
    # without the library's version in it, the same numbers give the same file
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--every", type=int, default=25, help="updates between two evaluations of samples")
    parser.add_argument(
        "--start", type=Path, default=Path("models/consistency"), help="folder of the student to start from"
    )
    parser.add_argument("--start-name", help="what it is, for the names of the runs")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--generator-factor", type=float, default=1.0, help="on the generator's learning rate")
    parser.add_argument("--discriminator-factor", type=float, default=1.0, help="on the discriminator's learning rate")
    parser.add_argument("--threads", type=int, help="instead of machine.threads of params.yaml")
    parser.add_argument("--report", action="store_true", help="run nothing, draw what the file has")
    options = parser.parse_args()
    if options.report:
        plot(read_json(RESULT), PICTURE)
        return
    torch.set_num_threads(options.threads or load_params(Path("params.yaml")).machine.threads)
    factors = {"generator": options.generator_factor, "discriminator": options.discriminator_factor}
    other_rates = [f"{who} x {factor:g}" for who, factor in factors.items() if factor != 1]
    for form in options.forms:
        name = ", ".join([form, *filter(None, [options.start_name]), *other_rates])
        print(name)
        settings = settings_of(form)
        rates = {f"{who}_lr": factor * getattr(settings, f"{who}_lr") for who, factor in factors.items()}
        run = train(options.start, settings.model_copy(update=rates), options.updates, options.every)
        # read only now: another process may have written meanwhile
        runs = (read_json(RESULT) if RESULT.is_file() else {}) | {name: run}
        write_json(RESULT, runs)
        plot(runs, PICTURE)
    runs = read_json(RESULT)
    for name, found in runs.items():
        last = found["curve"][-1]
        print(f"{name}: Fréchet video distance {last['frechet_video_distance']:.2f}, guard {found['guard']}")


if __name__ == "__main__":
    with one_sentence("collapse", sys.argv[1:]):
        main()
