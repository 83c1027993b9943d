"""A deeper student by repeating the base's blocks, in a form that stock diffusers still loads.

Adversarial Flow Models (arXiv 2511.22475) repeats each transformer block and tells the repetitions apart by an embedding,
because one forward of the base is too shallow for one step. A block of Wan or LTX already adds a learned table to its timestep
modulation (`scale_shift_table` `[1, 6, D]`), so a table of its own for each repetition *is* that embedding, and the
result is a stock transformer of more layers.

Deviation: AFM trains from scratch. Here the blocks come trained, and running one twice would undo what it learned. So
a repetition of its own weights (`tied` false) starts with its three output projections at zero: the deep student then
starts as exactly the function of the shallow one.
"""

import copy
from typing import Any

import torch
from torch import nn

from onestep.models.families.base import Family


def repeat_blocks(transformer: Any, family: Family, repeats: int, tied: bool) -> Any:
    """Run each block `repeats` times in a row; the transformer is changed in place and returned, `repeats` 1 leaves it.

    tied: repetitions share all weights but their modulation table (AFM); otherwise each has weights of its own and
    starts as the identity.
    """
    blocks = []
    for block in getattr(transformer, family.blocks):
        blocks.append(block)
        blocks += [_again(block, family, tied) for _ in range(repeats - 1)]
    setattr(transformer, family.blocks, nn.ModuleList(blocks))
    transformer.register_to_config(num_layers=len(blocks))
    return transformer


@torch.no_grad()
def untie(transformer: Any, family: Family) -> Any:
    """Give every block weights of its own, so that the folder can be written and loaded as any other; in place."""
    blocks = getattr(transformer, family.blocks)
    setattr(transformer, family.blocks, nn.ModuleList(copy.deepcopy(block) for block in blocks))
    return transformer


def _again(block: Any, family: Family, tied: bool) -> nn.Module:
    again = copy.deepcopy(block)
    if tied:
        for name, part in block.named_children():
            setattr(again, name, part)
        return again
    for projection in family.branch_ends(again):
        nn.init.zeros_(projection.weight)
        nn.init.zeros_(projection.bias)
    return again
