import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from flows.retrain import retrain as retrain_flow

from onestep.registry.production import champion
from tests.toy_project import run

ROOT = Path(__file__).parents[2]


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what} did not happen within {seconds} s")


def living(group: int) -> list[int]:
    """Processes of a group that still run; a zombie waits for its parent and runs no more."""
    found = []
    for process in psutil.process_iter(["status"]):
        with suppress(ProcessLookupError):
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def last_artifact(key: str) -> Any:
    from prefect import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
    from prefect.client.schemas.sorting import ArtifactSort

    with get_client(sync_client=True) as client:
        found = client.request(
            "POST",
            "/artifacts/filter",
            json={
                "artifacts": ArtifactFilter(key=ArtifactFilterKey(any_=[key])).model_dump(mode="json"),
                "sort": ArtifactSort.CREATED_DESC.value,
                "limit": 1,
            },
        )
    return found.json()[0]["data"]


def statuses() -> dict[str, str]:
    return {row["stage"]: row["status"] for row in json.loads(last_artifact("stages"))}


@pytest.mark.usefixtures("prefect_server")
def test_only_stages_with_work_to_do_run_and_a_passed_verdict_is_promoted(project: Path) -> None:
    assert retrain_flow(str(project)) == "promote"
    assert statuses() == {"ingest": "cached", "train": "cached", "gate": "cached"}
    assert champion(project) is None

    (project / "params.yaml").write_text("learning_rate: 3\nverdict: promote\n")
    assert retrain_flow(str(project), allow_promotion=True) == "promoted onestep@v1.0.0"
    assert statuses() == {"ingest": "cached", "train": "ran", "gate": "ran"}
    assert list(statuses()) == ["ingest", "train", "gate"]
    assert last_artifact("verdict").startswith("# Promote")
    promoted = champion(project)
    assert promoted is not None
    assert run(project, "git", "rev-parse", "HEAD^").strip() == promoted.commit
    wait_for(lambda: "train works" in logged_lines(), 20, "the stage's line in the server's log")


@pytest.mark.usefixtures("prefect_server")
def test_held_verdict_is_published_and_promotes_nothing(project: Path) -> None:
    (project / "params.yaml").write_text("learning_rate: 1\nverdict: hold\n")
    assert retrain_flow(str(project), allow_promotion=True) == "hold"
    assert "| prompts | held |" in last_artifact("verdict")
    assert champion(project) is None


def test_cancelled_flow_leaves_no_process_of_its_stage(project: Path, prefect_server: str) -> None:
    marker = project / "pid"
    graph = (project / "dvc.yaml").read_text()
    sleeper = f"cmd: python -c \"import os,time; open('{marker}','w').write(str(os.getpid())); time.sleep(300)\""
    (project / "dvc.yaml").write_text(graph.replace("cmd: python make.py train data/clips models/onestep", sleeper))
    script = f"from flows.retrain import retrain; retrain({str(project)!r})"
    flow_run = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: marker.exists() and marker.read_text(), 60, "the stage's start")
        group = os.getpgid(int(marker.read_text()))
        assert len(living(group)) >= 2
        assert group != os.getpgid(flow_run.pid)
        flow_run.send_signal(signal.SIGTERM)
        flow_run.wait(30)
        assert not living(group)
    finally:
        flow_run.kill()


def test_deployed_cron_schedule_really_yields_runs(prefect_server: str) -> None:
    from prefect import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="onestep", type="process"))
        deploy = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
        done = subprocess.run(deploy, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        deployment = client.read_deployment_by_name("retrain/nightly")

        def scheduled() -> list[Any]:
            runs = client.read_flow_runs()
            return [run for run in runs if run.deployment_id == deployment.id and run.state_name == "Scheduled"]

        runs = wait_for(scheduled, 90, "a scheduled run")
    assert {run.expected_start_time.strftime("%H:%M") for run in runs} == {"02:00"}


def logged_lines() -> list[str]:
    from prefect import get_client
    from prefect.client.schemas.sorting import LogSort

    with get_client(sync_client=True) as client:
        logs = client.request("POST", "/logs/filter", json={"sort": LogSort.TIMESTAMP_DESC.value, "limit": 200})
    return [log["message"] for log in logs.json()]
