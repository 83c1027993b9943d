"""The columns of a clips folder's tables, `clips.parquet` and `quarantine.parquet`, and of the `metadata.csv` they come from."""

from collections.abc import Hashable, Iterable

INDEX = "clips.parquet"
QUARANTINE = "quarantine.parquet"
INDEX_TYPES = {
    "clip_id": "str",
    "shard": "str",
    "source": "str",
    "source_sha256": "str",
    "start_s": "float64",
    "end_s": "float64",
    "caption": "str",
    "split": "str",
    "held_out": "bool",
    "frames": "int64",
    "height": "int64",
    "width": "int64",
    "fps": "float64",
    "brightness": "float64",
    "movement": "float64",
    "phash": "str",
}
QUARANTINE_TYPES = {"source": "str", "shot": "Int64", "line": "Int64", "reason": "str", "detail": "str"}
LICENCE = "licence"  # optional: under which terms the footage may be used
_TAKEN = {*INDEX_TYPES, LICENCE, "file_name", "prompt_id"}  # `prompt_id` numbers the prompts that samples are made from


def attribute_columns(names: Iterable[Hashable]) -> list[str]:
    """The attributes among these columns, in their order: what the table tells of its clips beyond caption and rights.

    names: the columns of `metadata.csv`, or a table, or a row of it. Every column is an attribute whose name the index
    does not use itself.
    """
    return [str(name) for name in names if name not in _TAKEN]
