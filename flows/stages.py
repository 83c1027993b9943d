"""The stages of the graph as Prefect tasks: one per stage with work to do, named after it, in the graph's order.

Order, needs and whether there is work are asked of DVC; what the scheduler must know is in the stage's own `meta:`:
`gpu` (takes the leased limit), `retries` (after failures of the machinery only), `limit_s` (seconds, then it is ended),
`environment` (variables that it needs beside those that every stage gets).
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows import supervised
from flows.concurrency import concurrency_slot
from onestep.core.child_environment import for_stage
from onestep.core.paths import CODE, GRAPH
from onestep.core.redaction import SafeError, without_secrets
from onestep.nightly.prefect_server import GPU
from onestep.vcs.graph import PlannedStage
from onestep.vcs.project import Project
from onestep.vcs.rwlock import mend_rwlock

RETRY_DELAY_S = 30
TEMPORARY_FAILURE = 75  # EX_TEMPFAIL of sysexits.h
_EXIT_CODE = re.compile(r"exited with (-?\d+)")
_MACHINERY = re.compile(
    r"CUDA error|NCCL error|[Cc]onnection (reset|refused|aborted|timed out)|[Tt]emporary failure in name resolution|"
    r"Read timed out|Stale file handle|Input/output error"
)


class StageFailed(SafeError):
    """A stage of the graph failed; its own lines are in the task's log. `code`: the command's, where it ended itself."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class MachineryFailed(StageFailed):
    """The stage was killed, or the machine, network or driver under it failed: trying again may help."""


@dataclass(frozen=True)
class StageResult:
    """What one stage did: `ran`, `cached` where DVC had its outputs already, `failed`, or `not run`."""

    stage: str
    status: str
    seconds: float


@dataclass
class StageResults:
    """What every stage of a run did, in the graph's order."""

    planned: list[PlannedStage]
    done: dict[str, StageResult] = field(default_factory=dict)

    def table(self) -> list[dict[str, Any]]:
        """One row per stage."""
        idle = {stage.name: "not run" if stage.affected else "cached" for stage in self.planned}
        rows = [self.done.get(name, StageResult(name, status, 0.0)) for name, status in idle.items()]
        return [{"stage": row.stage, "status": row.status, "seconds": round(row.seconds, 1)} for row in rows]


def run_stages(project: Project, stages: Iterable[PlannedStage], results: StageResults) -> None:
    """Run those of the stages that have work to do, and enter all of them in the results; raises `StageFailed`."""
    for stage in stages:
        if not stage.affected:
            results.done[stage.name] = StageResult(stage.name, "cached", 0.0)
            continue
        started = time.monotonic()
        try:
            results.done[stage.name] = run_stage.with_options(
                name=stage.name, retries=int(stage.meta.get("retries", 0))
            )(
                project,
                stage.name,
                bool(stage.meta.get("gpu")),
                stage.meta.get("limit_s"),
                stage.meta.get("environment"),
            )
        except BaseException:
            results.done[stage.name] = StageResult(stage.name, "failed", time.monotonic() - started)
            raise


def _machinery_failed(_task: Any, _run: Any, state: Any) -> bool:
    try:
        state.result()
    except MachineryFailed:
        return True
    except BaseException:
        return False
    return False


@task(
    task_run_name="{stage}",
    cache_policy=NO_CACHE,
    retry_delay_seconds=RETRY_DELAY_S,
    retry_condition_fn=_machinery_failed,
)
def run_stage(
    project: Project, stage: str, gpu: bool = False, limit_s: float | None = None, named: list[str] | None = None
) -> StageResult:
    """Run one stage alone, its output line by line in the log; raises `StageFailed`."""
    log = get_run_logger()
    with concurrency_slot(GPU) if gpu else nullcontext():
        started = time.monotonic()
        skipped = False
        if mended := mend_rwlock(project.root):
            log.warning(mended)
        command = [sys.executable, "-m", "dvc", "repro", "--single-item", stage]
        with closing(live(command, project.root, limit_s, named or ())) as lines:
            for line in lines:
                log.info(line)
                skipped = skipped or line.startswith((f"Stage '{stage}' didn't change", f"Stage '{stage}' is cached"))
    return StageResult(stage, "cached" if skipped else "ran", time.monotonic() - started)


def live(
    command: list[str], cwd: Path, limit_s: float | None = None, named: Iterable[str] = ()
) -> Generator[str, None, None]:
    """Run a command and yield its lines as they come, without secrets; nothing of it outlives this generator, nor this
    process. The code that runs is that of `cwd`, not that of the scheduler. named: variables that it asks for.

    Raises `StageFailed`.
    """
    process = subprocess.Popen(
        [sys.executable, supervised.__file__, *command],
        cwd=cwd,
        env=environment(cwd, named),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    late = threading.Event()

    def end() -> None:
        late.set()
        process.terminate()

    timer = threading.Timer(limit_s, end) if limit_s else None
    last: deque[str] = deque(maxlen=40)
    try:
        if timer:
            timer.daemon = True
            timer.start()
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip():
                last.append(without_secrets(line.rstrip()))
                yield last[-1]
        code = process.wait()
    except BaseException:
        _stop(process)
        raise
    finally:
        if timer:
            timer.cancel()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()
    if late.is_set():
        raise StageFailed(f"{' '.join(command[2:])} was ended: it took longer than its limit of {limit_s:g} s")
    if code:
        raise _failure(" ".join(command[2:]), code, list(last))


def environment(root: Path, named: Iterable[str] = ()) -> dict[str, str]:
    """The environment of a stage: this interpreter's tools, the code of the working copy at `root`, and of this process's
    variables those that every stage may have and those that it names (`meta: {environment: [NAME]}`).

    Raises `StageFailed` where it names one that no stage gets.
    """
    try:
        variables = for_stage(root / CODE, named)
    except (ValueError, TypeError) as error:
        raise StageFailed(f"{GRAPH}: meta.environment of a stage: {error}") from error
    code = os.pathsep.join(filter(None, (variables["PYTHONPATH"], os.environ.get("PYTHONPATH"))))
    return {**variables, "PYTHONPATH": code, "PYTHONUNBUFFERED": "1"}


def _failure(what: str, code: int, last: list[str]) -> StageFailed:
    """Which kind of failure it was, by the exit code that DVC reports of its stage, and by its last lines."""
    text = "\n".join(last)
    codes = [int(found) for found in _EXIT_CODE.findall(text)] or [code]
    said = next((line for line in reversed(last) if not line.startswith("ERROR: failed to reproduce")), "nothing")
    kind = StageFailed
    killed = codes[-1] < 0 or 128 < codes[-1] < 255
    if killed or codes[-1] == TEMPORARY_FAILURE or _MACHINERY.search(text):
        kind = MachineryFailed
    return kind(f"{what} ended with exit code {codes[-1]}; its last line: {said}", code)


def _stop(process: "subprocess.Popen[str]") -> None:
    """Let the supervisor end everything politely; then the whole group, whatever it is doing."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(supervised.GRACE_S + 2)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
