"""A second family of base models goes through everything that is written for any family."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from onestep.models import pipeline as pipelines
from onestep.models.depth import repeat_blocks, untie
from onestep.models.discriminator import Discriminator
from onestep.models.pipeline import PipelineError, VideoPipeline, load_pipeline, predict_sample
from onestep.training.adversarial import train_adversarial
from onestep.training.distillation import train_consistency
from tests.models.ltx import FRAMES, SIDE, Ltx, tiny_ltx
from tests.tiny import CAPTIONS, TOKENS, save_latents
from tests.training.conftest import ADVERSARIAL, CONSISTENCY


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a new family needs beside its own module."""
    monkeypatch.setitem(pipelines.FAMILIES, "LTXPipeline", Ltx())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    record = {"frames": FRAMES, "height": SIDE, "width": SIDE, "fps": 12.0, "text_tokens": TOKENS}
    VideoPipeline(tiny_ltx(), record).save(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def pipeline(folder: Path) -> VideoPipeline:
    return load_pipeline(folder)


def noise_for(pipeline: VideoPipeline, clips: int) -> torch.Tensor:
    shape = pipeline.latent_shape(FRAMES, SIDE, SIDE)
    return torch.randn((clips, *shape), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("steps", "guidance"), [(1, 1.0), (4, 1.0), (4, 3.0)])
def test_samples_are_those_of_the_stock_pipeline(pipeline: VideoPipeline, steps: int, guidance: float) -> None:
    noise, empty = noise_for(pipeline, 1), pipeline.encode_text([""], TOKENS)
    ours = pipeline.denoise(noise, pipeline.encode_text([CAPTIONS[0]], TOKENS), steps, guidance, empty)
    stock = pipeline.stock(
        CAPTIONS[0], num_inference_steps=steps, guidance_scale=guidance, height=SIDE, width=SIDE, num_frames=FRAMES,
        frame_rate=25, max_sequence_length=TOKENS, latents=pipeline.stock._pack_latents(noise), output_type="latent",
    ).frames  # fmt: skip
    assert torch.allclose(ours, pipeline.stock._unpack_latents(stock, *noise.shape[2:]), atol=1e-4)
    assert not torch.allclose(ours, noise, atol=1e-2)


def test_one_step_is_the_sample_that_the_network_sees_in_pure_noise(pipeline: VideoPipeline) -> None:
    noise, text = noise_for(pipeline, 2), pipeline.encode_text(list(CAPTIONS), TOKENS)
    with torch.no_grad():
        seen = predict_sample(pipeline.transformer, noise, torch.ones(2), text, pipeline.form)
    assert torch.allclose(pipeline.denoise(noise, text, 1, 1.0), seen, atol=1e-5)


def test_clips_become_latents_and_clips_again(pipeline: VideoPipeline) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, FRAMES, SIDE, SIDE, 3)).astype(np.uint8)
    latents = pipeline.encode_video(frames)
    assert latents.shape == (2, *pipeline.latent_shape(FRAMES, SIDE, SIDE))
    assert pipeline.decode_video(latents).shape == frames.shape


def test_a_size_that_its_strides_do_not_divide_is_refused(pipeline: VideoPipeline) -> None:
    with pytest.raises(PipelineError, match="6 frames cannot be encoded; the nearest legal number is 5"):
        pipeline.latent_shape(6, SIDE, SIDE)
    with pytest.raises(PipelineError, match="height 36 is not a multiple of 8; the nearest is 32"):
        pipeline.latent_shape(FRAMES, 36, SIDE)


def test_a_deeper_student_starts_as_the_function_of_the_shallow_one(pipeline: VideoPipeline, tmp_path: Path) -> None:
    noise, text = noise_for(pipeline, 2), pipeline.encode_text(list(CAPTIONS), TOKENS)
    before = pipeline.denoise(noise, text, 2, 1.0)
    repeat_blocks(pipeline.transformer, pipeline.family, 2, tied=False)
    untie(pipeline.transformer, pipeline.family)
    pipeline.save(tmp_path / "deep")
    deep = load_pipeline(tmp_path / "deep")
    assert len(deep.transformer.transformer_blocks) == 4
    torch.testing.assert_close(deep.denoise(noise, text, 2, 1.0), before)


def test_its_transformer_is_a_discriminator_with_a_logit_per_latent_frame(pipeline: VideoPipeline) -> None:
    backbone = copy.deepcopy(pipeline.transformer).train()
    discriminator = Discriminator(backbone, pipeline.family, [0.5, 1.0], frame_logits=True)
    x, t, text = noise_for(pipeline, 2), torch.tensor([0.2, 0.8]), pipeline.encode_text(list(CAPTIONS), TOKENS)
    logits = discriminator(x, t, text)
    assert logits.shape == (2, 1 + x.shape[2])
    logits.sum().backward()
    assert all(p.grad is not None for p in discriminator.parameters() if p.requires_grad)
    for changed in ((x + 0.1, t, text), (x, t + 0.1, text), (x, t, text.flip(0))):
        assert not torch.allclose(discriminator(*changed), logits)


def test_both_training_stages_make_a_stock_folder_of_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    latents = save_latents(tmp_path / "latents", folder)
    muon = CONSISTENCY.model_copy(update={"optimizer": "muon", "depth_repeats": 2})
    train_consistency(latents, folder, tmp_path / "student", tmp_path / "curves", muon)
    train_adversarial(
        latents, folder, tmp_path / "student", tmp_path / "onestep", tmp_path / "discriminator", tmp_path / "curves-2",
        ADVERSARIAL,
    )  # fmt: skip
    made = load_pipeline(tmp_path / "onestep")
    assert made.record["steps"] == 1
    noise, text = noise_for(made, 2), made.encode_text(list(CAPTIONS), TOKENS)
    assert torch.isfinite(made.denoise(noise, text, 1, 1.0)).all()


def test_a_family_that_is_not_known_is_refused_with_those_that_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(pipelines.FAMILIES, "LTXPipeline")
    with pytest.raises(PipelineError, match="is a pipeline of the class LTXPipeline; known are WanPipeline"):
        load_pipeline(folder)
