"""Muon: momentum whose matrix updates are orthogonalised (Jordan et al. 2024; arXiv 2502.16982).

PyTorch's own Muon takes matrices only and orthogonalises in bfloat16, which a CPU without native bfloat16 emulates
hundreds of times slower; convolutions are the point here, and float32.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def orthogonalise(matrix: Tensor, iterations: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly, by a quintic Newton–Schulz iteration; `[m, n]` → `[m, n]`."""
    x = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(iterations):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for weights of two or more axes (flattened to `[out, rest]`), with Nesterov momentum and decoupled decay."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update; a step moves every singular direction of a weight by about `lr`."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - group["momentum"])
                update = orthogonalise(weight.grad.lerp(momentum, group["momentum"]).flatten(1))
                scale = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                weight.mul_(1 - group["lr"] * group["decay"])
                weight.add_(update.view_as(weight), alpha=-group["lr"] * scale)


def split_parameters(module: nn.Module, by_matrix: Iterable[str]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """A module's trained parameters as (for Muon, for Adam): Muon takes weights of two or more axes below these prefixes."""
    prefixes = tuple(by_matrix)
    muon: list[nn.Parameter] = []
    adam: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            (muon if parameter.ndim >= 2 and name.startswith(prefixes) else adam).append(parameter)
    return muon, adam
