"""Work in processes of its own: what one item does to its process ends with that item."""

import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from pebble import ProcessPool

from onestep.core import isolated
from onestep.core.isolated import Bounds, map_isolated

BOUNDS = Bounds(memory_bytes=4_000_000_000, deadline_s=4.0)
ROOT = Path(__file__).parents[2]
LEFT_BEHIND: list[mmap.mmap] = []


def work(item: str) -> str:
    word, _, rest = item.partition(" ")
    if word == "signal":
        os.kill(os.getpid(), int(rest))
        time.sleep(30)
    if word == "once":
        with Path(rest).open("a") as log:
            log.write("x")
        if Path(rest).stat().st_size == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    if word == "hang":
        time.sleep(600)
    if word == "eat":
        try:
            return f"{len(bytearray(8_000_000_000))} bytes"
        except MemoryError:
            return "MemoryError"
    if word == "keep":
        LEFT_BEHIND.append(mmap.mmap(-1, 3_000_000_000))
    if word == "nap":
        time.sleep(0.02)
    if word == "tell":
        Path(rest).write_text(str(os.getpid()))
        time.sleep(600)
    if word == "raise":
        raise OSError(28, "No space left on device", "/somewhere")
    return f"did {item}"


def ended(item: str, why: str) -> str:
    return f"{item}: {why}"


def test_what_one_item_does_to_its_process_ends_with_that_item(tmp_path: Path) -> None:
    items = [
        "a",
        f"signal {signal.SIGSEGV:d}",
        "hang",
        "eat",
        f"once {tmp_path / 'log'}",
        f"signal {signal.SIGKILL:d}",
        "b",
    ]
    results = list(map_isolated(work, items, 2, "work", BOUNDS, ended))
    assert results == [
        "did a",
        "signal 11: its process died of SIGSEGV",
        "hang: it took longer than limits.deadline_s, 4 s",
        "MemoryError",
        f"did once {tmp_path / 'log'}",
        "signal 9: it killed its process twice (its process died of SIGKILL)",
        "did b",
    ]
    assert (tmp_path / "log").read_text() == "xx"


def test_exception_of_the_work_itself_ends_it(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        list(map_isolated(work, ["raise", "hang"], 1, "work", BOUNDS, ended))


def test_processes_that_are_killed_before_they_begin_cost_nothing() -> None:
    def kill_the_first() -> None:
        found: list[psutil.Process] = []
        while not found:
            with suppress(psutil.NoSuchProcess):
                found = [process for server in psutil.Process().children() for process in server.children()]
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    items = [f"nap {number}" for number in range(10)]
    assert list(map_isolated(work, items, 1, "work", BOUNDS, ended)) == [f"did {item}" for item in items]
    killer.join()


def test_item_that_a_pool_lost_with_its_process_is_done_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed between taking an item and saying so leaves a future that never ends, even by a stop."""
    schedule = ProcessPool.schedule
    lost: list[Future[object]] = []

    def lose_the_first(self: ProcessPool, *args: Any, **named: Any) -> Any:
        if not lost:
            lost.append(Future())
            return lost[0]
        return schedule(self, *args, **named)

    monkeypatch.setattr(ProcessPool, "schedule", lose_the_first)
    monkeypatch.setattr(isolated, "_LONGEST_PAUSE_S", 0.5)
    items = ["nap 1", "nap 2", "nap 3"]
    assert list(map_isolated(work, items, 1, "work", BOUNDS, ended)) == [f"did {item}" for item in items]
    assert len(lost) == 1


def test_memory_that_an_item_left_behind_is_not_taken_from_the_next() -> None:
    assert list(map_isolated(work, ["keep 1", "keep 2", "keep 3"], 1, "work", BOUNDS, ended))[-1] == "did keep 3"


def test_no_process_goes_on_when_the_one_it_works_for_is_killed(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    code = (
        "from onestep.core.isolated import Bounds, map_isolated; from tests.core.test_isolated import ended, work; "
        f"list(map_isolated(work, ['tell {told}'], 1, 'work', Bounds(4_000_000_000, 600), ended))"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL) as parent:
        _wait_until(lambda: told.is_file() and bool(told.read_text()))
        parent.kill()
    _wait_until(lambda: not Path(f"/proc/{told.read_text()}/cmdline").is_file())


def _wait_until(comes_true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not comes_true():
        assert time.monotonic() < end
        time.sleep(0.02)
