"""A `VideoPipeline` of a folder does what stock diffusers does with it."""

from pathlib import Path

import pytest
import torch

from onestep.models.pipeline import PipelineError, VideoPipeline, load_pipeline, predict_sample
from tests.tiny import CAPTIONS, FRAMES, SIDE, TOKENS, save_pipeline


@pytest.fixture(scope="module", params=["flow", "sample"])
def pipeline(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> VideoPipeline:
    return load_pipeline(save_pipeline(tmp_path_factory.mktemp("base") / request.param, request.param))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pipeline(tmp_path_factory.mktemp("base") / "flow")


def noise_for(pipeline: VideoPipeline, clips: int) -> torch.Tensor:
    shape = pipeline.latent_shape(FRAMES, SIDE, SIDE)
    return torch.randn((clips, *shape), generator=torch.Generator().manual_seed(3))


def test_text_states_are_those_of_the_stock_pipeline(pipeline: VideoPipeline) -> None:
    prompts = [f"  {CAPTIONS[0]} &amp; so on", CAPTIONS[1]]
    stock, _ = pipeline.stock.encode_prompt(prompts, do_classifier_free_guidance=False, max_sequence_length=TOKENS)
    ours = pipeline.encode_text(prompts, TOKENS)
    assert ours.shape == (2, TOKENS, stock.shape[-1])
    assert torch.equal(ours, stock)
    assert not torch.equal(ours[0], ours[1])


def test_one_step_of_the_scheduler_is_the_sample_that_the_network_sees_in_pure_noise(pipeline: VideoPipeline) -> None:
    noise, text = noise_for(pipeline, 2), pipeline.encode_text(list(CAPTIONS), TOKENS)
    one_step = pipeline.denoise(noise, text, steps=1, guidance=1.0)
    with torch.no_grad():
        seen = predict_sample(pipeline.transformer, noise, torch.ones(2), text, pipeline.form)
    assert torch.allclose(one_step, seen, atol=1e-5)
    assert not torch.allclose(one_step, noise, atol=1e-2)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_several_steps_are_those_of_the_stock_pipeline(pipeline: VideoPipeline, guidance: float) -> None:
    noise, text = noise_for(pipeline, 1), pipeline.encode_text([CAPTIONS[0]], TOKENS)
    ours = pipeline.denoise(noise, text, 4, guidance, pipeline.encode_text([""], TOKENS))
    stock = pipeline.stock(
        CAPTIONS[0], num_inference_steps=4, guidance_scale=guidance, height=SIDE, width=SIDE, num_frames=FRAMES,
        max_sequence_length=TOKENS, latents=noise, output_type="latent",
    ).frames  # fmt: skip
    assert torch.allclose(ours, stock, atol=1e-4)


def test_guidance_without_the_empty_caption_is_refused(pipeline: VideoPipeline) -> None:
    noise, text = noise_for(pipeline, 1), pipeline.encode_text([CAPTIONS[0]], TOKENS)
    with pytest.raises(PipelineError, match="empty caption"):
        pipeline.denoise(noise, text, 1, 4.0)


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 25])
def test_noise_levels_waste_no_step(pipeline: VideoPipeline, steps: int) -> None:
    """The usual shift of 3 leaves the last of two steps almost no noise to remove: a baseline that must lose."""
    levels = pipeline.noise_levels(steps)
    even = [1 - i / steps for i in range(steps)]
    assert levels == pytest.approx(even, abs=0.02)


def test_latents_survive_the_way_there_and_back(pipeline: VideoPipeline) -> None:
    frames = torch.randint(0, 256, (2, FRAMES, SIDE, SIDE, 3), generator=torch.Generator().manual_seed(0))
    latents = pipeline.encode_video(frames.to(torch.uint8).numpy())
    assert latents.shape == (2, *pipeline.latent_shape(FRAMES, SIDE, SIDE))
    decoded = pipeline.decode_video(latents)
    assert decoded.shape == (2, FRAMES, SIDE, SIDE, 3)
    assert (decoded == pipeline.decode_video(latents)).all()


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ((16, SIDE, SIDE), "16 frames cannot be encoded; the nearest legal number is 17"),
        ((FRAMES, 60, SIDE), "height 60 is not a multiple of 16; the nearest is 64"),
        ((FRAMES, SIDE, 7), "width 7 is not a multiple of 16; the nearest is 16"),
    ],
)
def test_sizes_that_would_be_cut_silently_are_refused(
    pipeline: VideoPipeline, size: tuple[int, int, int], reason: str
) -> None:
    with pytest.raises(PipelineError, match=reason):
        pipeline.latent_shape(*size)


def test_a_saved_pipeline_is_the_same_when_it_comes_back(pipeline: VideoPipeline, tmp_path: Path) -> None:
    pipeline.save(tmp_path / "saved", steps=1)
    again = load_pipeline(tmp_path / "saved")
    assert again.record == pipeline.record | {"steps": 1}
    assert again.form == pipeline.form
    noise, text = noise_for(pipeline, 1), pipeline.encode_text([CAPTIONS[0]], TOKENS)
    assert torch.equal(again.denoise(noise, text, 2, 1.0), pipeline.denoise(noise, text, 2, 1.0))


def test_a_text_encoder_whose_embedding_was_not_loaded_is_refused(folder: Path, tmp_path: Path) -> None:
    broken = load_pipeline(folder)
    torch.nn.init.zeros_(broken.stock.text_encoder.get_input_embeddings().weight)
    broken.save(tmp_path / "broken")
    with pytest.raises(PipelineError, match="embedding is all zeros"):
        load_pipeline(tmp_path / "broken")


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"no model_index\.json"):
        load_pipeline(tmp_path)
    (tmp_path / "model_index.json").write_text(
        '{"_class_name": "WanPipeline", "vae": ["diffusers", "AutoencoderKLWan"]}'
    )
    with pytest.raises(PipelineError, match="cannot be loaded as a WanPipeline"):
        load_pipeline(tmp_path)
