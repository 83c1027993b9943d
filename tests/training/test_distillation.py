import torch
from torch import Tensor, nn

from onestep.models.pipeline import mix, predict_sample
from onestep.training.batches import seeded
from onestep.training.denoiser import Denoiser
from onestep.training.targets import consistency_target, progressive_target, step_loss
from tests.tiny import SAMPLE

MEAN, SPREAD = 0.7, 0.5


class GaussianTeacher(nn.Module):
    """The exact posterior mean of x ~ N(MEAN, SPREAD²) behind `x_t = (1 − t)x + tz`, in sample form."""

    def forward(self, x_t: Tensor, timestep: Tensor, _text: Tensor, return_dict: bool) -> tuple[Tensor]:
        t = (timestep / 1000).view(-1, 1, 1, 1, 1)
        gain = (1 - t) * SPREAD**2 / ((1 - t) ** 2 * SPREAD**2 + t**2)
        return (MEAN + gain * (x_t - (1 - t) * MEAN),)


class LinearStudent(nn.Module):
    """A line for each noise level: enough to hold the consistency map of a Gaussian."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.gain, self.offset = nn.Parameter(torch.zeros(count + 1)), nn.Parameter(torch.zeros(count + 1))

    def forward(self, x_t: Tensor, timestep: Tensor, _text: Tensor, return_dict: bool) -> tuple[Tensor]:
        level = (timestep / 1000 * self.count).round().long()
        return (self.gain[level].view(-1, 1, 1, 1, 1) * x_t + self.offset[level].view(-1, 1, 1, 1, 1),)


def test_target_is_a_teacher_step_evaluated_by_the_stop_gradient_student() -> None:
    torch.manual_seed(0)
    student, teacher = LinearStudent(4), GaussianTeacher()
    nn.init.normal_(student.gain), nn.init.normal_(student.offset)
    x, text = torch.randn(8, 1, 1, 2, 2), torch.zeros(8, 1, 1)
    denoisers = Denoiser(student, SAMPLE), Denoiser(teacher, SAMPLE)
    loss = step_loss(consistency_target, *denoisers, x, text, 4, seeded("a"))
    random = seeded("a")
    index = torch.randint(1, 5, (8,), generator=random)
    t, lower = index / 4, (index - 1) / 4
    noise = torch.randn(x.shape, generator=random)
    x_t = (1 - t.view(-1, 1, 1, 1, 1)) * x + t.view(-1, 1, 1, 1, 1) * noise
    clean = predict_sample(teacher, x_t, t, text, SAMPLE)
    velocity = (x_t - clean) / t.view(-1, 1, 1, 1, 1)
    stepped = x_t + (lower - t).view(-1, 1, 1, 1, 1) * velocity
    target = torch.where(
        (lower == 0).view(-1, 1, 1, 1, 1), stepped, predict_sample(student, stepped, lower, text, SAMPLE)
    )
    expected = (predict_sample(student, x_t, t, text, SAMPLE) - target.detach()).square().mean()
    torch.testing.assert_close(loss, expected)
    expected.backward()
    by_hand = student.gain.grad.clone()
    student.zero_grad()
    loss.backward()
    torch.testing.assert_close(student.gain.grad, by_hand)


def test_guidance_moves_the_step_away_from_the_unconditional_one() -> None:
    class Told(nn.Module):
        def forward(self, x_t: Tensor, _t: Tensor, text: Tensor, return_dict: bool) -> tuple[Tensor]:
            return (x_t * 0 + text.mean(dim=(1, 2)).view(-1, 1, 1, 1, 1),)

    x, one = torch.randn(2, 1, 1, 1, 1), torch.ones(2)
    step = Denoiser(Told(), SAMPLE, 3.0, torch.zeros(1, 1, 1)).step(x, one, torch.zeros(2), torch.ones(2, 1, 1))
    torch.testing.assert_close(step, torch.full_like(step, 3.0))


def euler_map(count: int, noise: Tensor) -> Tensor:
    """Pure noise carried to the clean end by the analytic teacher, one step per level."""
    x, text = noise, torch.zeros(len(noise), 1, 1)
    for level in range(count, 0, -1):
        t, lower = torch.full((len(noise),), level / count), torch.full((len(noise),), (level - 1) / count)
        x = Denoiser(GaussianTeacher(), SAMPLE).step(x, t, lower, text)
    return x


def test_teacher_steps_tend_to_the_known_map() -> None:
    # the probability-flow map of a Gaussian is the line that carries N(0, 1) to N(MEAN, SPREAD²)
    noise = torch.linspace(-2, 2, 9).view(-1, 1, 1, 1, 1)
    error = {count: (euler_map(count, noise) - (MEAN + SPREAD * noise)).abs().max().item() for count in (8, 64, 512)}
    assert error[512] < error[64] < error[8]
    assert error[512] < 0.02


def test_student_recovers_the_known_map_of_an_analytic_teacher() -> None:
    count, updates = 8, 1500
    student, teacher = LinearStudent(count), GaussianTeacher()
    optimizer = torch.optim.Adam(student.parameters(), 0.03)
    text = torch.zeros(128, 1, 1)
    for step in range(updates):
        x = MEAN + SPREAD * torch.randn(128, 1, 1, 1, 1, generator=seeded("x", step))
        denoisers = Denoiser(student, SAMPLE), Denoiser(teacher, SAMPLE)
        loss = step_loss(consistency_target, *denoisers, x, text, count, seeded("s", step))
        optimizer.param_groups[0]["lr"] = 0.03 * (1 - step / updates)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    noise = torch.linspace(-2, 2, 9).view(-1, 1, 1, 1, 1)
    with torch.no_grad():
        mapped = predict_sample(student, noise, torch.ones(9), text[:9], SAMPLE)
    torch.testing.assert_close(mapped, euler_map(count, noise), atol=0.03, rtol=0)


def test_progressive_target_lands_where_two_teacher_steps_do() -> None:
    torch.manual_seed(0)
    teacher, x, text = GaussianTeacher(), torch.randn(8, 1, 1, 2, 2), torch.zeros(8, 1, 1)
    random = seeded("a")
    index = torch.randint(1, 3, (8,), generator=random)
    t, lower = index / 2, (index - 1) / 2
    x_t = mix(x, torch.randn(x.shape, generator=random), t)
    landed = x_t
    for start, end in ((t, (t + lower) / 2), ((t + lower) / 2, lower)):
        landed = Denoiser(teacher, SAMPLE).step(landed, start, end, text)
    keep = (lower / t).view(-1, 1, 1, 1, 1)

    class Knows(nn.Module):
        def forward(self, x_t: Tensor, _t: Tensor, _text: Tensor, return_dict: bool) -> tuple[Tensor]:
            return ((landed - keep * x_t) / (1 - keep),)

    denoisers = Denoiser(Knows(), SAMPLE), Denoiser(teacher, SAMPLE)
    loss = step_loss(progressive_target, *denoisers, x, text, 2, seeded("a"))
    assert loss.item() < 1e-8
