"""How far the footage has moved from what the model in production was trained on: Evidently's distances.

It reports and decides nothing: the gate compares models, not data.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from onestep.core.storage import sha256_file, write_json
from onestep.data.clips import read_index
from onestep.data.drift_comparison import METHODS, WORDS, compared, reference_clips, tables, training_clips, words_of
from onestep.data.drift_settings import DriftSettings
from onestep.data.schema import INDEX


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
        for name, method in METHODS.items()
    ]
    words_now, words_then = set(words_of(current)), set(words_of(before))
    record["words"] = {"new": sorted(words_now - words_then), "gone": sorted(words_then - words_now)}
    moved = sum(column["drifted"] for column in record["columns"])
    record["drifted"] = moved / len(record["columns"]) >= settings.share
    record["reason"] = f"{moved} of {len(record['columns'])} columns moved by {settings.distance} or more"


def _mean(table: pd.DataFrame, name: str) -> float | None:
    return None if name == WORDS else round(float(table[name].mean()), 6)
