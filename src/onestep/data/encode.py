"""Clips to normalised latents and text states, under the fingerprint of what made them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor

from onestep.core.storage import replacing_folder, write_json
from onestep.data.clips import read_frames, read_index
from onestep.data.encode_settings import EncodeSettings
from onestep.data.latents import INDEX, RECORD, TEXT
from onestep.data.validation import require_passed


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
