"""What a stage sees of the environment of the process that started it."""

import os
import sys
from pathlib import Path

import pytest
from flows.stages import StageFailed, environment, live
from typer.testing import CliRunner

from onestep.cli.entry import app
from onestep.core.child_environment import FLOW_RUN, KEY_FILE, KEY_TEXT, drop_signing_key, for_child
from onestep.provenance.check_verdict import audited_environment as audited

KEPT = {
    "HOME": "/home/x",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "OMP_NUM_THREADS": "2",
    "CUDA_VISIBLE_DEVICES": "0",
    "HF_TOKEN": "hf",
    "AWS_SECRET_ACCESS_KEY": "aws",
    "AZURE_STORAGE_CONNECTION_STRING": "azure",
    "GOOGLE_APPLICATION_CREDENTIALS": "/g.json",
    "DVC_NO_ANALYTICS": "1",
    "https_proxy": "http://proxy",
    "SSL_CERT_FILE": "/ca.pem",
    "LD_LIBRARY_PATH": "/cuda",
    "ONESTEP_SOMETHING": "1",
    FLOW_RUN: "a-run",
}
HIDDEN = {
    KEY_TEXT: "the key",
    KEY_FILE: "/key",
    "PREFECT_API_KEY": "pnu",
    "PREFECT_API_DATABASE_CONNECTION_URL": "postgresql://u:p@h/d",
    "SLACK_WEBHOOK": "https://hooks",
    "SENDGRID_API_KEY": "SG",
    "GITHUB_TOKEN": "ghp",
    "MY_VARIABLE": "1",
    "GIT_DIR": "/other/.git",
}


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (KEPT | HIDDEN).items():
        monkeypatch.setenv(name, value)


def printed(root: Path, named: list[str] | None = None) -> list[str]:
    """The names of the variables, as a command of a stage prints them."""
    return list(live([sys.executable, "-c", "import os; print(*os.environ, sep=chr(10))"], root, named=named or []))


@pytest.mark.usefixtures("full")
def test_a_stage_sees_what_it_needs_and_no_credentials_of_its_scheduler(tmp_path: Path) -> None:
    seen = printed(tmp_path)
    assert not {*HIDDEN} & {*seen}
    assert {*KEPT} <= {*seen}
    assert "MY_VARIABLE" in printed(tmp_path, ["MY_VARIABLE"])
    assert environment(tmp_path)["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


def test_what_a_stage_says_is_logged_without_secrets(tmp_path: Path) -> None:
    script = "print('fetching https://user:pw@host/x?sig=1'); print('password: hunter2'); raise SystemExit(3)"
    with pytest.raises(StageFailed, match="its last line: password: …"):
        list(live([sys.executable, "-c", script], tmp_path))
    assert [*live([sys.executable, "-c", script.removesuffix(" raise SystemExit(3)")], tmp_path)] == [
        "fetching https://host/x",
        "password: …",
    ]


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("named", [[KEY_TEXT], [KEY_FILE], ["A B"], [7], "MY_VARIABLE=1"])
def test_a_stage_cannot_ask_for_the_signing_key(tmp_path: Path, named) -> None:
    with pytest.raises(StageFailed, match=r"^dvc\.yaml: meta\.environment of a stage: "):
        environment(tmp_path, named)


@pytest.mark.usefixtures("full")
def test_an_auditors_children_see_no_more(tmp_path: Path) -> None:
    assert not {*HIDDEN} & {*audited(tmp_path)}
    assert audited(tmp_path, named=["MY_VARIABLE"])["MY_VARIABLE"] == "1"


@pytest.mark.usefixtures("full")
def test_a_stage_typed_by_hand_lets_go_of_the_signing_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    CliRunner().invoke(app, ["record"])
    assert os.environ[KEY_TEXT] == "the key", "a command that signs keeps it"
    CliRunner().invoke(app, ["params", "nothing.yaml"])
    assert KEY_TEXT not in os.environ
    assert KEY_FILE not in os.environ


def test_what_is_asked_for_and_absent_is_left_out() -> None:
    there = {"PATH": "/bin", KEY_TEXT: "x"}
    assert for_child(["ABSENT"], there) == {"PATH": "/bin"}
    drop_signing_key(there)
    assert there == {"PATH": "/bin"}
