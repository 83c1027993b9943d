"""Does the adversarial stage collapse without its penalty? Trains twice from the same start and plots both.

    python benchmarks/collapse.py --updates 300

Needs the graph's outs up to `consistency` (`dvc repro consistency`). Writes `docs/collapse.json` and
`docs/images/collapse.png`. Collapse is read off the samples, not the losses: of one-step clips of fixed captions the
attribute accuracy, the Fréchet distance to real clips of the same captions, and diversity and motion as shares of the
real clips', beside the discriminator's loss.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from onestep.config import load_params
from onestep.data.clips import load_frames, read_index
from onestep.evaluation.distances import Moments, frechet
from onestep.evaluation.judge import Assessment, load_judge
from onestep.evaluation.metrics import attribute_hits, motion
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


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """The Fréchet distance of two sets of features `[N, D]`."""
    one, other = (Moments(features[:, None]).fit(np.ones((1, len(features)))) for features in (a, b))
    return float(frechet(one, other)[0])


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
    real_features = judge.features(real)
    real_spread, real_motion = spread(real_features), float(motion(real).mean())
    asked = read_index(Path("data/clips")).set_index("clip_id").loc[rows.clip_id]
    words = {name: asked[name].tolist() for name in judge.vocabulary}

    def accuracy(seen: Assessment) -> float:
        return float(np.mean(list(attribute_hits(seen.attributes, words, judge.vocabulary).values())))

    curve: list[dict[str, float]] = []
    numbers: dict[str, float] = {}
    for step in range(updates + 1):
        if step % every == 0:
            clips = student.decode_video(method.preview())
            seen = judge.assess(clips)
            entry = {
                "update": step,
                "accuracy": accuracy(seen),
                "frechet_distance": distance(seen.features, real_features),
                "diversity": spread(seen.features) / real_spread,
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

    keys = ("frechet_distance", "accuracy", "diversity", "motion", "discriminator_loss")
    figure, axes = plt.subplots(1, len(keys), figsize=(17, 3.2), constrained_layout=True)
    for axis, key in zip(axes, keys, strict=True):
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
