"""Work spread over processes, in order and with a progress bar."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")
Result = TypeVar("Result")


def worker_count(workers: int) -> int:
    """`workers`, or one per core this process may use where it is 0."""
    if workers:
        return workers
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, label: str
) -> Iterator[Result]:
    """`function` of each item, in the items' order whatever the number of workers (0 = one per core).

    Processes are spawned, not forked: a fork would copy the locks of fsspec's threads. The first exception ends it.
    """
    count = min(worker_count(workers), max(len(items), 1))
    with progress_bar() as bar:
        task = bar.add_task(label, total=len(items))
        if count == 1:
            for item in items:
                yield function(item)
                bar.advance(task)
            return
        chunk = max(1, min(16, len(items) // (4 * count)))
        with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
            for result in pool.map(function, items, chunksize=chunk):
                yield result
                bar.advance(task)


def progress_bar() -> Progress:
    """The progress bar of every long command: on standard error, so that output can still be piped."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))
