"""Promotions that are killed, each in a process of its own that a server forks with everything imported already."""

import multiprocessing
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from onestep.registry.promotion import promote
from onestep.registry.repository import RefUpdate, Repository

PRELOADED = ["dvc.repo", "dvc.repo.reproduce", "gto.tag", "tests.registry.killed"]


def promote_and_die(root: Path, survivors: int | None = None) -> None:
    """Promote in another process, which must die of `kill -9`.

    survivors: kill it after so many refs have moved; null = somebody else kills it, with all that it started.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_promote, args=(root, survivors))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def _promote(root: Path, survivors: int | None) -> None:
    os.setsid()  # a kill of its group is no kill of the tests
    os.chdir(root)
    if survivors is not None:
        _kill_after(survivors)
    promote(Path())


def _kill_after(survivors: int) -> None:
    update = Repository.update

    def killed(self: Repository, updates: Sequence[RefUpdate]) -> None:
        update(self, updates[:survivors])
        os.kill(os.getpid(), signal.SIGKILL)

    Repository.update = killed  # type: ignore[method-assign]
