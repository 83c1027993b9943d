"""DVC's lock table after a kill or a full disk: mended where no process of DVC works in the project, left alone elsewhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from onestep.nightly.doctor import run_checks
from onestep.vcs.graph import changes, plan
from onestep.vcs.project import GraphError, Project
from onestep.vcs.rwlock import mend_rwlock

HALVES = {
    "empty": "",
    "cut off": '{"write": {"/a/b": {"pid": 12',
    "no table of processes": '{"read": {"/a": 3}}',
    "no table": '{"write": 3}',
}


def table(root: Path) -> Path:
    path = root / ".dvc" / "tmp" / "rwlock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@pytest.mark.parametrize("content", HALVES.values(), ids=HALVES)
def test_damaged_table_stops_dvc_and_is_mended_by_whatever_of_ours_opens_the_graph(project: Path, content: str) -> None:
    table(project).write_text(content)
    command = [sys.executable, "-m", "dvc", "repro", "--force", "--single-item", "ingest"]
    refused = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "RWLock-file" in refused.stderr
    assert plan(Project(project))
    assert not table(project).exists() or isinstance(json.loads(table(project).read_text()), dict)
    subprocess.run(command, cwd=project, capture_output=True, check=True)


def test_doctor_says_what_it_mended(project: Path) -> None:
    table(project).write_text("")
    (result,) = [each for each in run_checks(Project(project), "http://127.0.0.1:9/api") if each.name == "rwlock"]
    assert (result.status, "left damaged by a kill or a full disk" in result.found) == ("ok", True)
    assert not table(project).exists()


def test_table_that_a_living_dvc_may_still_use_stays(project: Path) -> None:
    table(project).write_text("")
    script = project / "dvc"
    script.write_text("import time\nprint(1, flush=True)\ntime.sleep(60)\n")
    with subprocess.Popen([sys.executable, str(script)], cwd=project, stdout=subprocess.PIPE) as living:
        assert living.stdout is not None
        living.stdout.readline()
        said = mend_rwlock(project)
        assert said is not None
        assert f"process {living.pid} may still use it" in said
        assert table(project).exists()
        living.kill()
    assert mend_rwlock(project)
    assert not table(project).exists()


def test_entry_whose_number_another_program_has_by_now_does_not_block_for_ever(project: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        taken = {"write": {str(project / "data" / "clips"): {"pid": other.pid, "cmd": "dvc repro"}}, "read": {}}
        table(project).write_text(json.dumps(taken))
        said = mend_rwlock(project)
        other.kill()
    assert said is not None
    assert str(other.pid) in said
    assert not table(project).exists()


def test_table_in_order_is_left_alone(project: Path) -> None:
    held = {"write": {}, "read": {str(project / "make.py"): [{"pid": os.getpid(), "cmd": "a test"}]}}
    for content in ({}, {"write": {}, "read": {}}, held):
        table(project).write_text(json.dumps(content))
        assert mend_rwlock(project) is None
        assert json.loads(table(project).read_text()) == content


@pytest.mark.parametrize(
    ("name", "content"),
    [(".dvc/config.local", b"[core\nremo"), (".dvcignore", b"\xff\n"), ("dvc.lock", b"")],
    ids=["settings", "ignored", "lock"],
)
def test_file_of_dvcs_that_a_kill_cut_off_is_named_with_its_remedy(project: Path, name: str, content: bytes) -> None:
    (project / name).write_bytes(content)
    with pytest.raises(GraphError, match=r"git checkout --|or remove it") as refused:
        changes(Project(project))
    assert str(project / name) in str(refused.value)
