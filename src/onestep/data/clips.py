"""The clips on disk: tar shards in WebDataset layout, `clips.parquet` and `quarantine.parquet`; how they are read."""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from onestep.core.storage import StorageError, read_table, reading
from onestep.data.schema import INDEX, INDEX_TYPES, LICENCE, QUARANTINE, attribute_columns
from onestep.media.video import decode


def write_clips(folder: Path, rows: Sequence[dict[str, Any]], videos: dict[str, Path], shard_clips: int) -> None:
    """Write the tar shards and the index of clips, sorted by clip_id; the same clips give the same bytes.

    rows: the index's columns but for `shard`, the licence and attributes where known, these in the order of the first
    row; videos: the MP4 file of each clip_id.
    """
    ordered = sorted(rows, key=lambda row: row["clip_id"])
    indexed = []
    for number, first in enumerate(range(0, len(ordered), shard_clips)):
        shard = f"clips-{number:05d}.tar"
        part = [row | {"shard": shard} for row in ordered[first : first + shard_clips]]
        with tarfile.open(folder / shard, "w", format=tarfile.USTAR_FORMAT) as tar:
            for row in part:
                record = {key: value for key, value in row.items() if key != "shard"}
                text = json.dumps(record, sort_keys=True, ensure_ascii=False) + "\n"
                _add(tar, f"{row['clip_id']}.json", text.encode())
                _add(tar, f"{row['clip_id']}.mp4", videos[row["clip_id"]].read_bytes())
        indexed += part
    columns = dict.fromkeys(name for row in rows for name in row)
    optional = [*({LICENCE} & columns.keys()), *attribute_columns(columns)]
    types = INDEX_TYPES | dict.fromkeys(optional, "str")
    table(indexed, types).to_parquet(folder / INDEX, index=False)


def table(rows: Iterable[dict[str, Any]], types: dict[str, str]) -> pd.DataFrame:
    """Rows as a table with exactly these columns, in this order, also when there is no row."""
    return pd.DataFrame(list(rows), columns=list(types)).astype(types)


def read_index(clips: Path) -> pd.DataFrame:
    """The index of a clips folder, sorted by clip_id; raises `StorageError` when it is not there."""
    return _read(clips / INDEX)


def read_quarantine(clips: Path) -> pd.DataFrame:
    """What was refused and why: source, shot (null: no one of them), line of metadata.csv (null: no row), reason, detail."""
    return _read(clips / QUARANTINE)


def read_frames(clips: Path, clip_ids: Sequence[str] | None = None) -> Iterator[tuple[str, np.ndarray]]:
    """The clips one by one in index order, or only those asked for: clip_id and `[T, H, W, 3]` uint8 RGB.

    Raises `StorageError` for an id that the index does not have.
    """
    index = read_index(clips)
    if clip_ids is not None:
        unknown = sorted(set(clip_ids) - set(index["clip_id"]))
        if unknown:
            raise StorageError(f"{clips / INDEX} has no clip {unknown[0]}: it was made from other footage or settings")
        index = index[index["clip_id"].isin(list(clip_ids))]
    for shard, rows in index.groupby("shard", sort=True):
        for clip_id, content in _members(clips / str(shard), rows["clip_id"]):
            yield clip_id, decode(content)


def _members(shard: Path, clip_ids: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    with ExitStack() as stack:
        with reading(shard, "a shard of clips", "run ingest again"):
            tar = stack.enter_context(tarfile.open(shard))
        for clip_id in clip_ids:
            with reading(shard, "a shard of clips", "run ingest again"):
                try:
                    member = tar.extractfile(f"{clip_id}.mp4")
                except KeyError:
                    member = None
                if member is None:
                    raise StorageError(f"{shard} holds no clip {clip_id}: run ingest again")
                content = member.read()
            yield clip_id, content


def load_frames(clips: Path, clip_ids: Sequence[str]) -> np.ndarray:
    """These clips in the order asked, as uint8 `[N, T, H, W, 3]`; raises `StorageError` for an unknown id."""
    found = dict(read_frames(clips, clip_ids))
    if not clip_ids:
        raise StorageError(f"no clip of {clips} was asked for: name at least one")
    return np.stack([found[clip_id] for clip_id in clip_ids])


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = 0o644
    tar.addfile(info, io.BytesIO(content))


def _read(path: Path) -> pd.DataFrame:
    return read_table(path, again="run ingest first")
