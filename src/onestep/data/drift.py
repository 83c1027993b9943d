"""How far the footage has moved from what the model in production was trained on: Evidently's distances.

It reports and decides nothing: the gate compares models, not data.
"""

import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from onestep.core.storage import read_table, sha256_file, write_json
from onestep.data.clips import read_index
from onestep.data.drift_settings import DriftSettings
from onestep.data.schema import INDEX, INDEX_TYPES

if TYPE_CHECKING:
    from evidently.core.report import Snapshot

_NUMBERS = ("brightness", "movement", "caption length", "height", "width", "frames")
_WORDS = "caption words"
_METHODS = {**dict.fromkeys(_NUMBERS, "wasserstein"), _WORDS: "jensenshannon"}
_MOST_WORDS = 200  # further words count as one


def drift(clips: Path, reference: Path | None, out: Path, settings: DriftSettings) -> None:
    """Compare the training clips with those of the model in production; write `out` (JSON).

    reference: the `clips.parquet` that model was trained on, or None, or a path that does not exist: then the record
    says that there is no reference. Distances are Wasserstein's over the reference's standard deviation for numbers and
    Jensen and Shannon's for words. The same tables and settings give the same bytes.
    """
    current = training_clips(read_index(clips))
    record: dict[str, Any] = {
        "current": {"clips": len(current), "index_sha256": sha256_file(clips / INDEX)},
        "reference": None,
        "drifted": None,
        "columns": [],
        "words": {"new": [], "gone": []},
        "limit": {"distance": settings.distance, "share": settings.share},
    }
    if reference is None or not reference.is_file():
        record["reason"] = "no reference: no model is in production, or it came without an index of its clips"
    else:
        before = reference_clips(reference)
        record["reference"] = {"clips": len(before), "index_sha256": sha256_file(reference)}
        if current.empty or before.empty:
            record["reason"] = f"no training clips in the {'current' if current.empty else 'reference'} index"
        else:
            _compare(record, current, before, settings)
    write_json(out, record)


def training_clips(index: pd.DataFrame) -> pd.DataFrame:
    """The rows of an index whose clips are trained on."""
    return index[index["split"] == "train"].reset_index(drop=True)


def reference_clips(index: Path) -> pd.DataFrame:
    """The training clips of another index; raises `StorageError` where it is broken or lacks a column."""
    return training_clips(read_table(index, columns=INDEX_TYPES))


def compared(now: pd.DataFrame, then: pd.DataFrame, distance: float) -> "Snapshot":
    """Evidently's comparison of the `tables` of two sets of clips; distance: from which on a column counts as drifted."""
    os.environ["DO_NOT_TRACK"] = "1"
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    definition = DataDefinition(numerical_columns=list(_NUMBERS), categorical_columns=[_WORDS])
    metrics = [ValueDrift(column=name, method=method, threshold=distance) for name, method in _METHODS.items()]
    return Report(metrics).run(Dataset.from_pandas(now, definition), Dataset.from_pandas(then, definition))


def _compare(record: dict[str, Any], current: pd.DataFrame, before: pd.DataFrame, settings: DriftSettings) -> None:
    now, then = tables(current, before)
    found = compared(now, then, settings.distance).dict()["metrics"]
    distances = {metric["config"]["column"]: round(float(metric["value"]), 6) for metric in found}
    record["columns"] = [
        {
            "column": name,
            "method": method,
            "distance": distances[name],
            "drifted": distances[name] >= settings.distance,
            "reference_mean": _mean(then, name),
            "current_mean": _mean(now, name),
        }
        for name, method in _METHODS.items()
    ]
    words_now, words_then = set(_words(current)), set(_words(before))
    record["words"] = {"new": sorted(words_now - words_then), "gone": sorted(words_then - words_now)}
    moved = sum(column["drifted"] for column in record["columns"])
    record["drifted"] = moved / len(record["columns"]) >= settings.share
    record["reason"] = f"{moved} of {len(record['columns'])} columns moved by {settings.distance} or more"


def tables(current: pd.DataFrame, before: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What is compared of two indices' clips, neither of them empty: numbers of each clip, and as many of their words."""
    now, then = _measures(current), _measures(before)
    words_now, words_then = _words(current), _words(before)
    common = {word for word, _ in (Counter(words_now) + Counter(words_then)).most_common(_MOST_WORDS)}
    now[_WORDS], then[_WORDS] = _spread(words_now, common, len(now)), _spread(words_then, common, len(then))
    return now, then


def _measures(index: pd.DataFrame) -> pd.DataFrame:
    table = index[["brightness", "movement", "height", "width", "frames"]].astype(float)
    table["caption length"] = index["caption"].map(lambda caption: float(len(caption.split())))
    return table[list(_NUMBERS)]


def _mean(table: pd.DataFrame, name: str) -> float | None:
    return None if name == _WORDS else round(float(table[name].mean()), 6)


def _words(index: pd.DataFrame) -> list[str]:
    return [word for caption in index["caption"].str.lower() for word in re.findall(r"\w+", caption)]


def _spread(words: list[str], common: set[str], rows: int) -> list[str]:
    """As many words as the table has rows, taken evenly from the sorted list, so that their shares are kept."""
    ordered = sorted(word if word in common else "(other)" for word in words) or ["(none)"]
    return [ordered[int((row + 0.5) * len(ordered) / rows)] for row in range(rows)]
