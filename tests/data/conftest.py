from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from onestep.cli.params import Params, load_params
from onestep.data.ingest import ingest
from onestep.data.ingest_settings import IngestSettings
from onestep.demo import world
from onestep.demo.footage import render_footage
from onestep.demo.settings import FootageSettings
from onestep.media.video import write_video

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def params() -> Params:
    return load_params(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def footage_settings(params: Params) -> FootageSettings:
    return params.footage.model_copy(update={"shots": 20, "evaluation_shots": 8})


@pytest.fixture(scope="session")
def ingest_settings(params: Params) -> IngestSettings:
    return params.ingest.model_copy(update={"workers": 1, "shard_clips": 12})


@pytest.fixture(scope="session")
def footage(tmp_path_factory: pytest.TempPathFactory, footage_settings: FootageSettings) -> Path:
    """A small demo world with all its bad files; read-only for tests."""
    folder = tmp_path_factory.mktemp("world") / "footage"
    render_footage(folder, footage_settings)
    return folder


@pytest.fixture(scope="session")
def clips(footage: Path, ingest_settings: IngestSettings) -> Path:
    """The clips of that footage; read-only for tests."""
    ingest(str(footage), footage.parent / "clips", ingest_settings)
    return footage.parent / "clips"


@pytest.fixture
def team(tmp_path: Path) -> Callable[..., Path]:
    """Makes a team's footage folder from videos by name and the lines of its `metadata.csv`."""

    def make(videos: dict[str, np.ndarray], lines: list[str], fps: int = 12) -> Path:
        folder = tmp_path / "team"
        folder.mkdir(exist_ok=True)
        for name, frames in videos.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_video(frames, folder / name, fps)
        (folder / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return folder

    return make


def shot(words: str, frames: int = 16, side: int = 64, seed: int = 0) -> np.ndarray:
    """Frames of a scene by its words: size, colour, shape, motion and background, with commas between."""
    scene = world.Scene(*(word.strip() for word in words.split(",")))
    return world.draw(scene, frames, side, np.random.default_rng(seed))
