"""Moving the registry's refs together: one transaction at a time, and past what a killed one left behind.

Git takes a lock file per ref; a process that is killed while it holds them leaves them there, and git then refuses every
later move. The process that holds this module's own lock, which the system releases when the process dies, is alone
among promotions, so a lock file that stays belongs to no living process.
"""

import fcntl
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from onestep.vcs.git import GitError, RefUpdate, Repository

LOCK = "onestep-registry.lock"
STALE_S = 5.0  # git holds a ref's lock for milliseconds
PATIENCE_S = 60.0  # and a promotion this module's own for a second or two
_HELD = re.compile(r"Unable to create '([^']+\.lock)': File exists")


class RegistryBusy(RuntimeError):
    """Another promotion holds the registry and does not end; nothing was written."""

    exit_code = 5


def move(repository: Repository, updates: Sequence[RefUpdate]) -> None:
    """Move all refs or none; raises `GitError` where one is not where its `old` says."""
    with registry_lock(repository):
        deadline = time.monotonic() + 2 * STALE_S
        while True:
            try:
                repository.update(updates)
                return
            except GitError as error:
                held = _HELD.search(str(error))
                if held is None or time.monotonic() > deadline:
                    raise
                _wait_or_remove(repository.root / held.group(1))


@contextmanager
def registry_lock(repository: Repository) -> Iterator[None]:
    """Keep other promotions of this repository waiting; a holder that is killed lets go. Raises `RegistryBusy`."""
    folder = Path(repository.git("rev-parse", "--git-common-dir"))
    handle = os.open(repository.root / folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _take(handle)
        yield
    finally:
        os.close(handle)


def _take(handle: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise RegistryBusy(
                    f"another promotion has held the registry for {PATIENCE_S:.0f} s: end it, then try again"
                ) from error
            time.sleep(0.05)


def _wait_or_remove(lock: Path) -> None:
    try:
        age = time.time() - lock.stat().st_mtime
    except FileNotFoundError:
        return
    if age > STALE_S:
        lock.unlink(missing_ok=True)
    else:
        time.sleep(0.1)
