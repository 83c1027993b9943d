"""The machine that a record is written on: what is installed, the hardware, the thread counts."""

import os
import platform
import re
from collections.abc import Mapping
from typing import Any

from onestep.core.machine import cpu_name, gpu_names
from onestep.core.paths import CONSTRAINTS
from onestep.provenance.record import Environment, Hardware

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def installed() -> dict[str, str]:
    """Every installed distribution's version by its normalised name."""
    from importlib.metadata import distributions

    found = {dist.metadata["Name"]: dist.version for dist in distributions() if dist.metadata["Name"]}
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in sorted(found.items())}


def recorded_environment(in_git: Mapping[str, str]) -> Environment:
    """The interpreter, the lock as git keeps it (`in_git`: sha256 by path), and everything that is installed."""
    return Environment(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        lock=CONSTRAINTS,
        lock_sha256=in_git.get(CONSTRAINTS),
        packages=installed(),
    )


def hardware() -> Hardware:
    """Processor, memory and GPUs, as far as the system tells."""
    import psutil

    return Hardware(
        cpu=cpu_name(), cores=os.cpu_count() or 1, memory_bytes=psutil.virtual_memory().total, gpus=gpu_names()
    )


def threads(params: Mapping[str, Any]) -> dict[str, int | str]:
    """The thread counts that the stages were told, and those of the environment."""
    told: dict[str, int | str] = {}
    for groups in params.values():
        machine = groups.get("machine")
        if isinstance(machine, Mapping) and "threads" in machine:
            told["machine.threads"] = machine["threads"]
    return told | {name: os.environ[name] for name in THREADS if name in os.environ}
