"""Does the adversarial stage collapse without its penalty, and does the guard say so? Trains twice from the same start.

    python benchmarks/collapse.py --updates 120

Needs the graph's outs up to `consistency` (`dvc repro consistency judge`). Writes `docs/collapse.json` and
`docs/images/collapse.png`. Collapse is read off samples of the dev split's captions, not the losses: attribute accuracy,
Fréchet distance, diversity and motion as shares of the real clips', beside the discriminator's loss. The guard of
params.yaml looks on without rolling back, and what it would have done first is kept.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch

from onestep.config import load_params
from onestep.evaluation.development import development_measure
from onestep.models.pipeline import load_pipeline
from onestep.storage import write_json
from onestep.training.adversarial import Adversarial
from onestep.training.loop import Batches, make_accelerator, seeded
from onestep.training.stage import open_stage
from onestep.training.watch import Watch


def train(strength: float, updates: int, every: int) -> dict[str, Any]:
    """The curve of one run, and what the guard said first."""
    params = load_params(Path("params.yaml"))
    torch.set_num_threads(params.machine.threads)
    settings = params.adversarial.model_copy(update={"r1": strength, "r2": strength, "updates": updates})
    base = Path("models/base")
    opened = open_stage("adversarial", Path("data/latents"), {"base": base}, settings, Path(tempfile.mkdtemp()))
    accelerator = make_accelerator(settings.precision, settings.accumulate)
    student = load_pipeline(Path("models/consistency"))
    captions = opened.training.text(sorted(set(opened.training.rows.caption)))
    preview = opened.preview(student, seeded("collapse"))
    method = Adversarial(student, load_pipeline(base), settings, accelerator, preview, captions)
    batches = Batches(opened.training, settings.batch, accelerator, settings.seed)
    clips, judge = Path("data/clips"), Path("models/judge")
    measure = development_measure(student, opened.dev, clips, judge, settings.evaluate_clips, settings.seed)
    watch = Watch(measure, every, settings.select, settings.guard)
    name = next(iter(method.averages))
    curve: list[dict[str, Any]] = []
    history: list[dict[str, float]] = []
    guard: dict[str, Any] | None = None
    for step in range(updates + 1):
        if step % every == 0:
            _, reason = watch.look(step, method)
            looked = next(look for look in watch.looks if look["step"] == step and look["average"] == name)
            curve.append(looked | {"update": step} | (history[-1] if history else {}))
            print(strength, curve[-1], flush=True)
            guard = guard or ({"update": step, "reason": reason} if reason else None)
        if step < updates:
            history.append(method.update(step, batches))
            reason = watch.trouble(history)
            guard = guard or ({"update": step + 1, "reason": reason} if reason else None)
    return {"curve": curve, "guard": guard}


def plot(runs: dict[str, dict[str, Any]], path: Path) -> None:
    """The curves side by side, with a line where the guard would have stepped in."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    keys = ("frechet_video_distance", "attribute_accuracy", "diversity", "motion", "discriminator_loss", "logit_gap")
    figure, axes = plt.subplots(1, len(keys), figsize=(20, 3.2), constrained_layout=True)
    for axis, key in zip(axes, keys, strict=True):
        for name, found in runs.items():
            points = [(p["update"], p[key]) for p in found["curve"] if key in p]
            (line,) = axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
            if found["guard"]:
                axis.axvline(found["guard"]["update"], color=line.get_color(), linestyle=":", label="guard")
        axis.set_title(key.replace("_", " ") + (" (share of real)" if key in ("diversity", "motion") else ""))
        axis.set_xlabel("update")
        axis.grid(alpha=0.3)
    axes[0].set_yscale("symlog")
    axes[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=120)
    parser.add_argument("--every", type=int, default=20, help="updates between two looks at the samples")
    options = parser.parse_args()
    strength = load_params(Path("params.yaml")).adversarial.r1
    runs = {
        f"penalty {strength:g}": train(strength, options.updates, options.every),
        "no penalty": train(0.0, options.updates, options.every),
    }
    write_json(Path("docs/collapse.json"), runs)
    plot(runs, Path("docs/images/collapse.png"))
    kept, lost = (found["curve"][-1] for found in runs.values())
    for name, found in runs.items():
        print(f"{name}: guard {found['guard']}")
    ratio = lost["frechet_video_distance"] / kept["frechet_video_distance"]
    print(f"Fréchet video distance without the penalty over with it: ratio {ratio:.1f}")


if __name__ == "__main__":
    main()
