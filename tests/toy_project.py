"""A real git and DVC project in miniature: clips, a model, a verdict, a local remote."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from onestep.vcs.project import Project
from tests.pins import FIRST

if TYPE_CHECKING:
    from dvc.repo import Repo

GRAPH = """
stages:
  ingest:
    cmd: python make.py ingest data/clips
    deps: [make.py]
    outs: [data/clips]
  train:
    cmd: python make.py train data/clips models/onestep
    deps: [make.py, data/clips]
    params: [learning_rate]
    outs: [models/onestep]
  gate:
    cmd: python make.py gate models/onestep reports
    deps: [make.py, models/onestep, data/production.json]
    params: [verdict]
    outs:
      - reports/metrics.json: {cache: false}
      - reports/verdict.json: {cache: false}
artifacts:
  onestep: {path: models/onestep, type: model}
  clips: {path: data/clips, type: dataset}
"""

MAKE = """
import json, sys
from pathlib import Path

stage, *paths = sys.argv[1:]
out = Path(paths[-1])
out.mkdir(parents=True, exist_ok=True)
params = dict(line.split(": ") for line in Path("params.yaml").read_text().splitlines())
print(stage, "works", flush=True)
if stage == "ingest":
    (out / "clips.parquet").write_text("clip_id")
elif stage == "train":
    (out / "model_index.json").write_text("{}")
    (out / "unet").mkdir()
    (out / "unet" / "weights").write_text(params["learning_rate"])
else:
    (out / "metrics.json").write_text(json.dumps({"models": {}}))
    verdict = params["verdict"]
    outcome = {"promote": "passed", "hold": "held"}.get(verdict, "failed")
    rules = [{"name": "prompts", "outcome": outcome, "reason": "because"}]
    (out / "verdict.json").write_text(json.dumps({"verdict": verdict, "reason": "because", "rules": rules}))
"""


def run(root: Path, *command: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, check=False, env={**os.environ, **(env or {})}
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@contextlib.contextmanager
def started(root: Path) -> Iterator["Repo"]:
    """A git and DVC project around the files in `root`; what is there when the block ends is its first commit on main."""
    from dvc.repo import Repo

    (root / "data").mkdir(exist_ok=True)
    (root / "data" / "production.json").write_text(json.dumps(FIRST))
    run(root, "git", "init", "--quiet", "--initial-branch=main")
    run(root, "git", "config", "user.name", "A Person")
    run(root, "git", "config", "user.email", "person@example.org")
    with Repo.init(str(root)) as repo:
        yield repo
    run(root, "git", "add", "--all")
    run(root, "git", "commit", "--quiet", "--message", "Start")


def reproduce(root: Path, target: str | None = None) -> None:
    """`dvc repro` without the seconds that a new process takes to import DVC."""
    from dvc.repo import Repo

    with contextlib.chdir(root), Repo() as repo:
        repo.reproduce(target)


def offer(root: Path) -> None:
    """Enter the next comparison in the ledger, by the shipped rules, and pin it."""
    from onestep.cli.params import load_params
    from onestep.registry import trials

    trials.offer(Project(root), load_params(Path(__file__).parents[1] / "params.yaml").gate, None)


def use_tools_of_this_environment(patched: pytest.MonkeyPatch) -> None:
    patched.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    patched.setenv("DVC_NO_ANALYTICS", "1")


@pytest.fixture(autouse=True)
def tools_of_this_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tools_of_this_environment(monkeypatch)


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("template") / "project"
    root.mkdir()
    (root / "dvc.yaml").write_text(GRAPH)
    (root / "make.py").write_text(MAKE)
    (root / "params.yaml").write_text("learning_rate: 1\nverdict: promote\n")
    (root / "notes.txt").write_text("mine\n")
    with started(root):
        pass
    with pytest.MonkeyPatch.context() as patched:
        use_tools_of_this_environment(patched)
        reproduce(root)
    return root


@pytest.fixture
def project(finished_project: Path, tmp_path: Path) -> Path:
    """A project whose graph has run; nothing of the run is committed yet."""
    root = tmp_path / "project"
    shutil.copytree(finished_project, root, symlinks=True)
    return root


@pytest.fixture
def remote(project: Path, tmp_path: Path) -> Path:
    """A local DVC remote of the project."""
    storage = tmp_path / "remote"
    run(project, "dvc", "remote", "add", "--quiet", "--default", "storage", str(storage))
    return storage


@pytest.fixture
def retrain(project: Path) -> Callable[[int], None]:
    """Train again with another setting, from `dvc repro`; `offered` as the ledger's next comparison."""

    def train(learning_rate: int, verdict: str = "promote", offered: bool = False) -> None:
        (project / "params.yaml").write_text(f"learning_rate: {learning_rate}\nverdict: {verdict}\n")
        if offered:
            offer(project)
        reproduce(project)

    return train
