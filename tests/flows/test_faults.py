"""What can go wrong in a night. After each: the champion stands, no process is left, no lock is lost, the next night works."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flows.nightly import nightly
from flows.stages import StageFailed

from flows import pipeline_run
from flows import server as one_machine
from onestep.registry.champion import champion
from onestep.vcs.project import Project
from tests.flows.asking import (
    ask,
    ended,
    in_training,
    logged_lines,
    processes_of,
    start,
    state_of,
    training_began,
    wait_for,
)
from tests.flows.conftest import ROOT, free_port, serving, using
from tests.flows.test_nightly import attempts
from tests.flows.test_nightly import state as whole_state
from tests.night_project import write_footage, write_night_params
from tests.toy_project import run

pytestmark = pytest.mark.slow


@pytest.fixture
def project(after_first_night: Path) -> Path:
    """A project with a champion, and footage that asks for the next one."""
    write_footage(after_first_night.parent / "footage", 0.9, range(30, 49))
    return after_first_night


def state(project: Path) -> dict[str, Any]:
    """What a broken night must leave alone: all but the ledger, where its attempt was entered before it broke."""
    found = whole_state(project)
    return found | {"refs": [ref for ref in found["refs"].splitlines() if not ref.endswith("refs/heads/ledger")]}


def commit(project: Path, **params: Any) -> None:
    write_night_params(project, **params)
    run(project, "git", "commit", "--quiet", "--all", "--message", "Other settings")


def next_night_works(project: Path) -> None:
    """What is broken is mended, and the night after promotes."""
    before = champion(Project(project))
    assert before is not None
    assert before.version_tag == "onestep@v1.0.0"
    if "in_training: ''" not in (project / "params.yaml").read_text():
        commit(project)
    assert nightly(str(project)).startswith("onestep@v1.1.0 is in production")
    assert run(project, "git", "status", "--porcelain") == ""


@contextmanager
def worker(pool: str = "gpu") -> Iterator[subprocess.Popen[bytes]]:
    words = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool]
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        one_machine._end(process)


@pytest.mark.usefixtures("prefect_server")
def test_stage_fails(project: Path) -> None:
    commit(project, in_training="raise SystemExit('no such colour')")
    before = state(project)
    with pytest.raises(StageFailed, match="no such colour"):
        nightly(str(project))
    assert state(project) == before
    assert "no such colour" in (project / "reports/nightly.html").read_text()
    next_night_works(project)


@pytest.mark.usefixtures("prefect_server")
def test_disk_of_the_clone_is_full(project: Path) -> None:
    folder = project / ".onestep/runs"
    shutil.rmtree(folder)
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this machine may not mount a file system")
    try:
        commit(project, in_training="open('large', 'wb').write(bytes(8 << 20))")
        before = state(project)
        with pytest.raises(StageFailed, match="No space left"):
            nightly(str(project))
        assert state(project) == before
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    next_night_works(project)


@pytest.mark.usefixtures("prefect_server")
def test_remote_is_away_at_the_push_and_nothing_is_half_published(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = project.parent / "remote"
    away = remote.with_name("away")
    remote.rename(away)
    remote.write_text("a file where the remote's folder should be")
    before = state(project)
    monkeypatch.setattr(pipeline_run, "publish_run", pipeline_run.publish_run.with_options(retry_delay_seconds=0))
    with pytest.raises(Exception, match="dvc push failed"):
        nightly(str(project))
    assert state(project) == before
    remote.unlink()
    away.rename(remote)
    next_night_works(project)


def test_cancelled_in_training(project: Path, deployed: str) -> None:
    from prefect import get_client
    from prefect.states import Cancelling

    commit(project, in_training=in_training(project))
    before = state(project)
    with worker():
        night = start("nightly/nightly", project=str(project))
        wait_for(lambda: training_began(project), 300, "training")
        assert len(processes_of(night)) >= 4  # flow, supervisor, DVC, trainer
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(night, Cancelling())
        assert ended(night) == "Cancelled"
        wait_for(lambda: not processes_of(night), 60, "the end of its processes")
    assert state(project) == before
    next_night_works(project)


def test_two_nightlies_at_once_and_missed_ones_are_caught_up_once(project: Path, deployed: str) -> None:
    from prefect import get_client
    from prefect.states import Scheduled

    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("nightly/nightly")
        missed = [
            client.create_flow_run_from_deployment(
                deployment.id,
                parameters={"project": str(project)},
                state=Scheduled(scheduled_time=datetime.now(UTC) - timedelta(days=days)),
            ).id
            for days in (3, 2, 1)
        ]
    with worker():
        names = sorted(ended(night) for night in missed)
    assert names == ["Cancelled", "Cancelled", "Completed"]
    assert champion(Project(project)).version_tag == "onestep@v1.1.0"
    assert len(attempts(project)) == 2


def test_flow_is_killed_outright(project: Path, deployed: str) -> None:
    commit(project, in_training=in_training(project))
    before = state(project)
    with worker():
        night = start("nightly/nightly", project=str(project))
        wait_for(lambda: training_began(project), 300, "training")
        (flow,) = [p for p in processes_of(night) if p.ppid() not in {q.pid for q in processes_of(night)}]
        flow.kill()
        wait_for(lambda: not processes_of(night), 60, "the end of its processes")
        assert ended(night) == "Crashed"
    assert state(project) == before
    next_night_works(project)


def test_worker_and_flow_are_killed_outright(project: Path, deployed: str) -> None:
    """A dead machine reports nothing. The automation marks the run, and the GPU's lease runs out."""
    commit(project, in_training=in_training(project))
    before = state(project)
    with worker() as first:
        night = start("nightly/nightly", project=str(project))
        wait_for(lambda: training_began(project), 300, "training")
        flow = [p for p in processes_of(night) if p.ppid() not in {q.pid for q in processes_of(night)}]
        os.killpg(first.pid, signal.SIGKILL)
        for process in flow:
            process.kill()
        wait_for(lambda: not processes_of(night), 60, "the end of its processes")
        assert state_of(night) == "Running"
        assert ended(night, 400) == "Crashed"
        wait_for(gpu_is_free, 200, "the end of the GPU's lease")
    assert state(project) == before
    with worker():
        commit(project)
        assert ended(start("nightly/nightly", project=str(project))) == "Completed"
    assert champion(Project(project)).version_tag == "onestep@v1.1.0"


def gpu_is_free() -> bool:
    return [limit["active_slots"] for limit in ask("/v2/concurrency_limits/filter") if limit["name"] == "gpu"] == [0]


def test_server_is_killed_and_comes_back(project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The night goes on without its page, and the promotion is there when the server is again."""
    port, home = free_port(), tmp_path / "prefect"
    home.mkdir()
    seconds = 15
    commit(project, in_training=in_training(project).replace("900", str(seconds)))
    with using(f"http://127.0.0.1:{port}/api", monkeypatch, tmp_path / "client"):
        with serving(home, port) as first:
            script = f"from flows.nightly import nightly; print(nightly({str(project)!r}))"
            night = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
            wait_for(lambda: training_began(project), 300, "training")
            os.killpg(first.pid, signal.SIGKILL)
            first.wait()
        with serving(home, port):
            said, _ = night.communicate(timeout=400)
            assert night.returncode == 0, said
            assert "onestep@v1.1.0 is in production" in said
            (flow_run,) = ask("/flow_runs/filter", flows={"name": {"any_": ["nightly"]}})
            assert flow_run["state_name"] == "Completed"
    assert champion(Project(project)).version_tag == "onestep@v1.1.0"


@pytest.mark.parametrize("answer", ["yes", "no", "somebody else, then nobody"])
def test_candidate_event_starts_promote_and_a_named_person_decides(
    with_waiting_candidate: Path, deployed: str, answer: str
) -> None:
    from prefect import get_client

    project = with_waiting_candidate
    asks = {"project": str(project), "approver": "Ada", "wait_h": 0.01 if "nobody" in answer else 1.0, "branch": ""}
    values = {"promote": answer != "no", "name": "Eve" if "somebody" in answer else "ada", "reason": "looked at it"}
    wrong, silence = "'Eve' answered, but Ada was asked: asking again", "Ada did not answer within 0.01 hours: hold"
    words = {"yes": ["Ada says yes: looked at it"], "no": ["Ada says no: looked at it"]}.get(answer, [silence, wrong])
    with parameters_of("promote/promote", asks), worker("cpu"), get_client(sync_client=True) as client:
        before = runs_of("promote")
        assert "may be promoted" in nightly(str(project), promotion="by event")
        (promotion,) = wait_for(lambda: runs_of("promote") - before, 120, "the run of promote")
        wait_for(lambda: state_of(promotion) == "Paused", 200, "the pause")
        assert client.resume_flow_run(promotion, run_input=values).status.value == "ACCEPT"
        assert ended(promotion, 400) == "Completed"
        wait_for(lambda: [line for line in logged_lines(promotion) if "Ada" in line] == words, 30, f"words {words}")
    assert champion(Project(project)).version_tag == ("onestep@v1.1.0" if answer == "yes" else "onestep@v1.0.0")
    assert attempts(project)[0].verdict == ("reject" if answer == "no" else "promote")


def runs_of(flow: str) -> set[UUID]:
    return {UUID(found["id"]) for found in ask("/flow_runs/filter", flows={"name": {"any_": [flow]}})}


@contextmanager
def parameters_of(deployment: str, parameters: dict[str, Any]) -> Iterator[None]:
    """Other parameters of a deployment, for the block."""
    from prefect import get_client

    with get_client(sync_client=True) as client:
        known = client.read_deployment_by_name(deployment)
        client.request("PATCH", f"/deployments/{known.id}", json={"parameters": parameters})
        try:
            yield
        finally:
            client.request("PATCH", f"/deployments/{known.id}", json={"parameters": known.parameters})
