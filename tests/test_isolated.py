"""Work in processes of its own: what one item does to its process ends with that item."""

import os
import signal
import time
from pathlib import Path

import pytest

from onestep.isolated import Bounds, map_isolated

BOUNDS = Bounds(memory_bytes=4_000_000_000, deadline_s=4.0)


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
