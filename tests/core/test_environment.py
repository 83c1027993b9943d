"""What a process starts from: whose code, whose name, and how its threads wait."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
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


@contextmanager
def place_of_another_user() -> Iterator[tuple[list[str], Path]]:
    """The beginning of a command line that runs Python as a user without a passwd entry, and a folder of that user's."""
    other = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", sys.executable]
    if subprocess.run([*other, "-c", "import onestep"], capture_output=True, check=False).returncode:
        pytest.skip("another user may not run this Python")
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o777)
        yield other, Path(place)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can become another user")
def test_user_without_a_name_or_a_home_can_work() -> None:
    show = "import getpass, os, pathlib; from onestep.core.environment import settle; settle(); "
    show += "print(getpass.getuser(), pathlib.Path.home(), os.environ.get('HF_HOME'))"
    with place_of_another_user() as (other, folder):
        (folder / "read-only").mkdir(mode=0o755)
        own = folder / "onestep-home-54321"
        for home, expected in (
            (None, f"{own} None"),
            ("/", f"{own} None"),
            ("/nonexistent", f"{own} None"),
            ("relative", f"{own} None"),
            (str(folder / "read-only"), f"{folder / 'read-only'} {own / 'huggingface'}"),
        ):
            known = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(folder)}
            known |= {} if home is None else {"HOME": home}
            command = [*other, "-c", show]
            done = subprocess.run(command, cwd=folder, env=known, capture_output=True, text=True, check=False)
            assert done.stdout == f"uid-54321 {expected}\n", done.stderr
        assert own.stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can become another user")
def test_user_without_a_passwd_entry_runs_the_graph_and_records_it(project: Path) -> None:
    with place_of_another_user() as (other, folder):
        shutil.copytree(project, folder / "project", symlinks=True)
        subprocess.run(["chown", "--recursive", "54321:54321", folder / "project"], check=True)
        known = {"HOME": "/", "DVC_NO_ANALYTICS": "1", "PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(folder)}
        for words in (
            ["-m", "dvc", "repro"],
            ["-m", "onestep.cli", "record"],
            ["-m", "onestep.cli", "doctor"],
        ):
            named = {"USER": "uid-54321"} if "dvc" in words else {}  # as the Makefile does; DVC asks for a name
            environment = known | {"PATH": os.environ["PATH"]} | named
            done = subprocess.run(
                [*other, *words], cwd=folder / "project", env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
        assert "onestep-home-54321 serves instead" in done.stdout


def test_what_a_git_hook_sets_does_not_reach_what_a_command_starts() -> None:
    show = "from onestep.core.environment import settle; settle(); import os; "
    show += "print(sorted(n for n in os.environ if n.startswith('GIT_')))"
    hook = {"GIT_DIR": ".git", "GIT_INDEX_FILE": "x", "GIT_QUARANTINE_PATH": "y", "GIT_FROM_DAYS_TO_COME": "z"}
    kept = {"GIT_SSH_COMMAND": "ssh -v", "GIT_AUTHOR_NAME": "A", "GIT_CONFIG_COUNT": "0", "GIT_TRACE": "0"}
    others = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        [sys.executable, "-c", show], env=others | hook | kept, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(sorted(kept))


def test_auditors_own_code_may_look_at_a_project_with_other_code(tmp_path: Path) -> None:
    from onestep.core.environment import OtherCode, require_own_code

    project = copy_of_the_project(tmp_path / "second")
    (project / "src" / "onestep" / "processes.py").write_text("CHANGED = True\n")
    require_own_code(project, ["lineage", "verify", "onestep"])
    with pytest.raises(OtherCode):
        require_own_code(project, ["consistency"])


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, ["PASSIVE", "10000"]),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ["ACTIVE", "None"]),
        ({"GOMP_SPINCOUNT": "7"}, ["None", "7"]),
    ],
)
def test_threads_spin_only_briefly_unless_the_user_says_otherwise(given: dict[str, str], found: list[str]) -> None:
    show = "print(*(os.environ.get(name) for name in WAITING))"
    code = f"import os; from onestep.core.environment import WAITING, settle; settle(); {show}"
    others = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=others | given, capture_output=True, text=True, check=True)
    assert done.stdout.split() == found
