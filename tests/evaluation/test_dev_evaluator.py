"""What a run sees of its own samples: real clips look good to it, still or equal ones do not."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from onestep.core.storage import sha256_folder
from onestep.data.clips import load_frames, read_index
from onestep.data.latents import LatentSet
from onestep.evaluation.dev_evaluator import dev_measure
from onestep.evaluation.fidelity import Margins
from onestep.evaluation.judge import load_judge
from onestep.models.pipeline import VideoPipeline, load_pipeline
from onestep.training.measurement import Measure
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


def margins_of(judge: Path) -> Margins:
    """Margins of this judge that leave textures as they are."""
    size = 2 * load_judge(judge).assess(np.zeros((1, 13, 64, 64, 3), np.uint8)).patches.shape[-1]
    return Margins(sha256_folder(judge), (13, 64, 64), {}, np.eye(size))


@pytest.fixture(scope="module")
def dev(pipeline, folder) -> LatentSet:
    own = read_index(folder).query("split == 'dev'").reset_index(drop=True)
    captions = list(dict.fromkeys(own.caption))
    rows = own.assign(caption_number=[captions.index(caption) for caption in own.caption])
    states = pipeline.encode_text(captions, 16)
    save_file({"states": states, "empty": states[:1].clone()}, folder / "text.safetensors")
    shape = pipeline.latent_shape(13, 64, 64)
    return LatentSet(folder, rows, {"latent_shape": list(shape)})


@pytest.fixture(scope="module")
def measure(pipeline, folder, judge_folder, dev) -> Measure:
    return dev_measure(pipeline, dev, folder, judge_folder, DEV, 1, margins_of(judge_folder))


def serving(latents: torch.Tensor):
    waiting = list(latents.split(16))
    return lambda noise, text: waiting.pop(0)


def test_real_latents_score_better_than_noise_and_as_high_as_real_clips(measure, real) -> None:
    good, bad = (measure(serving(latents)).metrics for latents in (real, torch.randn_like(real)))
    assert good["frechet_video_distance"] < bad["frechet_video_distance"]
    assert good["patch_frechet_distance"] < bad["patch_frechet_distance"]
    assert good["attribute_accuracy"] > 0.9 > bad["attribute_accuracy"]
    assert good["diversity"] == pytest.approx(1.0, abs=0.1)


def test_one_clip_for_every_caption_has_no_diversity(measure, real) -> None:
    assert measure(serving(real[:1].expand_as(real))).metrics["diversity"] == pytest.approx(0.0, abs=1e-3)


def test_looking_changes_no_random_state_and_gives_the_same_numbers(measure, real) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = measure(serving(real))
    assert torch.equal(torch.rand(3), expected)
    again = measure(serving(real))
    assert first.metrics == again.metrics
    assert all(np.array_equal(first.resampled[name], again.resampled[name]) for name in first.metrics)


def test_every_metric_is_also_measured_on_resampled_prompts_around_its_value(measure, real) -> None:
    seen = measure(serving(real))
    assert seen.resampled.keys() == seen.metrics.keys()
    for name in ("attribute_accuracy", "structural_stability", "motion", "fidelity"):
        assert seen.resampled[name].mean() == pytest.approx(seen.metrics[name], rel=0.1)


def test_fidelity_is_measured_where_the_margins_are_of_this_judge(pipeline, folder, judge_folder, dev, real) -> None:
    fitting = margins_of(judge_folder)
    other = dataclasses.replace(fitting, judge="b" * 64)
    seen = [
        dev_measure(pipeline, dev, folder, judge_folder, DEV, 1, margins)(serving(latents)).metrics
        for margins, latents in ((fitting, real), (fitting, torch.randn_like(real)), (other, real), (None, real))
    ]
    assert seen[0]["fidelity"] > seen[1]["fidelity"]
    assert "fidelity" not in seen[2] | seen[3]
