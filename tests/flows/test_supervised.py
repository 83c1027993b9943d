import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from flows import supervised

CHILD = """
import os, subprocess, sys, time
other = [sys.executable, "-c", "import time; time.sleep(300)"]
pids = [subprocess.Popen(other).pid, subprocess.Popen(other, start_new_session=True).pid, os.getpid()]
open(sys.argv[1], "w").write(" ".join(map(str, pids)))
time.sleep(300)
"""
PARENT = """
import subprocess, sys, time
command = [sys.executable, sys.argv[1], sys.executable, "-c", sys.argv[2], sys.argv[3]]
subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
time.sleep(300)
"""


def alive(pids: list[int]) -> list[int]:
    found = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


def soon(condition, seconds: float = 30) -> bool:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(("code", "expected"), [("0", 0), ("3", 3)])
def test_exit_code_is_the_commands(code: str, expected: int) -> None:
    command = [sys.executable, supervised.__file__, sys.executable, "-c", f"raise SystemExit({code})"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.wait(60) == expected


@pytest.mark.parametrize("ending", ["parent killed", "supervisor told to stop"])
def test_nothing_outlives_its_parent_not_even_in_a_session_of_its_own(tmp_path: Path, ending: str) -> None:
    pids = tmp_path / "pids"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, supervised.__file__, CHILD, str(pids)])
    try:
        assert soon(lambda: pids.exists() and len(pids.read_text().split()) == 3)
        started = list(map(int, pids.read_text().split()))
        assert alive(started) == started
        (supervisor,) = psutil.Process(parent.pid).children()
        if ending == "parent killed":
            parent.kill()
            parent.wait()
        else:
            os.kill(supervisor.pid, signal.SIGTERM)
        assert soon(lambda: not alive([*started, supervisor.pid]))
    finally:
        parent.kill()
        parent.wait()
