"""The state of a method as groups of tensors by name: what a resume point keeps and a rollback goes back to."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

Groups = Mapping[str, Mapping[str, Tensor]]


class Stateful(Protocol):
    """What a method has of state."""

    modules: dict[str, Any]
    optimizers: dict[str, Any]
    emas: dict[str, Any]
    snapshots: dict[str, dict[str, Tensor]]


def state_of(method: Stateful) -> dict[str, dict[str, Tensor]]:
    """Weights, optimiser states, EMAs and snapshots, not copied."""
    groups: dict[str, dict[str, Tensor]] = {}
    for name, module in method.modules.items():
        groups[f"module.{name}"] = dict(module.state_dict())
    for name, optimizer in method.optimizers.items():
        groups[f"optimizer.{name}"] = flatten_optimizer(optimizer)
    for name, ema in method.emas.items():
        groups[f"ema.{name}"] = ema.state_dict()
    for name, tensors in method.snapshots.items():
        groups[f"snapshot.{name}"] = tensors
    return groups


def load_state(method: Stateful, groups: Groups) -> None:
    """The inverse of `state_of`."""
    for name, module in method.modules.items():
        module.load_state_dict(groups[f"module.{name}"])
    for name, optimizer in method.optimizers.items():
        restore_optimizer(optimizer, groups.get(f"optimizer.{name}", {}))
    for name, ema in method.emas.items():
        ema.load_state_dict(groups[f"ema.{name}"])
    prefix = "snapshot."
    method.snapshots = {name.removeprefix(prefix): dict(t) for name, t in groups.items() if name.startswith(prefix)}


def copied(groups: Groups) -> dict[str, dict[str, Tensor]]:
    """The same groups, in tensors of their own."""
    return {group: {name: t.detach().clone() for name, t in tensors.items()} for group, tensors in groups.items()}


def flatten_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimiser's per-parameter tensors under names `index.key`; its settings come from the run, not from here."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{key}": torch.as_tensor(value) for index, entry in state.items() for key, value in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `flatten_optimizer`."""
    entries: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        entries.setdefault(int(index), {})[key] = tensor.clone()
    content = optimizer.state_dict()
    content["state"] = entries
    optimizer.load_state_dict(content)
