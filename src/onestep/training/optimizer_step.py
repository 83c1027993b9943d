"""One optimiser step, and the scale of its learning rate."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from onestep.training.batches import Batches

LossOf = Callable[..., tuple[Tensor, dict[str, float]]]  # (*tensors, random) → loss and numbers to plot


def optimizer_step(
    loss_of: LossOf,
    networks: Sequence[torch.nn.Module],
    optimizers: Iterable[Any],
    accelerator: Accelerator,
    batches: Batches,
    step: int,
    micros: int = 1,
    max_norm: float | None = None,
) -> dict[str, float]:
    """One optimiser step over `micros` micro-batches; the numbers to plot, averaged over them.

    networks, optimizers: as accelerate prepared them; max_norm: of the gradient of all networks' parameters, to which a
    larger one is clipped; its norm is among the numbers then.
    """
    totals: dict[str, float] = {}
    for micro in range(micros):
        with accelerator.accumulate(*networks):
            loss, numbers = loss_of(*batches(step, micro, micros))
            accelerator.backward(loss)
            if max_norm is not None and accelerator.sync_gradients:
                parameters = [parameter for network in networks for parameter in network.parameters()]
                totals["gradient_norm"] = accelerator.clip_grad_norm_(parameters, max_norm).item()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
        for name, value in numbers.items():
            totals[name] = totals.get(name, 0.0) + value / micros
    return totals


def set_lr_scale(optimizers: Iterable[torch.optim.Optimizer], scale: float) -> None:
    """Set each optimiser's learning rate to the one that it was made with, times the scale."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * scale


def lr_warmup(step: int, updates: int) -> float:
    """The scale at update `step`: linear from `1 / updates` to 1 over the first updates."""
    return min(1.0, (step + 1) / max(updates, 1))


def lr_decay(step: int, updates: int, share: float) -> float:
    """The scale at update `step`: 1, then falling linearly to a tenth over the last `share` of the updates."""
    begins = (1 - share) * updates
    return 1.0 if step < begins else 1 - 0.9 * (step - begins) / (updates - begins)


def lr_cosine(step: int, updates: int) -> float:
    """The scale at update `step`: half a cosine from 1 to a hundredth (arXiv 1608.03983)."""
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / updates))
