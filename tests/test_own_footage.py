"""A team's footage, with captions and no attributes, in the place of the demo world: as docs/your-own-footage.md has it."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest

from onestep.demo import world
from onestep.media.video import write_video
from onestep.vcs.graph import plan
from onestep.vcs.project import Project
from tests.small_project import command, make_project, run_here
from tests.tiny import FRAMES, SIDE

PAGE = Path(__file__).parents[1] / "docs" / "your-own-footage.md"
VIDEOS = 30
SMALL = {
    "ingest": {"test_share": 0.4, "dev_share": 0.2},
    "validate": {"min_train_clips": 4, "min_test_clips": 6},
}


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a team's videos and their `metadata.csv` of file names and captions."""
    folder = tmp_path_factory.mktemp("team") / "footage"
    (folder / "takes").mkdir(parents=True)
    rng = np.random.default_rng(4)
    scenes = [scene for scene in world.scenes() if scene.motion == "sliding left"]
    lines = ["file_name,caption"]
    for number in range(VIDEOS):
        scene = scenes[number * len(scenes) // VIDEOS]
        write_video(world.draw(scene, FRAMES + 4, SIDE, rng), folder / "takes" / f"{number:02d}.mp4", 12)
        lines.append(f"takes/{number:02d}.mp4,our {scene.colour} {scene.shape} on its way home")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def import_footage(root: Path, url: str) -> None:
    """What the page says to type, with another URL."""
    scheme = "s3" if url.startswith("s3://") else "file"
    example = {"s3": "s3://our-bucket/our-footage", "file": "/data/our-footage"}[scheme]
    block = next(text for text in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL) if f" {example} " in text)
    for line in block.splitlines():
        command(root, *(url if word == example else word for word in shlex.split(line)))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project", "flow", **SMALL)


def run_by_dvc(root: Path) -> None:
    command(root, "dvc", "repro")


@pytest.mark.parametrize(
    "run", [pytest.param(run_here, id="here"), pytest.param(run_by_dvc, id="by dvc", marks=pytest.mark.slow)]
)
def test_footage_with_captions_alone_reaches_a_verdict_that_names_what_it_could_not_measure(
    project: Path, team: Path, run: Callable[[Path], None]
) -> None:
    import_footage(project, str(team))
    run(project)

    index = pd.read_parquet(project / "data" / "clips" / "clips.parquet")
    assert len(index) == VIDEOS
    assert not set(world.ATTRIBUTES) & set(index.columns)
    assert index.groupby("split").size().min() >= 4
    assert index.caption.str.startswith("our ").all()

    metrics = json.loads((project / "reports" / "metrics.json").read_text())
    assert "attribute_accuracy" not in metrics["models"]["onestep"]
    assert {"frechet_video_distance", "structural_stability", "motion"} <= set(metrics["models"]["onestep"])

    verdict = json.loads((project / "reports" / "verdict.json").read_text())
    assert verdict["verdict"] in ("promote", "hold", "reject")
    assert "no attribute columns" in verdict["unmeasured"]["attribute_accuracy"]
    assert "evaluate.text_model" in verdict["unmeasured"]["text_alignment"]
    outcomes = {rule["name"]: rule["outcome"] for rule in verdict["rules"]}
    assert outcomes["validation"] == "passed"
    assert outcomes["better than teacher-1: attribute_accuracy"] == "unmeasured"
    assert outcomes["better than teacher-1: frechet_video_distance"] in ("passed", "held", "failed")
    assert "our " in (project / "reports" / "report.html").read_text()


def test_the_imported_footage_takes_the_place_of_a_rendered_demo_world(project: Path, team: Path) -> None:
    run_here(project, "footage")
    assert (project / "data" / "footage" / "shots").is_dir()
    before = {stage.name for stage in plan(Project(project))}
    import_footage(project, str(team))
    assert {stage.name for stage in plan(Project(project))} == before - {"footage"}
    assert not (project / "data" / "footage" / "shots").exists()
    assert (project / "data" / "footage" / "metadata.csv").read_text() == (team / "metadata.csv").read_text()


def test_footage_that_grows_is_seen_after_an_update(project: Path, team: Path, tmp_path: Path) -> None:
    shutil.copytree(team, tmp_path / "growing")
    import_footage(project, str(tmp_path / "growing"))
    (tmp_path / "growing" / "metadata.csv").write_text("file_name,caption\ntakes/00.mp4,only this\n")
    assert len((project / "data" / "footage" / "metadata.csv").read_text().splitlines()) == VIDEOS + 1
    command(project, "dvc", "update", "data/footage.dvc")
    assert "only this" in (project / "data" / "footage" / "metadata.csv").read_text()


def test_footage_comes_from_a_bucket(project: Path, team: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        bucket = fsspec.filesystem("s3", skip_instance_cache=True)
        bucket.mkdir("our-bucket")
        bucket.put(str(team), "our-bucket/our-footage", recursive=True)
        import_footage(project, "s3://our-bucket/our-footage")
    finally:
        server.stop()
    for path in team.rglob("*.*"):
        assert (project / "data" / "footage" / path.relative_to(team)).read_bytes() == path.read_bytes()
