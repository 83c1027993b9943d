"""What a process starts from: whose code, whose name, and how its threads wait."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ONESTEP = [sys.executable, "-m", "onestep.cli"]


def copy_of_the_project(folder: Path) -> Path:
    """The project's code and settings, as in a second working copy."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", folder / "src", ignore=ignored)
    shutil.copyfile(ROOT / "params.yaml", folder / "params.yaml")
    return folder


def ask(folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*ONESTEP, "params"], cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False
    )


def test_second_working_copy_does_not_run_the_code_of_the_first(tmp_path: Path) -> None:
    project = copy_of_the_project(tmp_path / "second")
    assert ask(project).returncode == 0, "the same bytes are as good as its own"
    with (project / "src" / "onestep" / "processes.py").open("a") as code:
        code.write("CHANGED = True\n")
    (project / "data").mkdir()
    for folder in (project, project / "data"):
        refused = ask(folder, PYTHONPATH=str(ROOT / "src"))
        assert refused.returncode == 2
        assert refused.stderr.count("\n") == 1
        assert f"{project} holds its own code" in refused.stderr
    assert ask(project, PYTHONPATH=str(project / "src")).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can become another user")
def test_user_without_a_name_or_a_home_can_work() -> None:
    other = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", sys.executable]
    if subprocess.run([*other, "-c", "import onestep"], capture_output=True, check=False).returncode:
        pytest.skip("another user may not run this Python")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        folder.chmod(0o777)
        _work_without_a_name(other, folder)


def _work_without_a_name(other: list[str], folder: Path) -> None:
    code = "import getpass, pathlib; from onestep.environment import settle; settle(); "
    code += "print(getpass.getuser(), pathlib.Path.home())"
    done = subprocess.run(
        [*other, "-c", code],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"uid-54321 {folder / 'onestep-home-54321'}\n", done.stderr
    assert (folder / "onestep-home-54321").stat().st_mode & 0o777 == 0o700


def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise() -> None:
    code = "from onestep.environment import settle; settle(); import os; print(os.environ['OMP_WAIT_POLICY'])"
    for given, policy in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | given
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == policy
