"""A real Prefect server with its scheduler, one for all tests of flows; and projects whose nights can be played."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows import server as one_machine
from onestep.core.paths import SIGNING_KEY
from onestep.provenance.signing import make_key
from tests.flows.asking import artifact, statuses
from tests.night_project import fresh_night_project, write_footage  # noqa: F401
from tests.toy_project import run

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def serving(home: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """A server with its scheduler and triggers; `prefect_test_harness` would do, but its server has neither."""
    settings = {
        **os.environ,
        **one_machine.SETTINGS,
        "PREFECT_HOME": str(home),
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home}/prefect.db",
        "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
    }
    words = ["server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    with one_machine.running(words, settings, home / "server.log") as process:
        one_machine.wait_until_healthy(f"http://127.0.0.1:{port}/api", process, home / "server.log")
        yield process


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API URL of a running server; `ONESTEP_TEST_SERVER` names one that runs already, for those who write tests."""
    if running := os.environ.get("ONESTEP_TEST_SERVER"):
        yield running
        return
    port = free_port()
    with serving(tmp_path_factory.mktemp("prefect"), port):
        yield f"http://127.0.0.1:{port}/api"


@pytest.fixture
def prefect_server(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The server as the one that flows and clients of this test talk to, from here and from child processes."""
    with using(server, monkeypatch, tmp_path / "prefect-client"):
        yield server


@pytest.fixture(scope="session")
def set_up_once(server: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Pools, limits, automation and all deployments on the server."""
    home = tmp_path_factory.mktemp("prefect-set-up")
    one_machine.set_up({**one_machine.SETTINGS, **os.environ, "PREFECT_API_URL": server, "PREFECT_HOME": str(home)})


@pytest.fixture
def deployed(set_up_once: None, prefect_server: str) -> str:
    """The server of this test, with everything on it; a test that changes a deployment puts it back."""
    return prefect_server


@contextmanager
def using(url: str, monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[None]:
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    monkeypatch.setenv("PREFECT_API_URL", url)
    monkeypatch.setenv("PREFECT_HOME", str(home))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'src'}")
    for key, value in one_machine.SETTINGS.items():
        monkeypatch.setenv(key, value)
    with temporary_settings({PREFECT_API_URL: url, PREFECT_HOME: home}):
        yield


@pytest.fixture
def night_project(fresh_night_project: Path, tmp_path: Path) -> Path:  # noqa: F811
    """A project of one's own: footage and remote beside it, main committed, nothing has run."""
    return copy_of(fresh_night_project, tmp_path)


@dataclass(frozen=True)
class Played:
    """A project after a night that many tests start from, and what the night showed; do not change it, copy it."""

    root: Path
    said: str
    stages: dict[str, str]
    decision: dict[str, dict[str, Any]]


def play(root: Path, server: str, **parameters: Any) -> Played:
    from flows.nightly import nightly
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: server}):
        said = nightly(str(root), **parameters)
        return Played(root, said, statuses(), {row["rule"]: row for row in json.loads(artifact("decision"))})


@pytest.fixture(scope="session")
def first_night(fresh_night_project: Path, tmp_path_factory: pytest.TempPathFactory, server: str) -> Played:  # noqa: F811
    """The first night: the first champion."""
    root = copy_of(fresh_night_project, tmp_path_factory.mktemp("first"))
    make_key(root / SIGNING_KEY)
    return play(root, server)


@pytest.fixture(scope="session")
def waiting_night(first_night: Played, tmp_path_factory: pytest.TempPathFactory, server: str) -> Played:
    """The night after, with drifted footage: its candidate may be promoted, and is not yet."""
    root = copy_of(first_night.root, tmp_path_factory.mktemp("waiting"))
    write_footage(root.parent / "footage", 0.9, range(30, 49))
    return play(root, server, promotion="never")


@pytest.fixture(scope="session")
def second_night(waiting_night: Played, tmp_path_factory: pytest.TempPathFactory, server: str) -> Played:
    """And one more night, that promotes what was waiting: the second champion."""
    return play(copy_of(waiting_night.root, tmp_path_factory.mktemp("second")), server)


@pytest.fixture
def after_first_night(first_night: Played, tmp_path: Path) -> Path:
    """A copy of one's own of the project after its first night."""
    return copy_of(first_night.root, tmp_path)


@pytest.fixture
def with_waiting_candidate(waiting_night: Played, tmp_path: Path) -> Path:
    """A copy of one's own of the project whose second candidate waits for its promotion."""
    return copy_of(waiting_night.root, tmp_path)


@pytest.fixture
def after_second_night(second_night: Played, tmp_path: Path) -> Path:
    """A copy of one's own of the project with two registered versions."""
    return copy_of(second_night.root, tmp_path)


def copy_of(project: Path, folder: Path) -> Path:
    """A copy of project, footage and remote, its import and its remote pointing at the copies."""
    for name in ("project", "footage", "remote"):
        if (project.parent / name).exists():
            shutil.copytree(project.parent / name, folder / name, symlinks=True)
    root = folder / "project"
    old, new = str(project.parent), str(folder)
    for name in (".dvc/config", "data/footage.dvc"):
        path = root / name
        path.write_text(path.read_text().replace(old, new))
    run(root, "git", "commit", "--quiet", "--all", "--message", "Footage and remote have moved")
    return root
