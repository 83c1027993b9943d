"""What a run sees of its own samples: real clips look good to it, still or equal ones do not."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from onestep.data.clips import load_frames, read_index
from onestep.data.latents import LatentSet
from onestep.evaluation.development import development_measure
from onestep.models.pipeline import VideoPipeline, load_pipeline
from onestep.training.watch import Measure
from tests.evaluation.made import drawn, write_clips_of

BASE = Path(__file__).parents[2] / "data" / "bundled" / "tiny-wan"
DEV = 10


@pytest.fixture(scope="module")
def pipeline() -> VideoPipeline:
    return load_pipeline(BASE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    frames, rows = drawn(40, seed=7)
    folder = write_clips_of(tmp_path_factory.mktemp("development"), frames, rows, dev=DEV)
    index = pd.read_parquet(folder / "clips.parquet")
    index.loc[index.split == "test", "split"] = "train"
    index.to_parquet(folder / "clips.parquet", index=False)
    return folder


@pytest.fixture(scope="module")
def real(pipeline, folder) -> torch.Tensor:
    own = read_index(folder).query("split == 'dev'")
    return pipeline.encode_video(load_frames(folder, own.clip_id.tolist()))


@pytest.fixture(scope="module")
def measure(pipeline, folder, judge_folder) -> Measure:
    own = read_index(folder).query("split == 'dev'").reset_index(drop=True)
    captions = list(dict.fromkeys(own.caption))
    rows = own.assign(caption_number=[captions.index(caption) for caption in own.caption])
    states = pipeline.encode_text(captions, 16)
    save_file({"states": states, "empty": states[:1].clone()}, folder / "text.safetensors")
    shape = pipeline.latent_shape(13, 64, 64)
    dev = LatentSet(folder, rows, {"latent_shape": list(shape)})
    return development_measure(pipeline, dev, folder, judge_folder, DEV, seed=1)


def serving(latents: torch.Tensor):
    waiting = list(latents.split(16))
    return lambda noise, text: waiting.pop(0)


def test_real_latents_score_better_than_noise_and_as_high_as_real_clips(measure, real) -> None:
    good, bad = measure(serving(real)), measure(serving(torch.randn_like(real)))
    assert good["frechet_video_distance"] < bad["frechet_video_distance"]
    assert good["patch_frechet_distance"] < bad["patch_frechet_distance"]
    assert good["attribute_accuracy"] > 0.9 > bad["attribute_accuracy"]
    assert good["diversity"] == pytest.approx(1.0, abs=0.1)


def test_one_clip_for_every_caption_has_no_diversity(measure, real) -> None:
    assert measure(serving(real[:1].expand_as(real)))["diversity"] == pytest.approx(0.0, abs=1e-3)


def test_looking_changes_no_random_state_and_gives_the_same_numbers(measure, real) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = measure(serving(real))
    assert torch.equal(torch.rand(3), expected)
    assert first == measure(serving(real))
