"""Promotions in processes of their own, forked by a server that has everything imported: to be killed, or all at once."""

import multiprocessing
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onestep.registry.promotion import promote
from onestep.vcs.git import RefUpdate, Repository
from onestep.vcs.project import Project

PRELOADED = ["dvc.repo", "dvc.repo.reproduce", "gto.tag", "tests.processes"]


def promote_and_die(root: Path, survivors: int | None = None) -> None:
    """Promote in another process, which must die of `kill -9`.

    survivors: kill it after so many refs have moved; null = the test kills it, with all that it started.
    """
    process = _context().Process(target=_promote, args=(root, survivors))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def promote_at_once(root: Path, times: int) -> list[str]:
    """Promote the same run from as many processes, which all wait for the last to be ready; what each was told."""
    context = _context()
    ready, said = context.Barrier(times), context.Queue()
    processes = [context.Process(target=_promote_and_say, args=(root, ready, said)) for _ in range(times)]
    for process in processes:
        process.start()
    found = [said.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    return found


def _context() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _promote_and_say(root: Path, ready: Any, said: Any) -> None:
    os.chdir(root)
    ready.wait()
    try:
        said.put(f"promoted {promote(Project(Path())).stage_tag}")
    except Exception as error:
        said.put(f"{type(error).__name__}: {error}")


def _promote(root: Path, survivors: int | None) -> None:
    os.setsid()  # a kill of its group is no kill of the tests
    os.chdir(root)
    if survivors is not None:
        _kill_after(survivors)
    promote(Project(Path()))


def _kill_after(survivors: int) -> None:
    update = Repository.update

    def killed(self: Repository, updates: Sequence[RefUpdate]) -> None:
        update(self, updates[:survivors])
        os.kill(os.getpid(), signal.SIGKILL)

    Repository.update = killed  # type: ignore[method-assign]
