import pytest
import torch
from torch import nn

from onestep.models.ema import EMA


@pytest.fixture
def model() -> nn.Module:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 0.0)
    return layer


def averaged(model: nn.Module, average: EMA, updates: int) -> float:
    nn.init.constant_(model.weight, 1.0)
    for _ in range(updates):
        average.update(model)
    return average.weights["weight"].item()


def test_the_average_is_geometric_from_the_model_it_starts_as(model):
    assert averaged(model, EMA(model, 0.99, warm_up=False), 50) == pytest.approx(1 - 0.99**50, rel=1e-5)


def test_two_horizons_differ_from_the_first_update_on(model):
    short, long = EMA(model, 0.9, warm_up=False), EMA(model, 0.99, warm_up=False)
    assert averaged(model, short, 1) > averaged(model, long, 1) > 0


def test_warm_up_forgets_the_start(model):
    kept, forgotten = EMA(model, 0.999, warm_up=False), EMA(model, 0.999)
    assert averaged(model, forgotten, 50) > 0.99
    assert averaged(model, kept, 50) < 0.1


def test_decay_0_follows_the_model(model):
    assert averaged(model, EMA(model, 0.0), 1) == 1.0


def test_a_restarted_average_is_the_model_again(model):
    average = EMA(model, 0.9, warm_up=False)
    averaged(model, average, 3)
    nn.init.constant_(model.weight, 7.0)
    average.restart(model)
    assert average.updates == 0
    assert average.weights["weight"].item() == 7.0
    assert torch.equal(average.state_dict()["weight"], model.weight.detach())
