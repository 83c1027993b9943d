"""The machine that a process runs on, as far as the time that something takes depends on it."""

import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEYS = ("cpu", "cores", "gpus", "threads")
_ASKED = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")
_LIMIT_S = 20


def this_machine(threads: int) -> dict[str, Any]:
    """`{"cpu": model, "cores": count, "gpus": names, "threads": those of a stage}`; equal machines have equal ones."""
    return dict(zip(KEYS, (cpu_name(), os.cpu_count() or 1, gpu_names(), threads), strict=True))


def described(machine: Mapping[str, Any]) -> str:
    """A machine in a few words, for messages."""
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    return f"{machine['cpu']}, {machine['cores']} cores, {gpus}, {machine['threads']} threads"


def cpu_name() -> str:
    """The processor's model, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def gpu_names() -> list[str]:
    """Name and memory of each NVIDIA GPU; none where the driver does not answer."""
    try:
        done = subprocess.run(_ASKED, capture_output=True, text=True, check=False, timeout=_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []
