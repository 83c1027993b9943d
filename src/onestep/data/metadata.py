"""`metadata.csv`: the captions of a folder of footage, in the video-folder convention."""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

import fsspec
import pandas as pd

from onestep.data.world import ATTRIBUTES

FILE = "metadata.csv"
SPLITS = ("train", "dev", "test")
_ROUNDING_S = 0.001  # windows are written with few digits: neighbours may seem to overlap by this much
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}


class MetadataError(ValueError):
    """`metadata.csv` is missing or says something impossible; the message names the file and the row."""


@dataclass(frozen=True)
class Caption:
    """One row of `metadata.csv`: what a time window of a file shows. No window means the whole file."""

    text: str
    start_s: float = 0.0
    end_s: float = float("inf")
    whole: bool = True
    split: str = ""  # blank: by a hash of the file's name
    held_out: bool = False
    attributes: tuple[tuple[str, str], ...] = ()

    def overlap_s(self, start_s: float, end_s: float) -> float:
        """How many seconds of a window this row speaks about."""
        return max(min(end_s, self.end_s) - max(start_s, self.start_s), 0.0)


def caption_of(captions: Sequence[Caption], start_s: float, end_s: float) -> Caption | None:
    """The row that overlaps a shot most, a row with a window before one without; None where no row speaks of it."""
    touching = [c for c in captions if c.overlap_s(start_s, end_s) > _ROUNDING_S]
    return max(touching, key=lambda c: (not c.whole, c.overlap_s(start_s, end_s)), default=None)


def read_metadata(fs: fsspec.AbstractFileSystem, root: str) -> dict[str, list[Caption]]:
    """The rows of `metadata.csv` by file name, in the file's order; raises `MetadataError`."""
    path = posixpath.join(root, FILE)
    try:
        with fs.open(path, "rb") as handle:
            table = pd.read_csv(handle, dtype=str, keep_default_na=False, skipinitialspace=True)
    except FileNotFoundError as error:
        raise MetadataError(f"{path} does not exist: it must name every video and its caption") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise MetadataError(f"{path} is not a CSV table in UTF-8: {error}") from error
    for column in ("file_name", "caption"):
        if column not in table.columns:
            raise MetadataError(f"{path} has no column {column}: its columns are {', '.join(table.columns)}")
    captions: dict[str, list[Caption]] = {}
    for line, row in enumerate(table.to_dict("records"), start=2):
        values = {str(key): str(value).strip() for key, value in row.items()}
        captions.setdefault(posixpath.normpath(values["file_name"]), []).append(_caption(values, f"{path} line {line}"))
    for name, rows in captions.items():
        if len({row.split for row in rows}) > 1:
            raise MetadataError(f"{path}: {name} has rows in several splits; all shots of a file belong in one")
    return captions


def _caption(row: dict[str, str], where: str) -> Caption:
    split = row.get("split", "").lower()
    if split not in ("", *SPLITS):
        raise MetadataError(f"{where}: split {split!r} is unknown: use {', '.join(SPLITS)}, or leave it blank")
    held_out = row.get("held_out", "").lower()
    if held_out not in _TRUTH:
        raise MetadataError(f"{where}: held_out {held_out!r} is neither true nor false")
    start, end = (_seconds(row.get(key, ""), key, where) for key in ("start_s", "end_s"))
    if start is not None and end is not None and end <= start:
        raise MetadataError(f"{where}: end_s {end} is not after start_s {start}")
    return Caption(
        text=row["caption"],
        start_s=start or 0.0,
        end_s=float("inf") if end is None else end,
        whole=start is None and end is None,
        split=split,
        held_out=_TRUTH[held_out],
        attributes=tuple((name, row[name]) for name in ATTRIBUTES if name in row),
    )


def _seconds(value: str, key: str, where: str) -> float | None:
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise MetadataError(f"{where}: {key} {value!r} is not a number of seconds from the file's start")
    return seconds
