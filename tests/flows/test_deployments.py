"""What `prefect.yaml` and `flows/server.py` put on a server, and what the server then does by itself."""

import asyncio
import http.server
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from flows import artifacts
from onestep.core.yaml_files import read_yaml
from tests.flows.asking import ask, wait_for
from tests.flows.conftest import ROOT

DEPLOYMENTS = read_yaml(ROOT / "prefect.yaml")["deployments"]


def test_everything_is_put_on_the_server_once_and_cron_really_yields_runs(deployed: str) -> None:
    names = {deployment["name"]: deployment for deployment in ask("/deployments/filter")}
    assert set(names) == {"nightly", "retrain", "ingest", "evaluate", "promote", "audit", "clean"}
    assert names["nightly"]["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert names["nightly"]["global_concurrency_limit"]["limit"] == 1
    assert {pool["name"] for pool in ask("/work_pools/filter")} >= {"cpu", "gpu"}
    assert [limit["limit"] for limit in ask("/v2/concurrency_limits/filter") if limit["name"] == "gpu"] == [1]
    automations = [automation["name"] for automation in ask("/automations/filter")]
    assert automations.count("dead runs are crashed") == 1
    assert len(automations) == 2  # and the one that starts `promote`

    def scheduled() -> list[Any]:
        return ask(
            "/flow_runs/filter",
            deployments={"id": {"any_": [names["nightly"]["id"]]}},
            flow_runs={"state": {"type": {"any_": ["SCHEDULED"]}}},
        )

    runs = wait_for(scheduled, 180, "a scheduled run")
    assert {run["expected_start_time"][11:16] for run in runs} == {"02:00"}


def test_flows_hold_no_second_graph() -> None:
    stages = read_yaml(ROOT / "dvc.yaml")["stages"]
    for path in (ROOT / "flows").glob("*.py"):
        words = set(path.read_text().replace('"', " ").replace("'", " ").split())
        assert not words & {name for name in stages if "-" in name or name in ("consistency", "adversarial", "encode")}


def test_nightly_and_what_the_decision_needs_are_named_in_the_graph() -> None:
    stages = read_yaml(ROOT / "dvc.yaml")["stages"]
    deciding = {name for name, stage in stages.items() if stage["meta"].get("decision")}
    assert deciding == {"validate", "validation-page", "drift", "drift-page"}
    assert all(stage["meta"]["limit_s"] >= stage["meta"]["budget_s"] for stage in stages.values())


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])
@pytest.mark.parametrize(
    "cron", [next(d for d in DEPLOYMENTS if d["name"] == "nightly")["schedules"][0]["cron"], "30 2 * * *"]
)
def test_change_of_clocks_neither_skips_nor_doubles_a_night(zone: str, cron: str) -> None:
    from prefect.server.schemas.schedules import CronSchedule

    schedule = CronSchedule(cron=cron, timezone=zone)
    start = datetime(2027, 1, 1, tzinfo=ZoneInfo(zone))
    nights = asyncio.run(schedule.get_dates(n=360, start=start))
    moments = [night.astimezone(UTC) for night in nights]
    apart = [later - earlier for earlier, later in pairwise(moments)]
    assert len({night.astimezone(ZoneInfo(zone)).date() for night in nights}) == 360
    assert min(apart) >= timedelta(hours=22)
    assert max(apart) <= timedelta(hours=26)


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A loopback address that keeps what is posted to it."""
    heard: list[dict[str, Any]] = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{web.server_port}/hook", heard
    web.shutdown()


@pytest.mark.usefixtures("prefect_server")
def test_people_are_told_by_a_block_of_prefects_own(webhook: tuple[str, list[dict[str, Any]]]) -> None:
    from prefect import flow
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    address, heard = webhook
    CustomWebhookNotificationBlock(
        name="people", url=address, method="POST", json_data={"subject": "{{subject}}", "body": "{{body}}"}
    ).save("people", overwrite=True)

    @flow
    def night() -> None:
        artifacts.send_notification("custom-webhook/people", "onestep nightly: hold", "because")
        artifacts.send_notification(
            "custom-webhook/nobody", "onestep nightly: hold", "a block that is missing stops no night"
        )
        artifacts.send_notification(None, "nobody", "is told")

    night()
    assert heard == [{"subject": "onestep nightly: hold", "body": "because"}]


def test_supervised_stage_is_ended_at_its_limit(tmp_path: Path) -> None:
    import sys
    import time

    from flows.stages import StageFailed, live

    started = time.monotonic()
    with pytest.raises(StageFailed, match="took longer than its limit of 1 s"):
        list(live([sys.executable, "-c", "import time; print('here', flush=True); time.sleep(300)"], tmp_path, 1))
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    ("script", "machinery"),
    [
        ("print('ERROR: failed to run: train, exited with 1'); raise SystemExit(255)", False),
        ("print('ERROR: failed to run: train, exited with -9'); raise SystemExit(255)", True),
        ("print('ERROR: failed to run: train, exited with 137'); raise SystemExit(255)", True),
        ("print('RuntimeError: CUDA error: unspecified launch failure'); raise SystemExit(1)", True),
        ("print('ERROR: failed to run: base, exited with 75'); raise SystemExit(255)", True),
        ("print('ValueError: width'); raise SystemExit(255)", False),
        ("import os; os.kill(os.getpid(), 9)", True),
    ],
)
def test_only_failures_of_the_machinery_are_tried_again(tmp_path: Path, script: str, machinery: bool) -> None:
    import sys

    from flows.stages import MachineryFailed, StageFailed, live

    with pytest.raises(StageFailed) as failure:
        list(live([sys.executable, "-c", script], tmp_path))
    assert isinstance(failure.value, MachineryFailed) is machinery
