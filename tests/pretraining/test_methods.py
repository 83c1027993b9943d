"""The bundled models' own training goes through the same loop as every other, a resume included."""

from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKLWan

from onestep.models.pipeline import VideoPipeline
from onestep.pretraining.teacher import TeacherMethod, assemble, build_teacher, build_tokenizer
from onestep.pretraining.vae import VaeMethod, build_vae
from onestep.training.batches import Batches
from onestep.training.plan import Plan, make_trainer
from onestep.training.trainer import Method
from tests.tiny import CAPTIONS, FRAMES, SIDE, VAE, teacher_settings


class Source:
    def __init__(self, *tensors: torch.Tensor) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def batch(self, positions) -> tuple[torch.Tensor, ...]:
        return tuple(tensor[list(positions)] for tensor in self.tensors)


def vae_method() -> tuple[Method, Source]:
    torch.manual_seed(0)
    vae: AutoencoderKLWan = build_vae(VAE)
    pixels = torch.rand(4, 3, FRAMES, SIDE, SIDE) * 2 - 1
    return VaeMethod(vae, VAE, pixels[:2], Accelerator(cpu=True)), Source(pixels)


def teacher_method() -> tuple[Method, Source]:
    settings = teacher_settings("sample")
    networks = build_teacher(settings, VAE.z_dim, len(build_tokenizer()))
    pipeline = VideoPipeline(assemble(networks, build_vae(VAE), "sample"), {})
    networks.train().requires_grad_(True)
    method = TeacherMethod(networks, pipeline, list(CAPTIONS), settings, [CAPTIONS[0]], Accelerator(cpu=True))
    latents = torch.randn(4, *pipeline.latent_shape(FRAMES, SIDE, SIDE))
    return method, Source(latents, torch.tensor([0, 1, 0, 1]))


def trained(make, curves: Path, updates: int) -> dict[str, torch.Tensor]:
    method, source = make()
    method.preview = lambda: torch.zeros(1)
    accelerator = Accelerator(cpu=True)
    plan = Plan(
        stage=make.__name__, request={"a": 1}, updates=updates, samples_every=100, checkpoint_every=2, curves=curves,
        decode=lambda latents: np.zeros((1, 1, 8, 8, 3), np.uint8), captions=["one"],
    )  # fmt: skip
    make_trainer(plan, accelerator).fit(method, Batches(source, 2, accelerator, 0))
    return {name: t for module in method.modules.values() for name, t in module.state_dict().items()}


@pytest.mark.parametrize("make", [vae_method, teacher_method])
def test_a_resumed_run_equals_an_uninterrupted_one(make, tmp_path: Path, monkeypatch) -> None:
    for name in ("whole", "resumed"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    whole = trained(make, Path("curves"), 3)
    monkeypatch.chdir(tmp_path / "resumed")
    original = make

    def interrupted():
        method, source = original()
        update = method.update

        def once(step, batches):
            if step == 2:
                raise KeyboardInterrupt
            return update(step, batches)

        method.update = once
        return method, source

    interrupted.__name__ = make.__name__
    with pytest.raises(KeyboardInterrupt):
        trained(interrupted, Path("curves"), 3)
    assert list(Path(".onestep/resume").rglob("state.json"))
    resumed = trained(make, Path("curves"), 3)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
