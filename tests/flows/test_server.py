"""What `make server` does where a port is taken, a worker dies, or the server does not start."""

import http.server
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flows import ports
from flows import server as one_machine
from onestep.nightly.checks.server import server as server_checks
from onestep.nightly.prefect_server import working_folders
from onestep.vcs.project import Project
from tests.flows.asking import ask, wait_for
from tests.flows.conftest import ROOT, free_port


@pytest.fixture
def other_clone(tmp_path: Path) -> Path:
    """The flows of a second clone of this repository."""
    root = tmp_path / "second"
    shutil.copytree(ROOT / "flows", root / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "prefect.yaml", root / "prefect.yaml")
    return root


def make_server(root: Path, *options: str, **environment: str) -> "subprocess.Popen[str]":
    words = [sys.executable, "-m", "flows.server", *options]
    known = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{ROOT / 'src'}"} | environment
    return subprocess.Popen(words, cwd=root, env=known, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def refused(process: "subprocess.Popen[str]") -> str:
    """The one sentence of a server that was not started."""
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 1, said
    assert "Traceback" not in said
    assert said.count("\n") == 1
    return said


def port_of(url: str) -> str:
    return url.removesuffix("/api").rpartition(":")[2]


def test_a_second_clone_leaves_the_first_ones_server_as_it_is(deployed: str, other_clone: Path) -> None:
    before = sorted(ask("/deployments/filter"), key=lambda each: each["name"])
    said = refused(make_server(other_clone, "--port", port_of(deployed)))
    assert f"is in use by another Prefect server, of {ROOT}; for this one: make server ARGS='--port " in said
    suggested = int(said.rpartition("--port ")[2].split("'")[0])
    assert ports._trouble("127.0.0.1", suggested) is None
    assert sorted(ask("/deployments/filter"), key=lambda each: each["name"]) == before
    assert not (other_clone / ".onestep" / "server").exists(), "nothing was started"


def test_ones_own_server_that_runs_already_is_named(deployed: str) -> None:
    assert "the server of this project runs already" in refused(make_server(ROOT, "--port", port_of(deployed)))


def test_doctor_says_whose_server_answers(deployed: str, tmp_path: Path) -> None:
    assert working_folders(ask("/deployments/filter")) == [ROOT]
    found = {result.name: result for result in server_checks(deployed, Project(tmp_path))}
    assert found["project"].status == "error"
    assert f"run in {ROOT}, not in {tmp_path}" in found["project"].found
    assert "project" not in {result.name for result in server_checks(deployed, Project(ROOT))}


@pytest.fixture(params=["127.0.0.1", "::1"])
def another_program(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a web server that is none of Prefect's."""

    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in request.param else socket.AF_INET

    try:
        web = Server((request.param, 0), http.server.BaseHTTPRequestHandler)
    except OSError:
        pytest.skip("this machine has no IPv6")
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield web.server_port
    web.shutdown()
    web.server_close()


def test_another_programs_port_is_named(another_program: int, tmp_path: Path) -> None:
    with pytest.raises(
        SystemExit, match=rf"the port {another_program} is in use by another program .*pid {os.getpid()}"
    ):
        ports.require_free("127.0.0.1", another_program, tmp_path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--port", "0"), "'0' is no port: it is a number from 1 to 65535"),
        (("--port", "99999"), "'99999' is no port"),
        (("--port", "x"), "'x' is no port"),
        (("--host", "203.0.113.7"), "it is no address of this machine"),
        (("--host", "no.such.host.invalid"), "it is no address of this machine"),
    ],
)
def test_an_impossible_address_is_one_sentence(other_clone: Path, options: tuple[str, ...], says: str) -> None:
    process = make_server(other_clone, *options)
    said, _ = process.communicate(timeout=60)
    assert process.returncode in (1, 2)
    assert says in said
    assert "Traceback" not in said


def test_only_the_server_that_was_started_counts_as_healthy(server: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(one_machine, "BOOT_S", 2)
    log = tmp_path / "server.log"
    process = one_machine._start([sys.executable, "-c", "import time; time.sleep(60)"], {}, log)
    try:
        with pytest.raises(SystemExit, match="the server did not start"):
            one_machine.wait_until_healthy(server, process, log)
    finally:
        one_machine._end(process)
    assert log.stat().st_mode & 0o777 == 0o600


def worker(tmp_path: Path, script: str) -> one_machine.Worker:
    return one_machine.Worker("cpu", [sys.executable, "-c", script], dict(os.environ), tmp_path / "cpu.log")


def test_a_worker_that_dies_is_started_again(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(one_machine, "AGAIN_S", 0.05)
    kept = worker(tmp_path, "import time; time.sleep(600)")
    kept.tend()
    first = kept.process
    assert first is not None
    first.send_signal(signal.SIGKILL)
    first.wait()
    deadline = time.monotonic() + 20
    while (kept.process in (None, first)) and time.monotonic() < deadline:
        kept.tend()
        time.sleep(0.02)
    assert kept.process is not None
    assert kept.process.poll() is None
    said = "worker   cpu ended (exit code -9); it is started again in 0.05 s\n"
    assert capsys.readouterr().out == said
    assert said in (tmp_path / "cpu.log").read_text()
    kept.end()
    assert kept.process.poll() is not None


def test_a_worker_that_dies_again_and_again_ends_the_server(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(one_machine, "AGAIN_S", 0.0)
    kept = worker(tmp_path, "raise SystemExit(3)")

    def tend() -> None:
        while True:
            kept.tend()
            time.sleep(0.02)

    with pytest.raises(
        SystemExit, match=r"the worker of the pool cpu ended 5 times in a minute: its log is .*cpu\.log"
    ):
        tend()


def test_what_a_dead_worker_left_behind_ends_with_the_server(tmp_path: Path) -> None:
    kept = worker(
        tmp_path, "import subprocess as s, time; print(s.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
    )
    kept.tend()
    wait_for(lambda: (tmp_path / "cpu.log").read_text().strip(), 20, "the worker's child")
    child = int((tmp_path / "cpu.log").read_text())
    assert kept.process is not None
    kept.process.kill()
    kept.process.wait()
    kept.tend()
    assert Path(f"/proc/{child}").exists(), "a night that goes on is not ended by its worker's death"
    kept.end()
    wait_for(lambda: not Path(f"/proc/{child}").exists() or "Z" in state_of(child), 20, "the end of the worker's child")


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_boot_leaves_nothing(other_clone: Path, tmp_path: Path, number: signal.Signals) -> None:
    home = tmp_path / "home"
    process = make_server(other_clone, "--port", str(free_port()), PREFECT_HOME=str(home))
    log = other_clone / ".onestep" / "server" / "server.log"
    wait_for(log.exists, 60, "the server's start")
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == (-number if number == signal.SIGKILL else 0)
    assert "Traceback" not in said
    wait_for(lambda: not with_home(home), 50 if number == signal.SIGKILL else 1, "the end of all processes")


def test_ctrl_c_within_code_that_a_library_runs_by_exec_is_an_end_like_any_other() -> None:
    """Dataclasses are made by exec(); a KeyboardInterrupt in there would end Python by SIGINT, although it is caught."""
    pressed = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(60)"
    script = f"from flows import server; server.serve = lambda *_: exec({pressed!r}); server.main()"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def with_home(home: Path) -> list[int]:
    """The living processes that were started with this folder as Prefect's home."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("PREFECT_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_a_database_that_another_process_holds_is_one_sentence(other_clone: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with closing(sqlite3.connect(home / "prefect.db")) as held:
        held.execute("CREATE TABLE held (x)")
        held.commit()
        held.execute("BEGIN EXCLUSIVE")
        process = make_server(
            other_clone,
            *("--port", str(free_port())),
            PREFECT_HOME=str(home),
            PREFECT_API_DATABASE_CONNECTION_URL=f"sqlite+aiosqlite:///{home}/prefect.db",
        )
        said, _ = process.communicate(timeout=400)
    assert process.returncode == 1
    assert "Traceback" not in said
    assert "another process holds its database" in said
    assert not with_home(home)
