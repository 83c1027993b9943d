"""The environment that a run was made in: how this one differs from it, and how to build it again."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from onestep.core.child_environment import for_child
from onestep.core.redaction import SafeError
from onestep.provenance.machine import installed
from onestep.provenance.record import Environment

OWN = "onestep"
_LIST = (
    "import json, platform, re; from importlib.metadata import distributions; "
    "print(json.dumps([platform.python_version(), {re.sub(r'[-_.]+', '-', d.metadata['Name']).lower(): d.version "
    "for d in distributions() if d.metadata['Name']}]))"
)


class EnvironmentFailed(SafeError):
    """An environment could not be built; the message holds what pip said."""


def differences(recorded: Environment, python: Path | None = None) -> list[str]:
    """What differs between the recorded environment and that of an interpreter (this one by default), one phrase each."""
    version, packages = (platform.python_version(), installed()) if python is None else _ask(python)
    found = [] if version == recorded.python else [f"python {recorded.python} → {version}"]
    system = f"{platform.system()} {platform.machine()}"
    found += [] if system == recorded.platform else [f"platform {recorded.platform} → {system}"]
    for name in sorted({*recorded.packages, *packages} - {OWN}):
        before, after = recorded.packages.get(name), packages.get(name)
        if before != after:
            found.append(f"{name} {before or 'absent'} → {after or 'absent'}")
    return found


def requirements(packages: Mapping[str, str]) -> str:
    """The recorded versions for pip, complete, so that nothing is left to resolve.

    A local label (`2.13.0+cpu`) names a build that an index may not offer: any build of that version is asked for, and
    `differences` reports what came instead.
    """
    return "".join(
        f"{name}=={version.partition('+')[0]}\n" for name, version in sorted(packages.items()) if name != OWN
    )


def build(recorded: Environment, folder: Path, project: Path | None) -> Path:
    """A virtual environment with the recorded versions and, where there is one, the project; its interpreter.

    What comes with every new environment and was not in the recorded one is taken out again. Raises
    `EnvironmentFailed`, for instance where an index no longer has a version.
    """
    python = folder / "bin" / "python"
    wanted = folder.with_name(f"{folder.name}.requirements.txt")
    wanted.write_text(requirements(recorded.packages))
    _run([sys.executable, "-m", "venv", str(folder)])
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    if wanted.stat().st_size:
        _run([*install, "--requirement", str(wanted)])
    if project is not None and (project / "pyproject.toml").is_file():
        _run([*install, "--editable", str(project)])
    extra = sorted({*_ask(python)[1]} - {*recorded.packages, OWN})
    if extra:
        _run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *extra])
    return python


def _ask(python: Path) -> tuple[str, dict[str, str]]:
    version, packages = json.loads(_run([str(python), "-I", "-c", _LIST]))
    return version, packages


def _run(command: list[str]) -> str:
    pip = [name for name in os.environ if name.startswith("PIP_")]
    done = subprocess.run(command, env=for_child(pip), capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise EnvironmentFailed(f"{' '.join(command[:4])} failed: {said[-1] if said else done.returncode}")
    return done.stdout
