"""How threads wait: a training step of two OpenMP threads that spin while they wait, and of two that sleep, in turn.

`python benchmarks/waiting.py` writes `docs/waiting.json`: seconds of each, idle and beside as many busy processes as
there are cores, and the ratio spinning / sleeping pair by pair (above 1: sleeping is faster). The model's bits are compared.
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

OUT = Path("docs/waiting.json")
POLICIES = {"spinning": "ACTIVE", "sleeping": "PASSIVE"}
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


def timed(policy: str, steps: int) -> tuple[float, str]:
    """Seconds of so many training steps, and the sha256 of the model after them."""
    environment = os.environ | {"OMP_WAIT_POLICY": policy}
    done = subprocess.run(
        [sys.executable, "-c", STEP.replace("STEPS", str(steps))],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, sha256 = done.stdout.split()
    return float(seconds), sha256


def measure(pairs: int, steps: int, load: int) -> dict[str, object]:
    """Both policies in turn, beside `load` busy processes."""
    seconds: dict[str, list[float]] = {name: [] for name in POLICIES}
    models = set()
    with busy(load):
        for _ in range(pairs):
            for name, policy in POLICIES.items():
                took, sha256 = timed(policy, steps)
                seconds[name].append(round(took, 3))
                models.add(sha256)
    if len(models) != 1:
        raise SystemExit("the model's bits depend on how its threads wait")
    ratios = [round(a / b, 2) for a, b in zip(*seconds.values(), strict=True)]
    return {"seconds": seconds, "ratios": ratios, "median_ratio": statistics.median(ratios)}


def main() -> None:
    """Measure, print the ratios and write them down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5, help="times that both are timed in turn")
    parser.add_argument("--steps", type=int, default=40, help="training steps in each")
    parser.add_argument("--out", type=Path, default=OUT)
    chosen = parser.parse_args()
    cores = os.cpu_count() or 1
    found = {name: measure(chosen.pairs, chosen.steps, load) for name, load in (("idle", 0), ("loaded", cores))}
    for name, result in found.items():
        print(f"{name:<8} spinning / sleeping {result['median_ratio']} {result['ratios']}")
    chosen.out.write_text(json.dumps({"cores": cores, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
