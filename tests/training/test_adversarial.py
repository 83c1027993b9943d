import copy
from pathlib import Path

import pytest
import torch

from onestep.models.pipeline import load_pipeline
from onestep.training.accelerator import make_accelerator
from onestep.training.adversarial import Adversarial
from onestep.training.adversarial_settings import AdversarialSettings
from onestep.training.batches import Batches, seeded
from onestep.training.stage import open_stage
from tests.training.conftest import ADVERSARIAL


def make(base: Path, latents: Path, settings: AdversarialSettings = ADVERSARIAL) -> tuple[Adversarial, Batches]:
    stage = open_stage("adversarial", latents, {"base": base}, settings, Path("curves"))
    accelerator = make_accelerator("fp32", settings.accumulate)
    student = load_pipeline(base)
    preview = stage.preview(student, seeded(0))
    captions = stage.training.text(sorted(set(stage.training.rows.caption)))
    method = Adversarial(student, load_pipeline(base), settings, accelerator, preview, captions)
    return method, Batches(stage.training, settings.batch, accelerator, settings.seed)


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return copy.deepcopy(module.state_dict())


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_generator_gets_gradient_through_discriminator(base: Path, latents: Path) -> None:
    method, batches = make(base, latents)
    loss, _ = method.generator_step(*batches(0, 0, 1))
    loss.backward()
    gradients = {name: p.grad for name, p in method.modules["generator"].named_parameters()}
    assert all(g is not None and g.abs().sum() > 0 for n, g in gradients.items() if n.startswith("blocks"))
    assert all(p.grad is None for p in method.modules["discriminator"].parameters())


def test_discriminator_step_gives_no_gradient_to_the_generator(base: Path, latents: Path) -> None:
    method, batches = make(base, latents)
    loss, _ = method.discriminator_step(*batches(0, 0, 1))
    loss.backward()
    assert all(p.grad is None for p in method.modules["generator"].parameters())
    trained = [p for p in method.modules["discriminator"].parameters() if p.requires_grad]
    assert all(p.grad is not None for p in trained)


def test_each_step_moves_its_own_model_alone(base: Path, latents: Path) -> None:
    method, batches = make(base, latents, ADVERSARIAL.model_copy(update={"discriminator_warmup": 1}))
    generator, discriminator = weights(method.modules["generator"]), weights(method.modules["discriminator"])
    numbers = method.update(0, batches)
    assert "generator_loss" not in numbers
    assert same(generator, weights(method.modules["generator"]))
    assert not same(discriminator, weights(method.modules["discriminator"]))
    discriminator = weights(method.modules["discriminator"])
    method._step(method.generator_step, method.g_optimizer, 1, batches, False)
    assert same(discriminator, weights(method.modules["discriminator"]))
    assert not same(generator, weights(method.modules["generator"]))


def test_penalties_see_their_own_perturbed_copy(base: Path, latents: Path) -> None:
    method, batches = make(base, latents)
    _, numbers = method.discriminator_step(*batches(0, 0, 1))
    assert numbers["penalty_r1"] > 0
    assert numbers["penalty_r2"] > 0
    none, _ = make(base, latents, ADVERSARIAL.model_copy(update={"r1": 0.0, "r2": 0.0}))
    assert "penalty_r1" not in none.discriminator_step(*batches(0, 0, 1))[1]


def test_a_stronger_penalty_raises_the_loss_by_its_share(base: Path, latents: Path) -> None:
    settings = ADVERSARIAL.model_copy(update={"r2": 0.0, "centring": 0.0})
    method, batches = make(base, latents, settings)
    one, numbers = method.discriminator_step(*batches(0, 0, 1))
    method.settings = settings.model_copy(update={"r1": 3.0})
    three, _ = method.discriminator_step(*batches(0, 0, 1))
    assert (three - one).item() == pytest.approx(2 * numbers["penalty_r1"], rel=1e-3)


def test_accumulated_micro_batches_make_one_optimiser_step(base: Path, latents: Path) -> None:
    method, batches = make(base, latents, ADVERSARIAL.model_copy(update={"accumulate": 2, "discriminator_warmup": 0}))
    method.update(0, batches)
    steps = {int(entry["step"]) for entry in method.optimizers["discriminator"].state.values()}
    assert steps == {1}


def test_images_come_before_video_and_the_discriminator_starts_again(base: Path, latents: Path) -> None:
    method, batches = make(
        base, latents, ADVERSARIAL.model_copy(update={"image_updates": 2, "discriminator_warmup": 0})
    )
    shapes = []
    original = method.discriminator_step

    def spy(x, text, random):
        shapes.append(x.shape[2])
        return original(x, text, random)

    method.discriminator_step = spy
    backbone = weights(method.backbone)
    for step in (0, 1):
        method.update(step, batches)
    method._enter_video()
    assert same(dict(backbone), weights(method.modules["discriminator"].backbone))
    assert not method.optimizers["discriminator"].state
    method.update(2, batches)
    assert shapes == [1, 1, 2]
