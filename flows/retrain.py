"""Retrain on demand: run the stages that have work to do, publish the verdict, and promote what may be promoted.

What depends on what is `dvc.yaml`'s business alone: the stages, their order and whether they have work to do are
asked of DVC. Everything here works the same by hand: `dvc repro`, then `onestep promote`.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from onestep.registry.gates import as_markdown, read_verdict
from onestep.registry.graph import plan
from onestep.registry.promotion import AlreadyChampion, PromotionRefused, merge, promote

STOP_TIMEOUT_S = 10


class StageFailed(RuntimeError):
    """A stage of the graph failed; its own lines are in the task's log."""


@dataclass(frozen=True)
class StageRun:
    """What one stage did: `ran`, or `cached` where DVC had its outputs already."""

    stage: str
    status: str
    seconds: float


@flow(name="retrain", log_prints=False)
def retrain(root: str = ".", allow_promotion: bool = False) -> str:
    """Bring the graph at `root` up to date and return what came of it: the verdict, or the version promoted."""
    project = Path(root).resolve()
    runs: list[StageRun] = []
    try:
        for stage in plan(project):
            if stage.affected:
                runs.append(run_stage.with_options(name=stage.name)(project, stage.name))
            else:
                runs.append(StageRun(stage.name, "cached", 0.0))
    finally:
        publish_stages(runs)
    verdict = publish_verdict(project)
    if verdict == "promote" and allow_promotion:
        return promote_candidate(project)
    return verdict


@task(task_run_name="{stage}")
def run_stage(root: Path, stage: str) -> StageRun:
    """Run one stage alone, its output line by line in the log; raises `StageFailed`."""
    started = time.monotonic()
    skipped = False
    with closing(live([sys.executable, "-m", "dvc", "repro", "--single-item", stage], root)) as lines:
        for line in lines:
            get_run_logger().info(line)
            skipped = skipped or line.startswith((f"Stage '{stage}' didn't change", f"Stage '{stage}' is cached"))
    return StageRun(stage, "cached" if skipped else "ran", time.monotonic() - started)


@task
def promote_candidate(root: Path) -> str:
    """Promote the candidate and fast-forward the branch to its record; what stands in the way delays only the merge."""
    try:
        done = promote(root)
    except AlreadyChampion as known:
        get_run_logger().info(str(known))
        return str(known)
    get_run_logger().info(f"{done.version_tag} is in production ({done.stage_tag}), recorded on {done.branch}")
    try:
        merge(root, done.branch)
    except PromotionRefused as conflict:
        get_run_logger().warning(f"promoted, but not merged yet: {conflict}")
    return f"promoted {done.version_tag}"


def publish_stages(runs: list[StageRun]) -> None:
    """The stage table: what ran, what was cached, how long it took."""
    create_table_artifact(
        key="stages",
        table=[{"stage": run.stage, "status": run.status, "seconds": round(run.seconds, 1)} for run in runs],
        description="Stages in the graph's order",
    )


def publish_verdict(root: Path) -> str:
    """The gate's verdict as a page, and in one word."""
    verdict = read_verdict(root)
    create_markdown_artifact(key="verdict", markdown=as_markdown(verdict), description=verdict["reason"])
    return str(verdict["verdict"])


def live(command: list[str], cwd: Path) -> Generator[str, None, None]:
    """Run a command in a process group of its own and yield its lines as they come; nothing outlives this function."""
    search = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, "PATH": search, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip():
                yield line.rstrip()
        code = process.wait()
    except BaseException:
        _stop(process)
        raise
    if code:
        raise StageFailed(f"{' '.join(command[2:])} ended with exit code {code}: its last lines in this log say why")


def _stop(process: "subprocess.Popen[str]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    retrain()
