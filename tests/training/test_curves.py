import subprocess
import sys

import pytest

from onestep.training.callbacks.curves import Curves
from onestep.training.trainer import TrainingFailed


def test_a_repository_without_a_commit_is_refused_in_one_sentence(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrainingFailed, match="at least one commit"):
        Curves(tmp_path / "curves").open([])
