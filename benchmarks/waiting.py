"""How threads wait: training steps of two OpenMP threads that wait in three ways, in turn.

They spin (OpenMP's default), sleep at once (`OMP_WAIT_POLICY=PASSIVE`), or spin briefly and then sleep, as `onestep`
and the Makefile set it (`onestep.core.environment.WAITING`). `python benchmarks/waiting.py` writes `results/waiting.json`:
seconds of each, idle and beside as many busy processes as there are cores, and each way's seconds over those of spinning,
round by round (below 1: faster than spinning). The model's bits are compared.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onestep.core.environment import WAITING

OUT = Path("results/waiting.json")
WAYS = {
    "spinning": {"OMP_WAIT_POLICY": "ACTIVE"},
    "sleeping": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spinning briefly": WAITING,
}
STEP = """
import hashlib, time, torch
torch.set_num_threads(2)
torch.manual_seed(0)
layer = torch.nn.TransformerEncoderLayer(128, 4, 512, batch_first=True)
model = torch.nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
optimizer = torch.optim.AdamW(model.parameters())
x = torch.randn(32, 64, 128)
def step():
    with torch.autocast("cpu", torch.bfloat16):
        loss = (model(x) - x).square().mean()
    loss.backward(); optimizer.step(); optimizer.zero_grad()
step()
start = time.perf_counter()
for _ in range(STEPS):
    step()
seconds = time.perf_counter() - start
bits = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
print(seconds, hashlib.sha256(bits).hexdigest())
"""


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes that compute without end, for as long as the block."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def timed(waiting: dict[str, str], steps: int) -> tuple[float, str]:
    """Seconds of so many training steps, and the sha256 of the model after them."""
    others = {name: value for name, value in os.environ.items() if name not in WAITING}
    done = subprocess.run(
        [sys.executable, "-c", STEP.replace("STEPS", str(steps))],
        env=others | waiting,
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, sha256 = done.stdout.split()
    return float(seconds), sha256


def measure(rounds: int, steps: int, load: int) -> dict[str, Any]:
    """Seconds of every way in turn, beside `load` busy processes, their ratios to spinning, and the sha256 of each model."""
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    models: dict[str, list[str]] = {name: [] for name in WAYS}
    with busy(load):
        for _ in range(rounds):
            for name, waiting in WAYS.items():
                took, sha256 = timed(waiting, steps)
                seconds[name].append(round(took, 3))
                models[name].append(sha256)
    ratios = {
        name: [round(a / b, 2) for a, b in zip(took, seconds["spinning"], strict=True)]
        for name, took in seconds.items()
    }
    medians = {name: statistics.median(found) for name, found in ratios.items()}
    return {"seconds": seconds, "median_ratio": medians, "models": models}


def main() -> None:
    """Measure, print the ratios and write them down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="times that every way is timed in turn")
    parser.add_argument("--steps", type=int, default=40, help="training steps in each")
    parser.add_argument("--out", type=Path, default=OUT)
    chosen = parser.parse_args()
    cores = os.cpu_count() or 1
    found = {name: measure(chosen.rounds, chosen.steps, load) for name, load in (("idle", 0), ("loaded", cores))}
    for name, result in found.items():
        print(f"{name:<8} seconds over those of spinning: {result['median_ratio']}")
    chosen.out.write_text(json.dumps({"cores": cores, **found}, indent=1) + "\n")
    models = {sha256 for result in found.values() for made in result["models"].values() for sha256 in made}
    if len(models) > 1:
        raise SystemExit(
            f"{len(models)} different models came of the same training: {chosen.out} has the sha256 of each"
        )


if __name__ == "__main__":
    main()
