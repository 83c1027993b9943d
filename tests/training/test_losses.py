import math

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from onestep.models.discriminator import Discriminator
from onestep.models.families.wan import Wan
from onestep.training import losses
from tests.tiny import tiny_pipeline


def test_discriminator_loss_is_two_ln_two_at_zero_logits() -> None:
    zero = torch.zeros(5)
    assert losses.non_saturating_discriminator(zero, zero).item() == pytest.approx(2 * math.log(2))
    assert losses.relativistic_discriminator(zero, zero).item() == pytest.approx(math.log(2))


def test_losses_fall_when_their_side_wins() -> None:
    low, high = torch.full((4,), -3.0), torch.full((4,), 3.0)
    for discriminator, generator, _ in losses.LOSSES.values():
        assert discriminator(high, low) < discriminator(low, high)
        assert generator(low, high) < generator(high, low)


def test_shift_is_the_published_one() -> None:
    t = torch.tensor([0.0, 0.25, 0.5, 1.0])
    assert torch.equal(losses.shift_timesteps(t, 1.0), t)
    expected = torch.tensor([0.0, 12 * 0.25 / (1 + 11 * 0.25), 12 * 0.5 / (1 + 11 * 0.5), 1.0])
    torch.testing.assert_close(losses.shift_timesteps(t, 12.0), expected)


def test_approximated_penalty_tends_to_the_exact_one() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(tiny_pipeline("flow").transformer, Wan(), [0.5, 1.0]).double().eval()
    x = torch.randn(1, 4, 2, 4, 4, dtype=torch.float64)
    t, text = torch.tensor([0.4], dtype=torch.float64), torch.randn(1, 6, 16, dtype=torch.float64)
    with sdpa_kernel(SDPBackend.MATH):
        leaf = x.clone().requires_grad_(True)
        exact = torch.autograd.grad(discriminator(leaf, t, text).sum(), leaf)[0].square().sum()

        def approximated(sigma: float, draws: int = 600) -> float:
            noisy = x + sigma * torch.randn(draws, *x.shape[1:], dtype=torch.float64)
            with torch.no_grad():
                perturbed = discriminator(noisy, t.repeat(draws), text.repeat(draws, 1, 1))
                return losses.approximated_penalty(discriminator(x, t, text), perturbed, sigma).item()

        assert approximated(1e-3) == pytest.approx(exact.item(), rel=0.2)
        assert abs(approximated(1.0) - exact.item()) > abs(approximated(1e-3) - exact.item())


def test_centring_is_zero_when_logits_are_opposite() -> None:
    logits = torch.randn(6)
    assert losses.centring(logits, -logits) == 0
    assert losses.centring(logits, logits) > 0
