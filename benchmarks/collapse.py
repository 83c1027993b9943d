"""Does the adversarial stage collapse without its penalty? Trains twice from the same start and plots both.

    python benchmarks/collapse.py --updates 300

Needs the graph's outs up to `consistency` (`dvc repro consistency`). Writes `docs/collapse.json` and
`docs/images/collapse.png`. Collapse is read off the samples, not the losses: diversity and motion of one-step clips of
fixed captions as shares of the real clips', beside the discriminator's loss.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from onestep.config import load_params
from onestep.data.clips import load_frames
from onestep.evaluation.judge import load_judge
from onestep.evaluation.metrics import motion
from onestep.models.pipeline import load_pipeline
from onestep.storage import write_json
from onestep.training import adversarial as stage
from onestep.training.loop import Batches, make_accelerator, seeded
from onestep.training.stage import open_stage

CLIPS = 96


def spread(features: np.ndarray) -> float:
    """Mean distance between the features of two clips."""
    distances = np.linalg.norm(features[:, None] - features[None], axis=2)
    return float(distances[np.triu_indices(len(features), 1)].mean())


def train(strength: float, updates: int, every: int) -> list[dict[str, float]]:
    params = load_params(Path("params.yaml"))
    torch.set_num_threads(params.machine.threads)
    settings = params.adversarial.model_copy(update={"r1": strength, "r2": strength, "updates": updates})
    base, latents = Path("models/base"), Path("data/latents")
    opened = open_stage("adversarial", latents, {"base": base}, settings, Path(tempfile.mkdtemp()))
    accelerator = make_accelerator(settings.precision, settings.accumulate)
    student = load_pipeline(Path("models/consistency"))
    rows = opened.dev.rows.head(CLIPS)
    text = opened.dev.text(rows.caption.tolist())
    noise = torch.randn((len(rows), *opened.training.record["latent_shape"]), generator=seeded("collapse"))
    method = stage.Adversarial(student, load_pipeline(base), settings, accelerator, (noise, text))
    batches = Batches(opened.training, settings.batch, accelerator, settings.seed)
    judge = load_judge(Path("models/judge"))
    real = load_frames(Path("data/clips"), rows.clip_id.tolist())
    real_spread, real_motion = spread(judge.features(real)), float(motion(real).mean())
    curve: list[dict[str, float]] = []
    numbers: dict[str, float] = {}
    for step in range(updates + 1):
        if step % every == 0:
            clips = student.decode_video(method.preview())
            entry = {
                "update": step,
                "diversity": spread(judge.features(clips)) / real_spread,
                "motion": float(motion(clips).mean()) / real_motion,
            }
            curve.append(entry | numbers)
            print(strength, curve[-1], flush=True)
        if step < updates:
            numbers = method.update(step, batches)
    return curve


def plot(curves: dict[str, list[dict[str, float]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), constrained_layout=True)
    for axis, key in zip(axes, ("diversity", "motion", "discriminator_loss"), strict=True):
        for name, curve in curves.items():
            points = [(p["update"], p[key]) for p in curve if key in p]
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
        axis.set_title(key.replace("_", " ") + (" (share of real)" if key in ("diversity", "motion") else ""))
        axis.set_xlabel("update")
        axis.grid(alpha=0.3)
    axes[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--every", type=int, default=25, help="updates between two looks at the samples")
    options = parser.parse_args()
    strength = load_params(Path("params.yaml")).adversarial.r1
    curves = {
        f"penalty {strength:g}": train(strength, options.updates, options.every),
        "no penalty": train(0.0, options.updates, options.every),
    }
    write_json(Path("docs/collapse.json"), curves)
    plot(curves, Path("docs/images/collapse.png"))
    last = {name: curve[-1] for name, curve in curves.items()}
    kept, lost = last[f"penalty {strength:g}"], last["no penalty"]
    print(f"diversity without the penalty over with it: ratio {lost['diversity'] / kept['diversity']:.3f}")


if __name__ == "__main__":
    main()
