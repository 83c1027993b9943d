import copy
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from onestep.training.accelerator import make_accelerator
from onestep.training.batches import seeded
from onestep.training.denoiser import Denoiser
from onestep.training.distillation_settings import DmdSettings
from onestep.training.dmd import LEVELS, DistributionMatching, corrupt_captions
from tests.tiny import SAMPLE

MEAN, SPREAD = 0.7, 0.5
SETTINGS = DmdSettings(
    updates=2,
    warmup=1,
    guidance_scale=1.0,
    token_exchange=0.0,
    token_dropout=0.0,
    optimizer="adamw",
    student_lr=0.01,
    score_lr=0.02,
)
TEXT = torch.zeros(256, 1, 1)


class GaussianDenoiser(nn.Module):
    """The posterior mean of `x ~ N(mean, spread²)` behind `x_t = (1 − t)x + tz`, in sample form; both can be learned."""

    def __init__(self, mean: float, spread: float) -> None:
        super().__init__()
        self.mean, self.spread = nn.Parameter(torch.tensor(mean)), nn.Parameter(torch.tensor(spread))

    def forward(self, x_t: Tensor, timestep: Tensor, text: Tensor, return_dict: bool) -> tuple[Tensor]:
        t = (timestep / 1000).view(-1, 1, 1, 1, 1)
        gain = (1 - t) * self.spread**2 / ((1 - t) ** 2 * self.spread**2 + t**2)
        return (self.mean + text.mean() + gain * (x_t - (1 - t) * self.mean),)


class Line(nn.Module):
    """A student that maps noise z to `a + b·z`."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(0.0)), nn.Parameter(torch.tensor(1.0))

    def forward(self, z: Tensor) -> Tensor:
        return self.a + self.b * z


def make(guidance: float = 1.0) -> DistributionMatching:
    teacher = Denoiser(GaussianDenoiser(MEAN, SPREAD).requires_grad_(False), SAMPLE, guidance, torch.zeros(1, 1, 1))
    return DistributionMatching(teacher, make_accelerator("fp32", 1))


def noise(*key: object) -> Tensor:
    return torch.randn(256, 1, 1, 1, 1, generator=seeded(*key))


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_gradient_is_the_difference_of_the_two_denoisers_normalised_clip_by_clip(guidance: float) -> None:
    matching, text = make(guidance), TEXT + 0.2
    with torch.no_grad():
        matching.module.mean.add_(0.3)
    sample = noise("x").requires_grad_(True)
    matching.student_loss(sample, text, seeded("a")).backward()
    random = seeded("a")
    t = LEVELS[0] + (LEVELS[1] - LEVELS[0]) * torch.rand(256, generator=random)
    level = t.view(-1, 1, 1, 1, 1)
    x_t = (1 - level) * sample.detach() + level * torch.randn(sample.shape, generator=random)
    fake, real, uncaptioned = (
        network(x_t, t * 1000, words, False)[0]
        for network, words in (
            (matching.module, text),
            (matching.teacher.network, text),
            (matching.teacher.network, TEXT),
        )
    )
    real = uncaptioned + guidance * (real - uncaptioned)
    expected = (fake - real) / (sample - real).abs() / sample.numel()
    torch.testing.assert_close(sample.grad, expected.detach())


def test_student_that_matches_the_teacher_gets_no_gradient() -> None:
    sample = noise("x").requires_grad_(True)
    make().student_loss(sample, TEXT, seeded("a")).backward()
    assert sample.grad.abs().max() == 0


def test_score_loss_trains_the_score_model_alone_and_finds_the_student_s_distribution() -> None:
    matching = make()
    student = Line()
    optimizer = torch.optim.Adam(matching.module.parameters(), 0.02)
    for step in range(300):
        loss = matching.score_loss(student(noise("z", step)), TEXT, seeded("s", step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert student.a.grad is None
    assert matching.teacher.network.mean == MEAN
    assert matching.module.mean.item() == pytest.approx(0.0, abs=0.1)
    assert matching.module.spread.item() == pytest.approx(1.0, abs=0.1)


def train(matching: DistributionMatching, student: Line, updates: int) -> Line:
    trained = [*student.parameters(), *matching.module.parameters()]
    optimizer = torch.optim.Adam(trained, 0.01, (0.0, 0.99))
    for step in range(updates):
        sample = student(noise("z", step))
        loss = matching.score_loss(sample, TEXT, seeded("s", step)) + matching.student_loss(
            sample, TEXT, seeded("m", step)
        )
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / updates)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return student


def test_student_comes_to_the_teacher_s_distribution() -> None:
    student = train(make(), Line(), 600)
    assert student.a.item() == pytest.approx(MEAN, abs=0.05)
    assert abs(student.b.item()) == pytest.approx(SPREAD, abs=0.05)


def test_half_of_the_captions_lose_words_and_the_others_none() -> None:
    text, empty = torch.randn(64, 16, 4), torch.randn(1, 16, 4)
    short = corrupt_captions(text, empty, SETTINGS.model_copy(update={"token_dropout": 0.25}), seeded("words"))
    kept, gone = ((short == states).all(dim=2) for states in (text, empty.expand_as(text)))
    assert (kept ^ gone).all()
    assert kept[32:].all()
    assert gone[:32].float().mean().item() == pytest.approx(0.25, abs=0.06)


def test_half_of_the_captions_take_words_of_another_at_the_same_place() -> None:
    text, empty = torch.randn(64, 16, 4), torch.randn(1, 16, 4)
    settings = SETTINGS.model_copy(update={"token_exchange": 0.5, "token_dropout": 0.5})
    mixed = corrupt_captions(text, empty, settings, seeded("words"))
    own, another, gone = ((mixed == s).all(dim=2) for s in (text, text.roll(1, dims=0), empty.expand_as(text)))
    assert (own | another | gone).all()
    assert own[32:].all()
    for share, states in ((0.5, gone), (0.25, another), (0.25, own)):  # of what is exchanged, half is left out then
        assert states[:32].float().mean().item() == pytest.approx(share, abs=0.07)


def test_captions_stay_whole_without_either() -> None:
    text = torch.randn(8, 16, 4)
    assert torch.equal(corrupt_captions(text, torch.randn(1, 16, 4), SETTINGS, seeded("words")), text)


def test_teacher_takes_no_gradient() -> None:
    matching = make(2.0)
    before = copy.deepcopy(cast(Any, matching.teacher.network).state_dict())
    matching.student_loss(noise("x").requires_grad_(True), TEXT, seeded("a")).backward()
    assert all(p.grad is None for p in matching.teacher.network.parameters())
    assert all(p.grad is None for p in matching.module.parameters())
    assert all(torch.equal(before[name], p) for name, p in matching.teacher.network.state_dict().items())
