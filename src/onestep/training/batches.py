"""Which examples and random numbers an update gets: both depend on its number alone, so that a resumed run is exact."""

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor


def seeded(*parts: object) -> torch.Generator:
    """A CPU generator whose state depends on the parts alone."""
    key = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(key[:8]) % (1 << 63))


class Source(Protocol):
    """Examples by position: latents with their text states, or pixels."""

    def __len__(self) -> int: ...

    def batch(self, positions: Sequence[int]) -> tuple[Tensor, ...]:
        """The tensors of these examples, each with the batch as its first axis."""
        ...


class Batches:
    """The micro-batches of one update: examples drawn without replacement from a shuffle that is anew for each epoch."""

    def __init__(self, source: Source, batch: int, accelerator: Accelerator, seed: int) -> None:
        self.source, self.batch, self.accelerator, self.seed = source, batch, accelerator, seed

    def __call__(self, step: int, micro: int, micros: int) -> tuple[Any, ...]:
        """The source's tensors and the random generator of one micro-batch of update `step`, for this process."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        start = ((step * micros + micro) * world + rank) * self.batch
        positions = [self._position(start + i) for i in range(self.batch)]
        tensors = self.source.batch(positions)
        return *(t.to(self.accelerator.device) for t in tensors), seeded(self.seed, step, micro, rank)

    def _position(self, number: int) -> int:
        epoch, place = divmod(number, len(self.source))
        if getattr(self, "_epoch", None) != epoch:
            self._epoch = epoch
            self._order = torch.randperm(len(self.source), generator=seeded(self.seed, "epoch", epoch)).tolist()
        return self._order[place]
