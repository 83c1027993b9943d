"""`make server` as a whole, in a clone of its own: everything is there, runs are run, and nothing is left after Ctrl-C."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from onestep.nightly.checks.server import server as server_checks
from onestep.nightly.prefect_server import LIMITS
from tests.flows.asking import ask, ended, start, wait_for
from tests.flows.conftest import ROOT, free_port, using
from tests.toy_project import run

pytestmark = pytest.mark.slow


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """This repository's files, as git would clone them, committed."""
    root = tmp_path / "clone"
    for name in run(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0"):
        if name and (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, root / name)
    run(root, "git", "init", "--quiet", "--initial-branch=main")
    run(root, "git", "config", "user.name", "A Person")
    run(root, "git", "config", "user.email", "person@example.org")
    run(root, "git", "add", "--all", "--force")
    run(root, "git", "commit", "--quiet", "--message", "Start")
    return root


@contextmanager
def everything(root: Path, port: int) -> Iterator[list[str]]:
    """What `make server` runs, until Ctrl-C; the lines that it said, complete once the page is served."""
    said: list[str] = []
    words = [sys.executable, "-m", "flows.server", "--port", str(port)]
    process = subprocess.Popen(words, cwd=root, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            said.append(line.strip())
            if line.startswith("stop"):
                break
        yield said
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(90) == 0, said
        process.stdout.close()


def living(home: Path) -> list[psutil.Process]:
    """All processes that were started with this folder as Prefect's home."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            mine = process.pid != os.getpid() and process.environ().get("PREFECT_HOME") == str(home)
            if mine and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def what_is_there() -> dict[str, list[str]]:
    names = ("work_pools", "v2/concurrency_limits", "automations", "deployments")
    return {name: sorted(each["name"] for each in ask(f"/{name}/filter")) for name in names}


def test_one_command_brings_up_everything_and_leaves_nothing(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    port, home = free_port(), tmp_path / "prefect"
    with using(f"http://127.0.0.1:{port}/api", monkeypatch, home):
        monkeypatch.setenv("PYTHONPATH", str(scratch / "src"))
        with everything(scratch, port) as said:
            assert f"page     http://127.0.0.1:{port}" in said
            there = what_is_there()
            assert there["work_pools"] == ["cpu", "gpu"]
            assert set(there["v2/concurrency_limits"]) >= set(LIMITS)
            assert "dead runs are crashed" in there["automations"]
            assert len(there["automations"]) == 2  # and the one that starts `promote`
            assert there["deployments"] == ["audit", "clean", "evaluate", "ingest", "nightly", "promote", "retrain"]
            wait_for(workers_are_there, 120, "a worker for each pool")
            statuses = {result.name: result.status for result in server_checks(f"http://127.0.0.1:{port}/api")}
            assert set(statuses.values()) == {"ok"}, statuses
            assert ended(start("clean/clean")) == "Completed"
            assert len(living(home)) >= 3
            worker = next(process for process in living(home) if "worker" in process.cmdline())
            worker.kill()
            wait_for(lambda: sum("worker" in process.cmdline() for process in living(home)) == 2, 60, "another worker")
            wait_for(workers_are_there, 120, "a worker for each pool")
        wait_for(lambda: not living(home), 30, "the end of all processes")
        with everything(scratch, port):
            assert what_is_there() == there
        wait_for(lambda: not living(home), 30, "the end of all processes")


def workers_are_there() -> bool:
    return {pool["name"]: pool["status"] for pool in ask("/work_pools/filter")} == {"cpu": "READY", "gpu": "READY"}
