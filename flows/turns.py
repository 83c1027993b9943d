"""Taking turns: limits on the server that a dead holder cannot keep, and that no night dies of when the server is away."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
from prefect import get_run_logger
from prefect.concurrency.sync import concurrency

GPU = "gpu"  # one stage on the GPU
ATTEMPT = "attempt"  # one candidate between its entry in the ledger and its promotion
LEASE_S = 60  # a dead holder's turn ends after at most this and the server's own round
PATIENCE_S = 1800  # how long a server may be away when a turn is asked for
_AGAIN_S = 10


@contextmanager
def in_turn(name: str) -> Iterator[None]:
    """Wait for a turn and hold it for the block; a server that dies meanwhile ends the turn, not the block.

    Raises what the server's absence raises, once it has lasted for `PATIENCE_S` at the start.
    """
    turn = ExitStack()
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            turn.enter_context(concurrency(name, occupy=1, lease_duration=LEASE_S))
            break
        except httpx.HTTPError as error:
            if time.monotonic() > deadline:
                raise
            get_run_logger().warning(f"the server is away ({error!r}): asking for the turn {name} again")
            time.sleep(_AGAIN_S)
    try:
        yield
    finally:
        try:
            turn.close()
        except httpx.HTTPError as error:
            get_run_logger().warning(f"the turn {name} was not given back ({error!r}): its lease runs out by itself")
