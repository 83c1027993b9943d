"""Slots of the server's concurrency limits: leased, so that a killed holder cannot keep one."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
from prefect import get_run_logger
from prefect.concurrency.sync import concurrency

LEASE_S = 60  # a killed holder's slot is free after at most this and the server's own interval
PATIENCE_S = 1800  # how long the server may be unreachable when a slot is asked for
_RETRY_S = 10


@contextmanager
def concurrency_slot(limit: str) -> Iterator[None]:
    """Wait for a slot of a limit and hold it for the block; where the server dies meanwhile, the block goes on.

    Raises `httpx.HTTPError` where the server cannot be reached for `PATIENCE_S` at the start.
    """
    slot = ExitStack()
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            slot.enter_context(concurrency(limit, occupy=1, lease_duration=LEASE_S))
            break
        except httpx.HTTPError as error:
            if time.monotonic() > deadline:
                raise
            get_run_logger().warning(f"the server cannot be reached ({error!r}): asking for a slot of {limit} again")
            time.sleep(_RETRY_S)
    try:
        yield
    finally:
        try:
            slot.close()
        except httpx.HTTPError as error:
            get_run_logger().warning(f"the slot of {limit} was not given back ({error!r}): its lease runs out")
