"""Clips to normalised latents and text states, under the fingerprint of what made them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from onestep.core.storage import read_mapping, read_table, reading, replacing_folder, write_json
from onestep.data.clips import read_frames, read_index
from onestep.data.encode_settings import EncodeSettings
from onestep.data.validation import require_passed

INDEX = "latents.parquet"
TEXT = "text.safetensors"
RECORD = "fingerprint.json"


class LatentsError(RuntimeError):
    """Latents are missing or do not belong to the model they are used with; the message says which."""


def encode(clips: Path, base: Path, validation: Path, out: Path, settings: EncodeSettings) -> None:
    """Encode the training and dev clips and their distinct captions; refuses clips whose validation failed.

    Test clips stay pixels: nothing trains on them.

    Writes shards `latents-00000.safetensors` (`latents` `[n, C, T', H', W']` float32), `latents.parquet` (clip_id, shard,
    row, caption number, split), `text.safetensors` (`states` `[M, L, D]`, `empty` `[1, L, D]`) and `fingerprint.json`.
    """
    from rich.progress import track

    from onestep.models.pipeline import fingerprint, load_pipeline

    require_passed(validation)
    pipeline = load_pipeline(base)
    index = read_index(clips).query("split != 'test'").reset_index(drop=True)
    first = index.iloc[0]
    shape = pipeline.latent_shape(int(first.frames), int(first.height), int(first.width))
    captions = sorted(index.caption.unique())
    numbers = {caption: number for number, caption in enumerate(captions)}
    with replacing_folder(out) as partial:
        writer = _ShardWriter(partial, settings.shard_latents)
        batch_ids: list[str] = []
        batch: list[np.ndarray] = []
        for clip_id, frames in track(
            read_frames(clips, index.clip_id.tolist()), total=len(index), description="encoding clips"
        ):
            batch_ids.append(clip_id)
            batch.append(frames)
            if len(batch) == settings.batch:
                writer.add(batch_ids, pipeline.encode_video(np.stack(batch)))
                batch_ids, batch = [], []
        if batch:
            writer.add(batch_ids, pipeline.encode_video(np.stack(batch)))
        rows = writer.finish().merge(index[["clip_id", "caption", "split"]], on="clip_id", validate="one_to_one")
        rows["caption_number"] = rows.caption.map(numbers)
        rows.to_parquet(partial / INDEX, index=False)
        states = torch.cat(
            [
                pipeline.encode_text(captions[i : i + settings.batch], settings.text_tokens)
                for i in range(0, len(captions), settings.batch)
            ]
        )
        empty = pipeline.encode_text([""], settings.text_tokens)
        save_file({"states": states.contiguous(), "empty": empty.contiguous()}, partial / TEXT)
        write_json(
            partial / RECORD,
            {
                "base": fingerprint(base),
                "text_tokens": settings.text_tokens,
                "frames": int(first.frames),
                "height": int(first.height),
                "width": int(first.width),
                "fps": float(first.fps),
                "latent_shape": list(shape),
                "dtype": "float32",
            },
        )


class _ShardWriter:
    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        self.pending: list[tuple[str, Tensor]] = []
        self.rows: list[dict[str, Any]] = []
        self.shards = 0

    def add(self, clip_ids: Sequence[str], latents: Tensor) -> None:
        self.pending += zip(clip_ids, latents.cpu(), strict=True)
        while len(self.pending) >= self.size:
            self._write(self.size)

    def finish(self) -> pd.DataFrame:
        if self.pending:
            self._write(len(self.pending))
        return pd.DataFrame(self.rows)

    def _write(self, count: int) -> None:
        chunk, self.pending = self.pending[:count], self.pending[count:]
        name = f"latents-{self.shards:05d}.safetensors"
        save_file({"latents": torch.stack([latent for _, latent in chunk])}, self.folder / name)
        self.rows += [{"clip_id": clip_id, "shard": name, "row": row} for row, (clip_id, _) in enumerate(chunk)]
        self.shards += 1


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
