import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from onestep.core.paths import PIN
from onestep.core.storage import StorageError, sha256_folder
from onestep.gate.pin import read_pin
from onestep.registry.champion import champion_content, fetch_production
from onestep.registry.merge import merge
from onestep.registry.promotion import promote
from onestep.registry.reconstruct import ReconstructError
from onestep.vcs.project import Project
from tests.pins import FIRST
from tests.toy_project import reproduce, run

Retrain = Callable[..., None]


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_without_a_champion_the_folder_holds_the_marker_alone(project: Path) -> None:
    fetch_production(Project(project), project / PIN, project / "models/production")
    assert files(project / "models/production") == ["champion.json"]
    assert json.loads((project / "models/production/champion.json").read_text()) == champion_content(None)


def test_pinned_champion_comes_out_as_it_was_when_the_workspace_has_moved_on(project: Path, retrain: Retrain) -> None:
    done = promote(Project(project))
    merge(Project(project), done.branch)
    retrain(2)
    out = project / "models/production"
    fetch_production(Project(project), project / PIN, out)
    assert files(out) == ["champion.json", "clips.parquet", "model_index.json", "unet/weights"]
    assert (out / "unet/weights").read_text() == "1"
    assert (project / "models/onestep/unet/weights").read_text() == "2"
    assert json.loads((out / "champion.json").read_text())["champion"]["sha256"] == done.sha256


def test_champion_that_left_the_cache_comes_from_the_remote(project: Path, remote: Path) -> None:
    merge(Project(project), promote(Project(project)).branch)
    shutil.rmtree(project / ".dvc/cache")
    fetch_production(Project(project), project / PIN, project / "out")
    assert (project / "out/unet/weights").read_text() == "1"


def test_champion_that_is_nowhere_is_refused_and_leaves_no_folder(project: Path) -> None:
    merge(Project(project), promote(Project(project)).branch)
    shutil.rmtree(project / ".dvc/cache")
    with pytest.raises(ReconstructError, match=r"onestep@v1\.0\.0 is neither in the cache nor in a remote"):
        fetch_production(Project(project), project / PIN, project / "out")
    assert not (project / "out").exists()


def test_champion_whose_bytes_are_not_the_pinned_ones_is_refused(project: Path) -> None:
    promote(Project(project))
    pin = FIRST | {"champion": {"tag": "onestep@v1.0.0", "sha256": "0" * 64}}
    (project / PIN).write_text(json.dumps(pin))
    with pytest.raises(ReconstructError, match=f"sha256 {sha256_folder(project / 'models/onestep')}, but 000"):
        fetch_production(Project(project), project / PIN, project / "out")


def test_pinned_tag_that_is_not_here_is_named(project: Path) -> None:
    (project / PIN).write_text(json.dumps(FIRST | {"champion": {"tag": "onestep@v7.0.0", "sha256": "0" * 64}}))
    with pytest.raises(ReconstructError, match=r"onestep@v7\.0\.0 is not a tag here: run git fetch --tags"):
        fetch_production(Project(project), project / PIN, project / "out")


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({}, "champion"),
        (FIRST | {"champion": {"tag": "latest", "sha256": "0" * 64}}, "champion.tag"),
        (FIRST | {"extra": 1}, "extra"),
        (FIRST | {"alpha": 1.5}, "alpha"),
        ({k: v for k, v in FIRST.items() if k != "ledger"}, "ledger"),
        (FIRST | {"comparison": "1"}, "comparison"),
        (FIRST | {"comparison": True}, "comparison"),
        (FIRST | {"alpha": float("nan")}, "alpha"),
        (FIRST | {"alpha": "0.01"}, "alpha"),
        (FIRST | {"seed": 10**30}, "seed"),
        (FIRST | {"seed": 99.5}, "seed"),
        (FIRST | {"champion": []}, "champion"),
    ],
)
def test_pin_of_another_shape_is_refused_by_name(tmp_path: Path, content: object, key: str) -> None:
    (tmp_path / "production.json").write_text(json.dumps(content))
    with pytest.raises(StorageError, match=rf"production\.json: {key}: .*onestep ledger offer"):
        read_pin(tmp_path / "production.json")


def test_graph_fetches_its_champion_in_a_stage(project: Path) -> None:
    merge(Project(project), promote(Project(project)).branch)
    command = (
        "from pathlib import Path as P; from onestep.registry.champion import fetch_production as f; "
        "from onestep.vcs.project import Project"
    )
    graph = (project / "dvc.yaml").read_text()
    stage = (
        "  production:\n"
        f"    cmd: python -c \"{command}; f(Project(P()), P('data/production.json'), P('models/production'))\"\n"
        "    deps: [data/production.json]\n"
        "    outs: [models/production]\n"
    )
    (project / "dvc.yaml").write_text(graph.replace("artifacts:", stage + "artifacts:"))
    reproduce(project)
    assert (project / "models/production/unet/weights").read_text() == "1"
    run(project, "git", "diff", "--exit-code", "--", "data/production.json")
