"""Exponential moving average of a model's weights."""

import torch
from torch import Tensor, nn


class EMA:
    """`θ̄ ← d·θ̄ + (1 − d)·θ` of a model's parameters, kept in float32; `decay` 0 follows the model itself.

    warm_up: early on the decay is `min(d, (1 + n)/(10 + n))`, so that a start that is not worth keeping is forgotten.
    Without it the EMA starts as the model, for one that is trained already.
    """

    def __init__(self, model: nn.Module, decay: float, warm_up: bool = True) -> None:
        self.decay, self.warm_up = decay, warm_up
        self.restart(model)

    def restart(self, model: nn.Module) -> None:
        """Start again as the model."""
        self.updates = 0
        self.weights = {name: p.detach().clone().float() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take one step towards the model's weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warm_up else self.decay
        self.updates += 1
        current = [(self.weights[name], parameter.detach().float()) for name, parameter in model.named_parameters()]
        averaged, weights = zip(*current, strict=True)
        torch._foreach_lerp_(averaged, weights, 1 - decay)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Write the EMA into a model of the same parameters."""
        for name, parameter in model.named_parameters():
            parameter.copy_(self.weights[name])

    def state_dict(self) -> dict[str, Tensor]:
        """The EMA's tensors, with the number of updates among them."""
        return {**self.weights, "updates": torch.tensor(self.updates)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        self.updates = int(state["updates"])
        for name, weight in self.weights.items():
            weight.copy_(state[name])
