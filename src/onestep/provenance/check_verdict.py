"""Does the verdict come out again? The gate's own command, at the run's commit, on the pinned files."""

import hashlib
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from onestep.core.child_environment import for_stage
from onestep.core.machine import described
from onestep.core.paths import CODE, LATENCY, LOCK, MACHINE
from onestep.core.storage import read_mapping, write_json
from onestep.core.yaml_files import parse_yaml
from onestep.provenance.check import CheckContext, CheckFailed
from onestep.provenance.record import StageRecord
from onestep.vcs import blobs

TIMEOUT_S = 600


def verdict_comes_out_again(context: CheckContext) -> str:
    """The stage that made the verdict makes the same bytes again, by its recorded command and its recorded inputs.

    It runs the code of the run's commit, in a folder of its own; what its stages depend on has been checked by then.
    """
    record = context.record
    stage = record.producer(record.verdict.path)
    if stage is None or stage.cmd is None:
        raise CheckFailed(f"no stage makes {record.verdict.path}, so it cannot be computed again")
    command = _locked_command(context, stage.name) or stage.cmd
    with tempfile.TemporaryDirectory(prefix="onestep-verdict-") as name:
        folder = Path(name)
        export(context, folder)
        for dep in stage.deps:
            if dep.kept == "dvc" and dep.md5 is not None:
                context.objects.fetch(dep.md5, folder / dep.path)
        name_the_machine(stage, folder)
        made = folder / record.verdict.path
        made.unlink(missing_ok=True)
        done = subprocess.run(
            command,
            shell=True,
            cwd=folder,
            env=audited_environment(folder / CODE),
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
        if done.returncode or not made.is_file():
            said = (done.stderr or done.stdout).strip().splitlines()
            raise CheckFailed(f"{stage.cmd!r} at the run's commit failed: {said[-1] if said else done.returncode}")
        found = hashlib.sha256(made.read_bytes()).hexdigest()
    if found != record.verdict.sha256:
        raise CheckFailed(f"computed again, {record.verdict.path} has sha256 {found}, not {record.verdict.sha256}")
    return f"{record.verdict.verdict}, computed again from {len(stage.deps)} files"


def _locked_command(context: CheckContext, stage: str) -> str | None:
    """The command as `dvc.lock` has it, which is that of the record but for what a record leaves out."""
    lock = parse_yaml(context.project.git.read(context.record.run_commit, LOCK), LOCK)["stages"]
    command = lock.get(stage, {}).get("cmd")
    return " && ".join(command) if isinstance(command, list) else command


def export(context: CheckContext, folder: Path) -> None:
    """The files that git keeps of the run, as they were, and all of its code.

    Stages depend on what they import and not on a package's `__init__.py` or the command line; without these the package
    that is installed here would be imported in the run's place.
    """
    tracked = blobs.tracked(context.project.git, context.record.run_commit, [*context.record.in_git, CODE])
    contents = blobs.contents(context.project.git, tracked.values())
    for path, blob in tracked.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(contents[blob])


def name_the_machine(stage: StageRecord, folder: Path) -> None:
    """Write the file that names the run's machine, where the gate reads one: it never left that machine.

    The timings carry its content, and its md5 in the record says whether they are of the machine of the run.
    """
    dep = next((dep for dep in stage.deps if dep.path == MACHINE), None)
    if dep is None or (folder / MACHINE).exists():
        return
    timed = read_mapping(folder / LATENCY, machine=dict)["machine"]
    write_json(folder / MACHINE, timed)
    found = hashlib.md5((folder / MACHINE).read_bytes(), usedforsecurity=False).hexdigest()
    if found != dep.md5:
        raise CheckFailed(f"{LATENCY} was measured on {described(timed)}, which is not the machine of the run")


def audited_environment(code: Path, named: Iterable[str] = (), python: Path | None = None) -> dict[str, str]:
    """The environment of a stage that is run again for an audit, which leaves nothing beside its outputs."""
    return {**for_stage(code, named, python), "PYTHONDONTWRITEBYTECODE": "1", "DVC_NO_ANALYTICS": "1"}
