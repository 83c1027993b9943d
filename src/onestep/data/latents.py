"""Latents and text states as they are read, under the fingerprint of what made them; `encode.py` makes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from onestep.core.storage import read_mapping, read_table, reading

INDEX = "latents.parquet"
TEXT = "text.safetensors"
RECORD = "fingerprint.json"


class LatentsError(RuntimeError):
    """Latents are missing or do not belong to the model they are used with; the message says which."""


@dataclass(frozen=True)
class LatentSet:
    """The latents of one split, read from the shards as they are asked for."""

    folder: Path
    rows: pd.DataFrame
    record: dict[str, Any]

    @cached_property
    def _text(self) -> dict[str, Tensor]:
        with reading(self.folder / TEXT, "text states", "run encode again"):
            found = load_file(self.folder / TEXT)
            return {name: found[name] for name in ("states", "empty")}

    @cached_property
    def _shards(self) -> dict[str, Any]:
        return {name: self._shard(self.folder / name) for name in self.rows.shard.unique()}

    def _shard(self, path: Path) -> Any:
        with reading(path, "a shard of latents", "run encode again"):
            return safe_open(path, framework="pt").get_slice("latents")

    @property
    def empty(self) -> Tensor:
        """Text states `[1, L, D]` of the empty caption."""
        return self._text["empty"]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Latents `[B, C, T', H', W']` and text states `[B, L, D]` of the rows at these positions."""
        picked = self.rows.iloc[list(positions)]
        latents = torch.cat(
            [self._shards[shard][row : row + 1] for shard, row in zip(picked.shard, picked.row, strict=True)]
        )
        return latents, self._text["states"][torch.from_numpy(picked.caption_number.to_numpy().copy())]

    def text(self, captions: Sequence[str]) -> Tensor:
        """Text states `[B, L, D]` of captions that are in this split."""
        numbers = dict(zip(self.rows.caption, self.rows.caption_number, strict=True))
        return self._text["states"][torch.tensor([numbers[caption] for caption in captions])]


def open_latents(folder: Path, split: str, base_fingerprint: str | None = None) -> LatentSet:
    """The latents of a split; raises `LatentsError` when they were made by another base or the split is empty."""
    record = read_mapping(folder / RECORD, base=str)
    if base_fingerprint is not None and record["base"] != base_fingerprint:
        raise LatentsError(
            f"{folder} was encoded by base {record['base'][:12]}, not by {base_fingerprint[:12]}: run the encode stage again"
        )
    rows = read_table(
        folder / INDEX, "run encode again", ("clip_id", "shard", "row", "caption", "caption_number", "split")
    )
    rows = rows[rows.split == split].reset_index(drop=True)
    if rows.empty:
        raise LatentsError(f"{folder} holds no clips of the split {split!r}")
    return LatentSet(folder, rows, record)
