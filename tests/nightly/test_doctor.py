import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from onestep.cli.entry import app
from onestep.nightly.checks import machine, repository
from onestep.nightly.checks.result import CheckResult
from onestep.nightly.checks.server import server as server_checks
from onestep.nightly.doctor import run_checks
from onestep.provenance.signing import make_key
from onestep.vcs.project import Project
from tests.toy_project import run

NO_SERVER = "http://127.0.0.1:9/api"


def statuses(found: list[CheckResult]) -> dict[str, str]:
    return {result.name: result.status for result in found}


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


def test_every_result_that_is_not_ok_has_its_remedy(project: Path, remote: Path) -> None:
    found = run_checks(Project(project), NO_SERVER)
    assert {"python", "git", "repository", "identity", "remote", "disk", "links", "gpu", "keys", "server"} - set(
        statuses(found)
    ) == {"repository"}
    for result in found:
        assert result.status == "ok" or result.remedy, result
    assert statuses(found)["remote"] == statuses(found)["links"] == statuses(found)["identity"] == "ok"
    assert not list(remote.rglob(".onestep-doctor"))


def test_remote_that_takes_no_data_is_bad(project: Path, remote: Path) -> None:
    remote.write_text("a file where the remote's folder should be")
    (result,) = [each for each in run_checks(Project(project), NO_SERVER) if each.name == "remote"]
    assert result.status == "error"
    assert "dvc remote modify" in result.remedy


def test_disk_without_room_for_a_run_is_bad(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SPARE_GB", 1e9)
    (result,) = machine.disk(Project(project))
    assert result.status == "error"


def test_folder_without_a_repository_is_bad_and_the_exit_code_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["doctor", "--server", NO_SERVER])
    assert done.exit_code == 1
    assert "is not in a git repository" in done.output
    assert "-> git init, git add --all and git commit there" in done.output


def test_repository_of_another_user_is_bad_with_the_command_that_allows_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    (result,) = [each for each in repository.git(Project(project)) if each.name == "repository"]
    assert result.status == "error"
    assert result.remedy.startswith(f"git config --global --add safe.directory '{project}'")


def test_converted_line_ends_are_bad_until_the_remedy_that_is_named_was_typed(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def line_ends() -> CheckResult:
        return next(each for each in repository.git(Project(project)) if each.name == "line ends")

    run(project, "git", "add", "--all")
    run(project, "git", "commit", "--quiet", "--message", "A run")
    before = (project / "params.yaml").read_bytes()
    assert line_ends().status == "ok"
    run(project, "git", "config", "core.autocrlf", "true")
    (project / "params.yaml").unlink()
    run(project, "git", "checkout", "--", "params.yaml")
    assert (project / "params.yaml").read_bytes() != before
    assert line_ends().status == "error"
    write, remove = line_ends().remedy.split(", commit it, then ")
    run(project, "sh", "-c", write)
    run(project, "git", "add", ".gitattributes")
    run(project, "git", "commit", "--quiet", "--message", "Bytes")
    run(project, "sh", "-c", remove)
    assert line_ends().status == "ok"
    assert (project / "params.yaml").read_bytes() == before


def test_git_killed_while_it_held_the_index_and_code_of_another_checkout_are_named(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / ".git" / "index.lock").touch()
    assert statuses(list(repository.git(Project(project))))["index"] == "error"
    (project / "src" / "onestep").mkdir(parents=True)
    (project / "src" / "onestep" / "__init__.py").touch()
    (result,) = machine.code(Project(project))
    assert result.status == "error"
    assert f"{project} holds its own code" in result.found


def test_signing_key_that_is_not_there_is_bad_and_one_that_is_there_is_named(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ONESTEP_SIGNING_KEY_FILE", str(project / "no-key"))
    (result,) = repository.keys(Project(project))
    assert result.status == "error"
    public = make_key(project / "no-key")
    (result,) = repository.keys(Project(project))
    assert result.status == "ok"
    assert public.fingerprint in result.found


def test_server_without_worker_limit_or_deployment_is_named_and_a_whole_one_is_ok() -> None:
    pools = [{"name": "cpu", "status": "READY"}, {"name": "gpu", "status": "NOT_READY"}]
    with server({"work_pools/filter": pools, "v2/concurrency_limits/filter": [], "deployments/filter": []}) as url:
        found = statuses(list(server_checks(url)))
    assert found == {
        "server": "ok",
        "pool cpu": "ok",
        "pool gpu": "error",
        "limit gpu": "error",
        "limit trial": "error",
        "deployments": "error",
    }
    whole = {
        "work_pools/filter": [{"name": name, "status": "READY"} for name in ("cpu", "gpu")],
        "v2/concurrency_limits/filter": [{"name": name, "limit": 1} for name in ("gpu", "trial")],
        "deployments/filter": [{"name": "nightly"}],
    }
    with server(whole) as url:
        assert set(statuses(list(server_checks(url))).values()) == {"ok"}
