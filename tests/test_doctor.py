import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from onestep import doctor
from onestep.cli import app
from onestep.registry.signing import make_key

NOBODY_HOME = "http://127.0.0.1:9/api"


def states(found: list[doctor.Finding]) -> dict[str, str]:
    return {finding.name: finding.state for finding in found}


@contextmanager
def server(answers: dict[str, object]) -> Iterator[str]:
    """A web server that answers as a Prefect server would."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = json.dumps(answers.get(self.path.removeprefix("/api/"), True)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{web.server_port}/api"
    finally:
        web.shutdown()


def test_every_finding_that_is_not_ok_says_how_to_mend_it(project: Path, remote: Path) -> None:
    found = doctor.examine(project, NOBODY_HOME)
    assert {"python", "git", "repository", "identity", "remote", "disk", "links", "gpu", "keys", "server"} - set(
        states(found)
    ) == {"repository"}
    for finding in found:
        assert finding.state == "ok" or finding.mend, finding
    assert states(found)["remote"] == states(found)["links"] == states(found)["identity"] == "ok"
    assert not list(remote.rglob(".onestep-doctor"))


def test_remote_that_takes_no_data_is_bad(project: Path, remote: Path) -> None:
    remote.write_text("a file where the remote's folder should be")
    (finding,) = [each for each in doctor.examine(project, NOBODY_HOME) if each.name == "remote"]
    assert finding.state == "bad"
    assert "dvc remote modify" in finding.mend


def test_disk_without_room_for_a_run_is_bad(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SPARE_GB", 1e9)
    (finding,) = doctor._disk(project)
    assert finding.state == "bad"


def test_folder_without_a_repository_is_bad_and_the_exit_code_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["doctor", "--server", NOBODY_HOME])
    assert done.exit_code == 1
    assert "has no commit" in done.output
    assert "git init" in done.output


def test_signing_key_that_is_not_there_is_bad_and_one_that_is_there_is_named(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ONESTEP_SIGNING_KEY_FILE", str(project / "no-key"))
    (finding,) = doctor._keys(project)
    assert finding.state == "bad"
    public = make_key(project / "no-key")
    (finding,) = doctor._keys(project)
    assert finding.state == "ok"
    assert public.fingerprint in finding.found


def test_server_without_worker_limit_or_deployment_is_named_and_a_whole_one_is_ok() -> None:
    pools = [{"name": "cpu", "status": "READY"}, {"name": "gpu", "status": "NOT_READY"}]
    with server({"work_pools/filter": pools, "v2/concurrency_limits/filter": [], "deployments/filter": []}) as url:
        found = states(list(doctor._server(url)))
    assert found == {
        "server": "ok",
        "pool cpu": "ok",
        "pool gpu": "bad",
        "limit gpu": "bad",
        "limit attempt": "bad",
        "deployments": "bad",
    }
    whole = {
        "work_pools/filter": [{"name": name, "status": "READY"} for name in ("cpu", "gpu")],
        "v2/concurrency_limits/filter": [{"name": name, "limit": 1} for name in ("gpu", "attempt")],
        "deployments/filter": [{"name": "nightly"}],
    }
    with server(whole) as url:
        assert set(states(list(doctor._server(url))).values()) == {"ok"}
