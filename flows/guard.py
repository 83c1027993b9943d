"""End process groups when the process that started them is gone: `python guard.py`, a group's number on each line of input.

When standard input closes, every group that was named and still lives is ended: SIGINT first, so that workers end their
runs and a server closes its database, then SIGTERM, then SIGKILL.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress

STEPS = ((signal.SIGINT, 20), (signal.SIGTERM, 10), (signal.SIGKILL, 10))  # and the seconds that each has


def end_group(group: int, reap: Callable[[], object] = lambda: None) -> None:
    """End a process group; returns when it is gone. reap: waits for a child that has ended, which would still count."""
    for number, wait_s in STEPS:
        if not _signalled(group, number):
            return
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            reap()
            if not _signalled(group, 0):
                return
            time.sleep(0.05)


def _signalled(group: int, number: int) -> bool:
    """Whether there is such a group; it gets the signal then."""
    with suppress(ProcessLookupError):
        os.killpg(group, number)
        return True
    return False


def _started(group: int) -> float | None:
    """When the group's first process was started, in seconds of the epoch; null where it is gone."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        return float(psutil.Process(group).create_time())
    return None


def main() -> None:
    """Read groups until the input closes, then end those that are still the same."""
    named = {int(line): _started(int(line)) for line in sys.stdin}
    for group, started in reversed(named.items()):
        if _started(group) in (started, None):  # the number of a group that is gone may be another's by now
            end_group(group)


if __name__ == "__main__":
    main()
