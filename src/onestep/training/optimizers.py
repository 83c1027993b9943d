"""Muon: momentum whose matrix updates are orthogonalised (Jordan et al. 2024; arXiv 2502.16982).

PyTorch's own Muon takes matrices only, one by one, and orthogonalises in bfloat16, which a CPU without native bfloat16
emulates hundreds of times slower. Here convolutions are matrices too, matrices of one shape go through together, and the
type is the caller's.
"""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

ADAMW_SHARE = 0.05  # rate of what Muon does not train (biases, norms, embeddings) over Muon's own
_TOGETHER = 32  # matrices orthogonalised at once: enough to fill the machine, few enough to need little memory


def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrices, roughly, by a quintic Newton–Schulz iteration; `[N, m, n]` → `[N, m, n]`.

    Computed in the matrices' own type; bfloat16, the published choice, is off by some hundredths of a singular value.
    """
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for weights of two or more axes (flattened to `[out, rest]`), with Nesterov momentum and decoupled decay."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """dtype: type in which updates are orthogonalised; momentum and weights keep theirs."""
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "decay": decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update; a step moves every singular direction of a weight by about `lr`."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = {}
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - group["momentum"])
                direction = weight.grad.lerp(momentum, group["momentum"]).flatten(1)
                alike.setdefault(direction.shape, []).append((weight, direction))
            for pairs in alike.values():
                for start in range(0, len(pairs), _TOGETHER):
                    self._move(pairs[start : start + _TOGETHER], group["lr"], group["decay"])

    def _move(self, pairs: list[tuple[nn.Parameter, Tensor]], lr: float, decay: float) -> None:
        """Move weights along their directions, which are of one shape."""
        weights, directions = zip(*pairs, strict=True)
        rows, columns = directions[0].shape
        scale = max(1.0, rows / columns) ** 0.5
        for weight, update in zip(weights, orthogonalise(torch.stack(directions).to(self.dtype)), strict=True):
            weight.mul_(1 - lr * decay)
            weight.add_(update.view_as(weight), alpha=-lr * scale)


def split_parameters(module: nn.Module, by_matrix: Iterable[str]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """A module's trained parameters as (for Muon, for Adam): Muon takes weights of two or more axes below these prefixes."""
    prefixes = tuple(by_matrix)
    muon: list[nn.Parameter] = []
    adam: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            (muon if parameter.ndim >= 2 and name.startswith(prefixes) else adam).append(parameter)
    return muon, adam


def make_optimizers(
    network: nn.Module,
    blocks: str,
    kind: Literal["adamw", "muon"],
    lr: float,
    betas: tuple[float, float],
    weight_decay: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> list[torch.optim.Optimizer]:
    """What optimises a transformer: AdamW alone, or Muon for its blocks' matrices and AdamW at a twentieth of `lr` for the rest.

    blocks: the name under which the transformer holds its blocks; dtype: as `Muon` takes it.
    """
    if kind == "adamw":
        return [torch.optim.AdamW(list(network.parameters()), lr, betas, weight_decay=weight_decay, fused=True)]
    matrices, rest = split_parameters(network, [blocks])
    adamw = torch.optim.AdamW(rest, lr * ADAMW_SHARE, betas, weight_decay=weight_decay, fused=True)
    return [Muon(matrices, lr, decay=weight_decay, dtype=dtype), adamw]
