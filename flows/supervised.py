"""Run a command that cannot outlive the process that started it: `python supervised.py COMMAND …`.

When standard input closes, because the parent closed it or was killed, the command and all that it started are ended:
SIGTERM first, then SIGKILL. So does everything when this process is told to stop. The exit code is the
command's, or 128 plus the signal that ended it.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

GRACE_S = 10.0


def main(command: list[str]) -> int:
    """Run the command to its end, or to ours; returns its exit code."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    ending, ended = threading.Lock(), threading.Event()

    def end() -> None:
        if ending.acquire(blocking=False):
            stop(process)
            ended.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: threading.Thread(target=end).start())
    threading.Thread(target=_watch, args=(end,), daemon=True).start()
    code = process.wait()
    if not ending.acquire(blocking=False):
        ended.wait(GRACE_S + 5)
    return code if code >= 0 else 128 - code


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End the command and its descendants, those in sessions of their own too; SIGTERM, then SIGKILL."""
    import psutil

    try:
        top = psutil.Process(process.pid)
        family = [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.terminate()
    _, living = psutil.wait_procs(family, timeout=GRACE_S)
    for member in living:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    if os.getpgid(0) == os.getpid():  # a session of our own: what joined it since ends too, and so do we
        os.killpg(0, signal.SIGKILL)


def _watch(end: Callable[[], None]) -> None:
    with suppress(OSError):
        while os.read(0, 1024):
            pass
    end()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
