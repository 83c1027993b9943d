"""What tests ask of the server and of the machine."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.3)
    raise AssertionError(f"{what} did not happen within {seconds} s")


def ask(path: str, **content: Any) -> Any:
    from prefect import get_client

    with get_client(sync_client=True) as client:
        return client.request("POST", path, json=content).json()


def artifact(key: str) -> Any:
    """The content of the latest artifact of a key."""
    found = ask("/artifacts/filter", artifacts={"key": {"any_": [key]}}, sort="CREATED_DESC", limit=1)
    return found[0]["data"]


def statuses() -> dict[str, str]:
    """The latest stage table."""
    return {row["stage"]: row["status"] for row in json.loads(artifact("stages"))}


def logged_lines(run: UUID | None = None) -> list[str]:
    chosen = {"logs": {"flow_run_id": {"any_": [str(run)]}}} if run else {}
    return [log["message"] for log in ask("/logs/filter", sort="TIMESTAMP_DESC", limit=200, **chosen)]


def start(deployment: str, **parameters: Any) -> UUID:
    """A run of a deployment, to be started by its worker."""
    from prefect import get_client

    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name(deployment)
        return client.create_flow_run_from_deployment(found.id, parameters=parameters).id


def state_of(run: UUID) -> str:
    from prefect import get_client

    with get_client(sync_client=True) as client:
        return str(client.read_flow_run(run).state_name)


def ended(run: UUID, seconds: float = 300) -> str:
    """The name of a run's last state."""
    ends = ("Completed", "Failed", "Cancelled", "Crashed")
    return wait_for(lambda: (name := state_of(run)) in ends and name, seconds, f"the end of {run}")


def processes_of(run: UUID) -> list[psutil.Process]:
    """All processes that belong to a flow run: they inherit its id in their environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            mine = process.environ().get("PREFECT__FLOW_RUN_ID") == str(run)
            if mine and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def in_training(project: Path) -> str:
    """Code for `in_training` of the toy trainer: say that training began, then take for ever."""
    marker = project.parent / "training"
    return f"import pathlib, time; pathlib.Path({str(marker)!r}).write_text('began'); time.sleep(900)"


def training_began(project: Path) -> bool:
    return (project.parent / "training").exists()
