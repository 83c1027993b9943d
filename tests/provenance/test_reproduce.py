"""A recorded model comes out again, or it is said how far off it is."""

import json
import math
import platform
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from onestep.provenance import environments, reproduce
from onestep.provenance.distances import metrics_distance, weights_distance
from onestep.provenance.environments import EnvironmentFailed
from onestep.provenance.record import paths, to_statement
from onestep.provenance.reproduce import ReproduceFailed, forced
from onestep.provenance.signing import SigningKey, seal
from onestep.provenance.store import everything, find
from onestep.vcs.project import Project
from tamperings import rewrite_branch
from tests.toy_project import run

META = {"train": {"training": True}}


def quiet(line: str) -> None:
    del line


def test_training_stages_and_what_leads_to_the_metrics_run_again_and_latency_does_not(audited: Path) -> None:
    record = find(Project(audited), "onestep").record
    assert [stage.name for stage in forced(record, META, whole=False)] == ["train", "evaluate"]
    assert [stage.name for stage in forced(record, {}, whole=False)] == ["train", "evaluate"]
    whole = {stage.name for stage in forced(record, META, whole=True)}
    assert whole == {"footage", "ingest", "train", "evaluate"}


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, True])
def test_model_comes_out_identical_and_the_projects_cache_stays_as_it_was(audited: Path, whole: bool) -> None:
    before = sorted(path for path in (audited / ".dvc/cache").rglob("*") if path.is_file())
    status = run(audited, "git", "status", "--porcelain")
    done = reproduce.reproduce(Project(audited), "onestep@v1.0.0", whole=whole, say=quiet)
    assert (done.word, done.exit_code, done.differing) == ("identical", 0, [])
    assert sorted(path for path in (audited / ".dvc/cache").rglob("*") if path.is_file()) == before
    assert run(audited, "git", "status", "--porcelain") == status


@pytest.mark.slow
def test_inputs_come_from_a_remote_where_the_cache_has_none(audited: Path, tmp_path: Path) -> None:
    (audited / ".dvc/config.local").write_text(f"['remote \"storage\"']\n    url = {tmp_path / 'remote'}\n")
    (audited / ".dvc/cache").rename(tmp_path / "remote")
    shutil.rmtree(audited / "data/clips")
    done = reproduce.reproduce(Project(audited), "onestep", say=quiet)
    assert (done.word, done.stages) == ("identical", ["train", "evaluate"])


@pytest.mark.slow
@pytest.mark.parametrize(("wandering", "word", "code"), [("1e-5", "within tolerance", 7), ("1", "different", 8)])
def test_training_that_depends_on_something_unrecorded_is_seen_with_its_distance(
    audited: Path, monkeypatch: pytest.MonkeyPatch, wandering: str, word: str, code: int
) -> None:
    monkeypatch.setenv("WANDERING", wandering)
    done = reproduce.reproduce(Project(audited), "onestep", say=quiet)
    assert (done.word, done.exit_code) == (word, code)
    assert done.differing == ["models/onestep/model.safetensors", "reports/metrics.json"]
    assert 0 < done.weights < 1
    assert done.worst_metric.startswith("models.onestep.accuracy")


@pytest.mark.slow
def test_other_environment_is_said_first_and_is_never_identical(audited: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = environments.installed()
    monkeypatch.setattr(environments, "installed", lambda: versions | {"numpy": "0.0.1"})
    said: list[str] = []
    done = reproduce.reproduce(Project(audited), "onestep", say=said.append)
    assert said[0].startswith("environment: NOT the recorded one")
    assert f"numpy {versions['numpy']} → 0.0.1" in said[0]
    assert (done.word, done.exit_code, done.weights, done.differing) == ("within tolerance", 7, 0.0, [])


def test_stage_that_fails_or_folder_that_is_taken_is_said(audited: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").touch()
    with pytest.raises(ReproduceFailed, match="is not empty"):
        reproduce.reproduce(Project(audited), "onestep", folder=tmp_path / "taken", say=quiet)


def test_distance_of_weights_is_the_largest_relative_one(tmp_path: Path) -> None:
    for name, scale in (("a", 1.0), ("b", 1.01), ("c", 1.0)):
        (tmp_path / name).mkdir()
        tensors = {"x": np.full(4, 2.0), "y": np.full(4, scale)}
        save_file(tensors, tmp_path / name / "model.safetensors")
    assert weights_distance(tmp_path / "a", tmp_path / "b") == pytest.approx(0.01)
    assert weights_distance(tmp_path / "a", tmp_path / "c") == 0.0
    (tmp_path / "c" / "extra.json").write_text("{}")
    assert weights_distance(tmp_path / "a", tmp_path / "c") == math.inf


def test_distance_of_metrics_names_the_worst_number() -> None:
    before = json.dumps({"models": {"a": {"x": 1.0, "y": 2.0}}, "n": 3}).encode()
    after = json.dumps({"models": {"a": {"x": 1.1, "y": 2.0}}, "n": 3}).encode()
    distance, where = metrics_distance(before, after)
    assert distance == pytest.approx(0.1 / 1.1)
    assert where == "models.a.x"
    assert metrics_distance(before, before) == (0.0, "")
    assert metrics_distance(before, b'{"n": 3}')[0] == math.inf
    assert metrics_distance(b'{"low": -4e-06}', b'{"low": -5e-06}') == (0.0, "")  # the last decimal that a report has


def test_requirements_are_the_recorded_versions_without_the_project_or_local_builds() -> None:
    packages = {"numpy": "2.4.0", "onestep": "0.1.0", "torch": "2.13.0+cpu"}
    assert environments.requirements(packages) == "numpy==2.4.0\ntorch==2.13.0\n"


def record_of_another_environment(root: Path, key: SigningKey, **changes: object) -> str:
    """Write other environment into the record of the newest run, signed like the real one; the run's branch."""
    found = everything(Project(root))[-1]
    recorded = found.record.environment.model_copy(update=changes)
    statement = to_statement(found.record.model_copy(update={"environment": recorded}))
    rewrite_branch(root, found.title, paths("onestep")["envelope"], seal(statement, key))
    return found.title


def versions(*names: str) -> dict[str, str]:
    installed = environments.installed()
    return {name: installed[name] for name in names}


@pytest.mark.slow
def test_recorded_environment_is_built_anew_and_the_model_comes_out_of_it_identical(
    audited: Path, key: SigningKey, tmp_path: Path
) -> None:
    branch = record_of_another_environment(audited, key, packages=versions("numpy", "ruamel-yaml", "safetensors"))
    said: list[str] = []
    done = reproduce.reproduce(Project(audited), branch, rebuild=True, folder=tmp_path / "work", say=said.append)
    assert said[0].startswith("building the recorded environment")
    assert said[1:] == ["environment: the recorded one, package for package", "running by force: train, evaluate"]
    assert (done.word, done.exit_code, done.environment, done.differing) == ("identical", 0, [], [])
    assert (tmp_path / "work/environment/bin/python").exists()


@pytest.mark.slow
def test_stages_run_in_the_environment_that_was_built_and_in_no_other(audited: Path, key: SigningKey) -> None:
    branch = record_of_another_environment(audited, key, packages=versions("numpy", "ruamel-yaml"))
    with pytest.raises(ReproduceFailed, match="the stage 'train' failed"):
        reproduce.reproduce(Project(audited), branch, rebuild=True, say=quiet)


@pytest.mark.slow
def test_what_could_not_be_built_as_recorded_is_said_first_and_is_never_identical(
    audited: Path, key: SigningKey
) -> None:
    packages = versions("numpy", "ruamel-yaml", "safetensors")
    branch = record_of_another_environment(audited, key, packages=packages, python="3.11.99")
    said: list[str] = []
    done = reproduce.reproduce(Project(audited), branch, rebuild=True, say=said.append)
    assert said[1].startswith("environment: NOT the recorded one, so 'identical' cannot come of this: python 3.11.99")
    assert said[2].startswith("running by force")
    assert (done.word, done.exit_code, done.weights, done.differing) == ("within tolerance", 7, 0.0, [])
    assert done.environment == [f"python 3.11.99 → {platform.python_version()}"]
    branch = record_of_another_environment(audited, key, packages={"numpy": "0.0.0.1"})
    with pytest.raises(EnvironmentFailed, match=r"numpy==0\.0\.0\.1"):
        reproduce.reproduce(Project(audited), branch, rebuild=True, say=quiet)
