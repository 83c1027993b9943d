"""`make setup`: done once, and again where its virtual environment cannot work; with a Python that notes what it is asked."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYTHON = r"""#!/bin/sh
echo "$*" >> "$LOG"
case "$*" in
  *version_info\[:2\]*) cat "$(dirname "$0")/../../version" ;;
  "-m venv"*) rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
esac
"""


@pytest.fixture(params=["plain", "with a blank"])
def checkout(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path / request.param
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copyfile(ROOT / name, folder / name)
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    return folder


def setup(checkout: Path, **environment: str) -> list[str]:
    """Run `make setup`; what Python was asked to do but to tell its version."""
    log = checkout.parent / "log"
    log.write_text("")
    known = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    done = subprocess.run(
        ["make", "setup", f"PYTHON={checkout.parent / 'python'}"],
        cwd=checkout,
        env=known | {"LOG": str(log)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    asked = [
        line for line in log.read_text().splitlines() if "version_info" not in line and "pip --version" not in line
    ]
    return ["venv" if "venv" in line else "install" for line in asked]


def test_setup_is_done_once_and_again_where_the_environment_cannot_work(checkout: Path) -> None:
    assert setup(checkout) == ["venv", "install", "install"]
    assert setup(checkout) == []
    moved = checkout.rename(checkout.with_name(f"moved {checkout.name}"))
    assert setup(moved) == ["venv", "install", "install"], "its programs name the folder that it was made in"
    assert setup(moved) == []
    (moved / ".venv/bin/python").unlink()
    (moved / ".venv/bin/python").symlink_to("/a/python/that/has/gone")
    (moved / "constraints.txt").touch()
    os.utime(moved / ".venv/.installed", (0, 0))
    assert setup(moved) == ["venv", "install", "install"]


def test_setup_begins_anew_where_the_environments_python_has_become_another(checkout: Path) -> None:
    (checkout / "version").write_text("3.11\n")
    assert setup(checkout) == ["venv", "install", "install"]
    assert setup(checkout) == []
    (checkout / "version").write_text("3.14\n")
    (checkout / ".venv/left").touch()
    assert setup(checkout) == ["venv", "install", "install"]
    assert not (checkout / ".venv/left").exists()


@pytest.mark.skipif(shutil.which("flock") is None, reason="flock is not installed")
def test_of_two_setups_at_once_one_installs(checkout: Path) -> None:
    log = checkout.parent / "log"
    log.write_text("")
    known = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    command = ["make", "setup", f"PYTHON={checkout.parent / 'python'}"]
    both = [subprocess.Popen(command, cwd=checkout, env=known | {"LOG": str(log)}) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert log.read_text().count("-m venv") == 1


@pytest.mark.parametrize(
    ("python", "says"),
    [("/nowhere/python3", "/nowhere/python3 is not installed"), ("false", "false is older than 3.11")],
)
def test_python_that_cannot_serve_is_one_sentence(checkout: Path, python: str, says: str) -> None:
    command = ["make", "setup", f"PYTHON={python}"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert says in done.stderr


def test_checkout_with_a_colon_in_its_path_is_one_sentence(checkout: Path) -> None:
    moved = checkout.rename(checkout.with_name("a:b"))
    done = subprocess.run(["make", "setup"], cwd=moved, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "has a colon" in done.stderr
    assert not (moved / ".venv").exists()


def test_user_without_a_writable_home_gets_one_in_the_checkout(checkout: Path) -> None:
    show = "show:\n\t@echo $(HOME) $(USER) $(OMP_WAIT_POLICY) $(GOMP_SPINCOUNT)\n"
    (checkout / "show.mk").write_text(f"include Makefile\n{show}")
    known = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    command = ["make", "-s", "-f", "show.mk", "show"]
    done = subprocess.run(command, cwd=checkout, env=known, capture_output=True, text=True, check=True)
    assert done.stdout == f"{checkout}/.onestep/home uid-{os.getuid()} PASSIVE 10000\n"
