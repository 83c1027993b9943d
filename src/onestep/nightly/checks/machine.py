"""The machine and the environment under the project: Python, packages, home, disk, links, GPU."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from onestep.core.paths import CLONES, CONSTRAINTS, LOCK
from onestep.nightly.checks.result import CheckResult, output_of
from onestep.vcs.project import Project

PYTHON = (3, 11)
SPARE_GB = 5.0  # beside three times the data of one run


def python(project: Project) -> Iterator[CheckResult]:
    """Python is new enough, and the packages are those that constraints.txt pins."""
    from importlib.metadata import PackageNotFoundError, version

    has = sys.version_info[:3]
    here = ".".join(map(str, has))
    needs = ".".join(map(str, PYTHON))
    yield CheckResult(
        "python", "ok" if has >= PYTHON else "error", here, f"install Python {needs} or newer; make setup"
    )
    lock = project.root / CONSTRAINTS
    if not lock.is_file():
        yield CheckResult(
            "environment", "warning", f"{lock.name} is not here", "run from the folder that holds dvc.yaml"
        )
        return
    others = []
    for name, pinned in re.findall(r"^([\w.\[\]-]+)==(\S+)", lock.read_text(), flags=re.MULTILINE):
        with suppress(PackageNotFoundError):
            installed = version(name)
            if installed.split("+")[0] != pinned.split("+")[0]:
                others.append(f"{name} {installed} instead of {pinned}")
    shown = "; ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
    yield CheckResult("environment", "error" if others else "ok", shown or "as constraints.txt says", "make setup")


def code(project: Project) -> Iterator[CheckResult]:
    """The code that runs is this checkout's own."""
    from onestep.core.environment import OtherCode, require_own_code

    remedy = "make setup in this checkout, and use its .venv; PYTHONPATH names another checkout where it is set"
    try:
        require_own_code(project.root)
    except OtherCode as error:
        yield CheckResult("code", "error", str(error), remedy)
        return
    yield CheckResult("code", "ok", f"runs from {Path(__file__).resolve().parents[2]}")


def home() -> Iterator[CheckResult]:
    """The user has a home that can be written to."""
    folder = Path.home()
    remedy = (
        "export HOME to a folder of this user's (docker run -e HOME=…): git, DVC and caches keep their settings there"
    )
    if folder.name.startswith("onestep-home-"):
        yield CheckResult(
            "home", "warning", f"this user has no home that can be written to: {folder} serves instead", remedy
        )
    else:
        writable = os.access(folder, os.W_OK)
        yield CheckResult(
            "home", "ok" if writable else "warning", f"{folder}{'' if writable else ' cannot be written to'}", remedy
        )


def disk(project: Project) -> Iterator[CheckResult]:
    """There is room for the data of a run."""
    from onestep.core.yaml_files import read_yaml

    lock = project.root / LOCK
    stages = (read_yaml(lock) or {}).get("stages", {}) if lock.is_file() else {}
    data = sum(out.get("size", 0) for stage in stages.values() for out in stage.get("outs", [])) / 1e9
    needed, free = 3 * data + SPARE_GB, shutil.disk_usage(project.root).free / 1e9
    found = f"{free:.1f} GB free; one run holds {data:.2f} GB, so {needed:.1f} GB is a good reserve"
    remedy = "prefect deployment run clean/clean, or onestep gc, or a larger disk under .dvc/cache"
    yield CheckResult("disk", "ok" if free >= needed else "error", found, remedy)


def links(project: Project) -> Iterator[CheckResult]:
    """Cache and clones share a file system, so that clones cost no space."""
    from onestep.nightly.workspace import cache_folder

    with project.graph() as repo:
        cache = cache_folder(repo)
    runs = project.root / CLONES
    cache.mkdir(parents=True, exist_ok=True)
    runs.mkdir(parents=True, exist_ok=True)
    probe, link = cache / ".onestep-doctor", runs / ".onestep-doctor"
    link.unlink(missing_ok=True)
    try:
        probe.touch()
        link.hardlink_to(probe)
        yield CheckResult("links", "ok", "clones share the cache's files by links")
    except OSError as error:
        remedy = (
            "keep .dvc/cache and .onestep/runs on one file system (dvc cache dir …); until then clones copy their data"
        )
        yield CheckResult("links", "warning", f"no link from cache to clone: {error.strerror}", remedy)
    finally:
        link.unlink(missing_ok=True)
        probe.unlink(missing_ok=True)


def gpu() -> Iterator[CheckResult]:
    """Torch can use the GPU, where there is one."""
    import torch

    if torch.cuda.is_available():
        yield CheckResult("gpu", "ok", f"{torch.cuda.device_count()} × {torch.cuda.get_device_name(0)}")
    elif shutil.which("nvidia-smi") and "GPU" in output_of("nvidia-smi", "-L"):
        remedy = f"pip install 'torch=={torch.__version__.split('+')[0]}' for CUDA: this is the CPU build, or the driver is older"
        yield CheckResult("gpu", "error", f"a GPU is here, but torch {torch.__version__} cannot use it", remedy)
    else:
        yield CheckResult(
            "gpu", "warning", "none: training runs on the CPU", "fine for the bundled model, not for a real one"
        )
