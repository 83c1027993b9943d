"""Everything on one machine: `python -m flows.server` (or `make server`), until Ctrl-C.

The server, the two work pools, the GPU's limit, the automation that notices dead runs, the deployments of
`prefect.yaml`, and one worker per pool. What exists already is left as it is, so that it can be started again.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parents[1]
POOLS = ("cpu", "gpu")
LIMITS = ("gpu", "attempt")  # one stage on the GPU, and one candidate between its ledger entry and its verdict
BOOT_S = 300
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
        raise SystemExit(f"prefect deploy failed: {(done.stdout + done.stderr).strip()}")


def environment(host: str, port: int) -> dict[str, str]:
    """The environment of server and workers: this interpreter, the project's flows, and no telemetry."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    return {**SETTINGS, **os.environ, "PATH": path, "PREFECT_API_URL": f"http://{host}:{port}/api"}


@contextmanager
def running(words: Sequence[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One process of Prefect's in a group of its own, its words in a log; it ends with the block."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", *words],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the server answers; raises `SystemExit` with the log's last lines where it does not."""
    import httpx

    deadline = time.monotonic() + BOOT_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health", timeout=2).status_code == 200:
                return
        time.sleep(0.3)
    raise SystemExit(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")


def main() -> None:
    """Start everything, say where the page is, and stay until Ctrl-C."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--host", default="127.0.0.1", help="whom the page is served to; 0.0.0.0 = everybody")
    arguments.add_argument("--port", type=int, default=4200)
    arguments.add_argument("--logs", type=Path, default=ROOT / ".onestep" / "server")
    chosen = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    known = environment("127.0.0.1" if chosen.host == "0.0.0.0" else chosen.host, chosen.port)
    words = ["server", "start", "--host", chosen.host, "--port", str(chosen.port)]
    log = chosen.logs / "server.log"
    with suppress(KeyboardInterrupt), running(words, known, log) as server:
        wait_until_healthy(known["PREFECT_API_URL"], server, log)
        set_up(known)
        with _workers(known, chosen.logs) as workers:
            print(f"page     http://{chosen.host}:{chosen.port}", flush=True)
            print(f"logs     {chosen.logs}", flush=True)
            print("try      prefect deployment run nightly/nightly", flush=True)
            print("stop     Ctrl-C", flush=True)
            while all(process.poll() is None for process in (server, *workers)):
                time.sleep(1)
            raise SystemExit(f"a process ended by itself: its words are in {chosen.logs}")


@contextmanager
def _workers(environment: dict[str, str], logs: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    cpu = ["worker", "start", "--pool", "cpu"]
    gpu = ["worker", "start", "--pool", "gpu"]
    with running(cpu, environment, logs / "cpu.log") as first, running(gpu, environment, logs / "gpu.log") as second:
        yield [first, second]


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGINT first, so that workers end their runs and the server closes its database."""
    for number, wait_s in ((signal.SIGINT, 20), (signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
            return


if __name__ == "__main__":
    main()
