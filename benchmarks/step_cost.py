"""What an adversarial update costs over the forwards and backwards that its mathematics needs.

    python benchmarks/step_cost.py --repeats 12

Needs the graph's outs up to `consistency` (`dvc repro consistency`). Needed of one update (G and D at the settings of
params.yaml): G forward for D's fakes, D forward and backward on all of its inputs at once, G forward and backward, D
forward and backward to its input, and D on the real clips without gradient (relativistic pairing). Each is timed in turn
with whole updates; medians are compared, since absolute times on a shared machine mean little. What is left over is
optimisers, EMAs, losses, random numbers and data loading, whose share is printed by itself.
"""

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from onestep.cli.params import load_params
from onestep.core.failures import one_sentence
from onestep.training.accelerator import attention, make_accelerator
from onestep.training.adversarial import Adversarial
from onestep.training.batches import Batches, seeded
from onestep.training.stage import load_for_training, open_stage


class TimedBatches(Batches):
    """Batches that know how long they took."""

    spent = 0.0

    def __call__(self, step: int, micro: int, micros: int) -> tuple[Any, ...]:
        """The same, timed."""
        started = time.perf_counter()
        try:
            return super().__call__(step, micro, micros)
        finally:
            self.spent += time.perf_counter() - started


def needed(method: Adversarial, batch: int) -> dict[str, Callable[[], None]]:
    """The forwards and backwards of one update, by name, each to be timed alone."""
    s, generator, discriminator = method.settings, method.modules["generator"], method.modules["discriminator"]
    x = torch.randn(batch, *method._preview[0].shape[1:])
    text = method._preview[1][:1].expand(batch, -1, -1)
    t = torch.rand(batch)
    rows = 2 * batch + ((s.r1 > 0) + (s.r2 > 0)) * math.ceil(s.penalty_share * batch)
    rows += math.ceil(s.contrastive_share * batch) if s.contrastive else 0
    every = torch.arange(rows) % batch
    autocast = method.accelerator.autocast

    def fakes() -> None:
        with torch.no_grad(), attention(x.device), autocast():
            method.generate(generator, x, text)

    def discriminate() -> None:
        discriminator.set_trained(True)
        with attention(x.device):
            with autocast():
                loss = discriminator(x[every], t[every], text[every]).float().mean()
            loss.backward()
        discriminator.zero_grad()

    def generate() -> None:
        with attention(x.device):
            with autocast():
                loss = method.generate(generator, x, text).square().mean()
            loss.backward()
        generator.zero_grad()

    def through() -> None:
        discriminator.set_trained(False)
        leaf = x.clone().requires_grad_(True)
        with attention(x.device):
            with autocast():
                loss = discriminator(leaf, t, text).float().mean()
            loss.backward()

    def real() -> None:
        with torch.no_grad(), attention(x.device), autocast():
            discriminator(x, t, text)

    parts = {"G forward": fakes, "D forward and backward": discriminate, "G forward and backward": generate}
    parts["D forward and backward to its input"] = through
    return parts | ({"D forward on real clips": real} if s.loss == "relativistic" else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=12, help="rounds; each times every part and one whole update")
    options = parser.parse_args()
    params = load_params(Path("params.yaml"))
    torch.set_num_threads(params.machine.threads)
    settings = params.adversarial.model_copy(update={"discriminator_warmup": 0})
    base = Path("models/base")
    stage = open_stage("adversarial", Path("data/latents"), {"base": base}, settings, Path(tempfile.mkdtemp()))
    accelerator = make_accelerator(settings.precision, 1)
    student = load_for_training(Path("models/consistency"), accelerator)
    teacher = load_for_training(base, accelerator)
    preview = stage.preview(student, seeded("step cost"))
    captions = stage.training.text(sorted(set(stage.training.rows.caption)))
    method = Adversarial(student, teacher, settings, accelerator, preview, captions)
    batches = TimedBatches(stage.training, settings.batch, accelerator, settings.seed)
    parts = needed(method, settings.batch)
    times: dict[str, list[float]] = {name: [] for name in (*parts, "update", "loading")}
    for step in range(options.repeats + 2):
        for name, part in parts.items():
            started = time.perf_counter()
            part()
            times[name].append(time.perf_counter() - started)
        batches.spent, started = 0.0, time.perf_counter()
        method.update(step, batches)
        times["update"].append(time.perf_counter() - started)
        times["loading"].append(batches.spent)
    medians = {name: statistics.median(values[2:]) for name, values in times.items()}
    for name, seconds in medians.items():
        print(f"{name:<40} {1000 * seconds:8.1f} ms")
    ratios = [times["update"][i] / sum(times[name][i] for name in parts) for i in range(2, options.repeats + 2)]
    print(f"data loading, share of an update {medians['loading'] / medians['update']:.4f}")
    print(f"ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    with one_sentence("step_cost", sys.argv[1:]):
        main()
