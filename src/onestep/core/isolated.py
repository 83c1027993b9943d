"""Work on items that may hang, eat memory or crash their process: each ends alone, and the others go on."""

import functools
import multiprocessing
import os
import re
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as DeadlineError
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, TypeVar

from pebble import ProcessExpired, ProcessPool

from onestep.core.processes import progress_bar, worker_count
from onestep.core.storage import MachineFailed

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST_TRIES = 3  # pools in a row that break before one item is done
_LONGEST_PAUSE_S = 120.0  # between two items: processes start in less
_ENDED_BY_OTHERS = (signal.SIGKILL, signal.SIGTERM)  # the system's memory killer, or a person


@dataclass(frozen=True)
class Bounds:
    """What one item may take in its process."""

    memory_bytes: int  # of address space, beyond what the process holds before
    deadline_s: float


def map_isolated(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    label: str,
    bounds: Bounds,
    ended: Callable[[Item, str], Result],
) -> Iterator[Result]:
    """`function` of each item in a process of its own pool, in the items' order; `ended` makes the result of one that died.

    workers: processes, 0 = one per core. `ended` gets the item and why: the deadline, or the signal that its process died
    of. An item whose process was killed from outside is tried once more, alone, when all others are done: it may have
    been another's memory. Exceptions of `function` end the work: the first is raised, what else runs is stopped.
    Raises `MachineFailed` where no process lives long enough to begin.
    """
    count = min(worker_count(workers), max(len(items), 1))
    results: list[Result | None] = [None] * len(items)
    again: list[int] = []
    with progress_bar() as bar:
        task = bar.add_task(label, total=len(items))
        for index, outcome in _run(function, list(enumerate(items)), count, bounds):
            if isinstance(outcome, _Died) and outcome.from_outside:
                again.append(index)
                continue
            results[index] = ended(items[index], outcome.why) if isinstance(outcome, _Died) else outcome
            bar.advance(task)
        for index in again:
            for _, outcome in _run(function, [(index, items[index])], 1, bounds):
                twice = f"it killed its process twice ({outcome.why})" if isinstance(outcome, _Died) else ""
                results[index] = ended(items[index], twice) if isinstance(outcome, _Died) else outcome
                bar.advance(task)
    yield from results  # type: ignore[misc]


@dataclass(frozen=True)
class _Died:
    why: str
    from_outside: bool = False


def _run(
    function: Callable[[Item], Any], items: Sequence[tuple[int, Item]], count: int, bounds: Bounds
) -> Iterator[tuple[int, Any]]:
    """Each item's index with its outcome; a pool that broke, because an idle process was killed, is replaced by another."""
    tries = 0
    while items:
        left = dict(items)
        for index, outcome in _pooled(function, items, count, bounds):
            del left[index]
            yield index, outcome
        tries = tries + 1 if len(left) == len(items) else 0
        if tries == _MOST_TRIES:
            raise MachineFailed("the processes that decode footage are ended from outside as soon as they start")
        items = list(left.items())


def _pooled(
    function: Callable[[Item], Any], items: Sequence[tuple[int, Item]], count: int, bounds: Bounds
) -> Iterator[tuple[int, Any]]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([function.func.__module__ if hasattr(function, "func") else function.__module__])
    here = (dict(os.environ), Path.cwd())
    work = functools.partial(_within, function, bounds.memory_bytes)
    futures = []
    pool = ProcessPool(count, context=context, initializer=_settle, initargs=here)
    try:
        with suppress(RuntimeError):  # it broke already
            for index, item in items:
                futures.append((index, pool.schedule(work, args=[item], timeout=bounds.deadline_s)))
        for place, (index, future) in enumerate(futures):
            if not _ended(future, [other for _, other in futures[place:]], pool):
                continue
            try:
                outcome = _outcome(future, bounds)
            except (BrokenProcessPool, CancelledError):
                continue
            yield index, outcome
    finally:  # no close(), which waits for items that are lost, or that nobody wants any more
        pool.stop()
        pool.join()


def _ended(future: Any, pending: Sequence[Any], pool: ProcessPool) -> bool:
    """Wait for a future; false where it never ends, since the pool lost its item with a process and was stopped for it."""
    last = time.monotonic()
    while pool.active and not wait_for([future], timeout=1).done:
        if any(other.running() for other in pending):
            last = time.monotonic()
        elif time.monotonic() - last > _LONGEST_PAUSE_S:
            pool.stop()
    return bool(future.done())


def _outcome(future: Any, bounds: Bounds) -> Any:
    try:
        return future.result()
    except DeadlineError:
        return _Died(f"it took longer than limits.deadline_s, {bounds.deadline_s:g} s")
    except ProcessExpired as death:
        code = death.exitcode
        if code is None or code >= 0:
            return _Died(f"its process ended by itself with code {code}")
        word = signal.Signals(-code).name if -code in signal.Signals._value2member_map_ else f"signal {-code}"
        return _Died(f"its process died of {word}", from_outside=-code in _ENDED_BY_OTHERS)


def _settle(environment: Mapping[str, str], folder: Path) -> None:
    """Take over what a process of this kind does not inherit, and end with the process that it works for."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait for the parent's death: without it no deadline holds, and what a later run does must not be disturbed."""
    if (parent := multiprocessing.parent_process()) is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)


def _within(function: Callable[[Item], Result], memory_bytes: int, item: Item) -> Result:
    """`function` of an item that may take this much more memory, whatever libraries and earlier items left behind."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = _address_space() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))
    return function(item)


def _address_space() -> int:
    """Bytes of address space of this process; 0 where the system does not say."""
    try:
        found = re.search(r"^VmSize:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0
