"""What tests ask of the server and of the machine."""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.2)
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


def logged_lines() -> list[str]:
    return [log["message"] for log in ask("/logs/filter", sort="TIMESTAMP_DESC", limit=200)]


def living(mark: str) -> list[int]:
    """Processes whose command line or working directory holds a mark, without this one and zombies."""
    found = []
    for process in psutil.process_iter(["status", "cmdline", "cwd"]):
        with suppress(psutil.Error):
            known = " ".join([*(process.info["cmdline"] or []), process.info["cwd"] or ""])
            if mark in known and process.pid != os.getpid() and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found
