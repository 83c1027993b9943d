import copy
import warnings

import pytest
import torch
from torch import nn

from onestep.models.norms import RMSNorm, adapt_norms


@pytest.mark.parametrize("shape", [(2, 5, 8), (2, 3, 5, 16)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_result_and_the_gradients_are_those_of_the_stock_norm(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    stock = nn.RMSNorm(shape[-1], eps=1e-6)
    nn.init.normal_(stock.weight)
    network = nn.Sequential(copy.deepcopy(stock))
    adapt_norms(network)
    x, gradient = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
    results = []
    for norm in (stock, network[0]):
        leaf = x.clone().requires_grad_(True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if norm is stock else "error")
            norm(leaf).backward(gradient)
        results.append((norm(x), leaf.grad, norm.weight.grad))
    assert isinstance(network[0], RMSNorm)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_adapted_norms_keep_their_parameters_names_and_mode() -> None:
    network = nn.ModuleDict({"norm": nn.RMSNorm(4, eps=1e-5), "bare": nn.RMSNorm(4, elementwise_affine=False)}).eval()
    network["norm"].weight.requires_grad_(False)
    weight = network["norm"].weight
    adapt_norms(network)
    assert network["norm"].weight is weight
    assert not network["norm"].training
    assert network["norm"].eps == 1e-5
    assert list(network.state_dict()) == ["norm.weight"]
    assert type(network["bare"]) is nn.RMSNorm
