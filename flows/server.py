"""Everything on one machine: `python -m flows.server` (or `make server`), until Ctrl-C.

The server, the two work pools, the limits, the automation that notices dead runs, the deployments of `prefect.yaml`, and
one worker per pool. What exists already is left as it is, so that it can be started again. A worker that dies is started
again; where the server dies, or this process is killed, everything ends.
"""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from flows import guard
from flows.ports import listens, require_free, url_of
from onestep.core import failures
from onestep.core.child_environment import SIGNING
from onestep.core.failures import one_sentence
from onestep.core.redaction import without_secrets
from onestep.nightly.prefect_server import LIMITS, POOLS

ROOT = Path(__file__).parents[1]
BOOT_S = 300
AGAIN_S = 1.0  # until a dead worker is started again; doubled with each further death within a minute
DEATHS = 5  # of one worker within a minute are too many
SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # seconds; the automation below marks a run that falls silent
}
SILENCE_S = 90  # three missed heartbeats


def dead_runs_automation() -> dict[str, object]:
    """Marks a run Crashed that sent heartbeats and then neither another one nor its end."""
    ends = [f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed", "Paused")]
    return {
        "name": "dead runs are crashed",
        "description": "A run that falls silent is dead: its process, worker or machine was killed.",
        "enabled": True,
        "trigger": {
            "type": "event",
            "match": {"prefect.resource.id": "prefect.flow-run.*"},
            "for_each": ["prefect.resource.id"],
            "after": ["prefect.flow-run.heartbeat"],
            "expect": ["prefect.flow-run.heartbeat", *ends],
            "posture": "Proactive",
            "threshold": 1,
            "within": SILENCE_S,
        },
        "actions": [
            {
                "type": "change-flow-run-state",
                "state": "CRASHED",
                "message": f"no heartbeat for {SILENCE_S} s: its process is dead",
            }
        ],
    }


def set_up(environment: dict[str, str], project: Path = ROOT) -> None:
    """Pools, limit, automation and deployments on the server of `environment`; what is there already stays."""
    from prefect import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, WorkPoolCreate
    from prefect.events.schemas.automations import AutomationCore
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.settings import PREFECT_API_URL, temporary_settings

    wanted = AutomationCore.model_validate(dead_runs_automation())
    with temporary_settings({PREFECT_API_URL: environment["PREFECT_API_URL"]}), get_client(sync_client=True) as client:
        for pool in POOLS:
            with suppress(ObjectAlreadyExists):
                client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
        limits = [limit.name for limit in client.read_global_concurrency_limits(limit=200, offset=0)]
        for name in LIMITS:
            if name not in limits:
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
        known = client.request("POST", "/automations/filter", json={}).json()
        if wanted.name not in [automation["name"] for automation in known]:
            client.create_automation(wanted)
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"prefect deploy --all failed: {_last_line(done.stdout + done.stderr)}")


def environment(host: str, port: int) -> dict[str, str]:
    """The environment of server and workers: this interpreter, the project's flows, and no telemetry."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    return {**SETTINGS, **os.environ, "PATH": path, "PREFECT_API_URL": url_of(host, port)}


@contextmanager
def running(words: Sequence[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One process of Prefect's in a group of its own, its output in a log; it ends with the block."""
    with ExitStack() as stack:
        with _undisturbed():  # between its start and the promise to end it
            process = _start([sys.executable, "-m", "prefect", *words], environment, log)
            stack.callback(_end, process)
        yield process


@cache
def _guard() -> subprocess.Popen[str]:
    """What ends every group that is named to it, once this process is gone, however it ended."""
    command, silent = [sys.executable, guard.__file__], subprocess.DEVNULL
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=silent, stderr=silent, text=True, start_new_session=True
    )


def _start(command: Sequence[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    guarded = _guard().stdin
    log.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as file:
        process = subprocess.Popen(
            list(command),
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    if guarded:
        print(process.pid, file=guarded, flush=True)
    return process


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the server that was started answers; raises `SystemExit` with its last line where it does not."""
    import httpx

    deadline = time.monotonic() + BOOT_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(httpx.HTTPError):
            answers = httpx.get(f"{url}/health", timeout=2).status_code == 200
            if answers and listens(process.pid, urlsplit(url).port or 80):
                return
        time.sleep(0.3)
    output = log.read_text(errors="replace")[-20000:]
    if "database is locked" in output:
        raise SystemExit(
            "the server did not start: another process holds its database; end that first, or give this one "
            f"its own by PREFECT_API_DATABASE_CONNECTION_URL (its log is {log})"
        )
    raise SystemExit(f"the server did not start: {_last_line(output)} (its log is {log})")


@dataclass
class Worker:
    """A worker that is started again when it dies, each time after twice the wait, until it died too often."""

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    earlier: list[subprocess.Popen[bytes]] = field(default_factory=list)  # their runs may still be going on
    deaths: deque[float] = field(default_factory=deque)
    due: float = 0.0

    def tend(self) -> None:
        """Start it where it does not run and is due; raises `SystemExit` where it died too often."""
        now = time.monotonic()
        if self.process is not None and self.process.poll() is not None:
            self._note_death(self.process, now)
        if self.process is None and now >= self.due:
            with _undisturbed():
                self.process = _start(self.command, self.environment, self.log)

    def end(self) -> None:
        """End it, and what earlier ones left behind."""
        for process in [*filter(None, [self.process]), *self.earlier]:
            _end(process)

    def _note_death(self, process: subprocess.Popen[bytes], now: float) -> None:
        self.earlier.append(process)
        self.process = None
        self.deaths.append(now)
        while now - self.deaths[0] > 60:
            self.deaths.popleft()
        if len(self.deaths) >= DEATHS:
            raise SystemExit(
                f"the worker of the pool {self.name} ended {DEATHS} times in a minute: its log is {self.log}"
            )
        wait_s = AGAIN_S * 2 ** (len(self.deaths) - 1)
        self.due = now + wait_s
        message = f"worker   {self.name} ended (exit code {process.returncode}); it is started again in {wait_s:g} s"
        print(message, flush=True)
        with self.log.open("a") as log:
            log.write(f"{message}\n")


def main() -> None:
    """Start everything, print where the page is, and stay until Ctrl-C."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--host", default="127.0.0.1", help="address to serve at; 0.0.0.0 = the whole network")
    arguments.add_argument("--port", type=_port, default=4200, help="1 to 65535")
    arguments.add_argument("--logs", type=Path, default=ROOT / ".onestep" / "server")
    chosen = arguments.parse_args()
    # no KeyboardInterrupt: where one passes through code that a library runs by exec(), Python ends by SIGINT, caught or not
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    with failures.one_sentence("make server", sys.argv[1:]):
        serve(chosen.host, chosen.port, chosen.logs)


def serve(host: str, port: int, logs: Path) -> None:
    """Start the server, what belongs on it, and the workers; raises `SystemExit` where the server dies."""
    require_free(host, port, ROOT)
    known = environment(host, port)
    log = logs / "server.log"
    keyless = {name: value for name, value in known.items() if name not in SIGNING}
    with running(["server", "start", "--host", host, "--port", str(port)], keyless, log) as server:
        wait_until_healthy(known["PREFECT_API_URL"], server, log)
        set_up(known)
        prefect = [sys.executable, "-m", "prefect", "worker", "start", "--pool"]
        workers = [Worker(pool, [*prefect, pool], known, logs / f"{pool}.log") for pool in POOLS]
        with ExitStack() as stack:
            for worker in workers:
                stack.callback(worker.end)
                worker.tend()
            print(f"page     {known['PREFECT_API_URL'].removesuffix('/api')}", flush=True)
            print(f"logs     {logs}", flush=True)
            print("try      prefect deployment run nightly/nightly", flush=True)
            print("stop     Ctrl-C", flush=True)
            while server.poll() is None:
                time.sleep(1)
                for worker in workers:
                    worker.tend()
        raise SystemExit(f"the server ended by itself (exit code {server.returncode}): its log is {log}")


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: it is a number from 1 to 65535")
    return int(text)


def _last_line(output: str) -> str:
    lines = [line.strip(" │╭╰─╮╯") for line in output.splitlines()]
    return without_secrets(next((line for line in reversed(lines) if line), "without any output"))[-300:]


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold back a second Ctrl-C until the block is over: while processes start or end, it would leave orphans."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, _: waiting.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if waiting:
            signal.raise_signal(waiting[0])


def _end(process: subprocess.Popen[bytes]) -> None:
    with _undisturbed():
        guard.end_group(process.pid, process.poll)


if __name__ == "__main__":
    with one_sentence("python -m flows.server", sys.argv[1:]):
        main()
