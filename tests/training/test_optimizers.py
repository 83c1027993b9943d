import pytest
import torch
from torch import nn

from onestep.training.optimizers import Muon, orthogonalise, split_parameters


@pytest.mark.parametrize("shape", [(8, 8), (16, 4), (4, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_singular_values_come_near_one_and_singular_vectors_stay(shape: tuple[int, int], dtype: torch.dtype) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalise(matrix[None].to(dtype))[0].float()
    u, values, vh = torch.linalg.svd(matrix, full_matrices=False)
    turned = u.mT @ found @ vh.mT  # diagonal where the vectors are the same
    assert values.max() / values.min() > 1.5  # else there was nothing to do
    assert (turned.diagonal() > 0.6).all() and (turned.diagonal() < 1.25).all()
    assert (turned - turned.diagonal().diag()).abs().max() < (1e-3 if dtype == torch.float32 else 0.1)


def weights() -> list[nn.Parameter]:
    """Two matrices of one shape, one of another, and a convolution that flattens to the first shape."""
    random = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(shape, generator=random)) for shape in ((6, 8), (6, 8), (8, 6), (6, 2, 2, 2))]


def test_weights_of_one_shape_go_through_together_and_move_as_if_alone() -> None:
    together, alone = weights(), weights()
    optimizers = [Muon(together, lr=0.1, decay=0.01), *(Muon([weight], lr=0.1, decay=0.01) for weight in alone)]
    for step in range(3):
        for weight in (*together, *alone):
            weight.grad = weight.detach().sin() + step
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_a_step_is_nesterov_momentum_orthogonalised_with_decoupled_decay() -> None:
    (weight, *_), gradients = weights(), [torch.randn(6, 8), torch.randn(6, 8)]
    optimizer, expected, momentum = (
        Muon([weight], lr=0.1, momentum=0.9, decay=0.5),
        weight.detach().clone(),
        torch.zeros(6, 8),
    )
    for gradient in gradients:
        weight.grad = gradient
        optimizer.step()
        momentum = 0.9 * momentum + 0.1 * gradient
        direction = 0.1 * gradient + 0.9 * momentum
        expected = expected * (1 - 0.1 * 0.5) - 0.1 * orthogonalise(direction[None])[0]
    assert torch.allclose(weight, expected, atol=1e-6)


def test_a_weight_without_a_gradient_stays() -> None:
    moved, still = weights()[:2]
    before = still.detach().clone()
    moved.grad = torch.ones_like(moved)
    Muon([moved, still], lr=0.1).step()
    assert torch.equal(still, before) and not torch.equal(moved, before)


def test_muon_takes_the_trained_matrices_below_its_prefixes_and_adam_the_rest() -> None:
    module = nn.ModuleDict(
        {"blocks": nn.Linear(3, 4), "head": nn.Linear(4, 2), "frozen": nn.Linear(2, 2).requires_grad_(False)}
    )
    muon, adam = split_parameters(module, ["blocks"])
    assert [p.shape for p in muon] == [(4, 3)] and [p.shape for p in adam] == [(4,), (2, 4), (2,)]
