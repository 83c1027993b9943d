"""The machine that a record is written on: what is installed, the hardware, the thread counts."""

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onestep.provenance.record import Environment, Hardware

LOCK = "constraints.txt"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def installed() -> dict[str, str]:
    """Every installed distribution's version by its normalised name."""
    from importlib.metadata import distributions

    found = {dist.metadata["Name"]: dist.version for dist in distributions() if dist.metadata["Name"]}
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in sorted(found.items())}


def environment(in_git: Mapping[str, str]) -> Environment:
    """The interpreter, the lock as git keeps it (`in_git`: sha256 by path), and everything that is installed."""
    return Environment(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        lock=LOCK,
        lock_sha256=in_git.get(LOCK),
        packages=installed(),
    )


def hardware() -> Hardware:
    """Processor, memory and GPUs, as far as the system tells."""
    import psutil

    named = [
        line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.lower().startswith("model name")
    ]
    try:
        asked = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=20)
        gpus = done.stdout.splitlines() if done.returncode == 0 else []
    except (OSError, subprocess.TimeoutExpired):
        gpus = []
    cpu = named[0] if named else platform.processor() or platform.machine()
    return Hardware(cpu=cpu, cores=os.cpu_count() or 1, memory_bytes=psutil.virtual_memory().total, gpus=gpus)


def threads(params: Mapping[str, Any]) -> dict[str, int | str]:
    """The thread counts that the stages were told, and those of the environment."""
    told: dict[str, int | str] = {}
    for groups in params.values():
        machine = groups.get("machine")
        if isinstance(machine, Mapping) and "threads" in machine:
            told["machine.threads"] = machine["threads"]
    return told | {name: os.environ[name] for name in THREADS if name in os.environ}


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
