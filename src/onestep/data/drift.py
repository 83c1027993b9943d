"""How far the footage has moved from what the model in production was trained on: Evidently's distances and page.

It reports and decides nothing: the gate compares models, not data.
"""

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from onestep.core.storage import read_table, replacing, sha256_file, write_json
from onestep.data.clips import read_index
from onestep.data.drift_settings import DriftSettings
from onestep.data.schema import INDEX, INDEX_TYPES
from onestep.report.page import render_page

_NUMBERS = ("brightness", "movement", "caption length", "height", "width", "frames")
_WORDS = "caption words"
_METHODS = {**dict.fromkeys(_NUMBERS, "wasserstein"), _WORDS: "jensenshannon"}
_MOST_WORDS = 200  # further words count as one
_RANDOM_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<=metric_)[0-9a-f]{32}")


def drift(clips: Path, reference: Path | None, out: Path, page: Path, settings: DriftSettings) -> None:
    """Compare the training clips with those of the model in production; write `out` (JSON) and `page` (HTML, offline).

    reference: the `clips.parquet` that model was trained on, or None, or a path that does not exist: then both files
    say that there is no reference. Distances are Wasserstein's over the reference's standard deviation for numbers and
    Jensen and Shannon's for words. The same tables and settings give the same bytes.
    """
    current = _training(read_index(clips))
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
        before = _training(read_table(reference, columns=INDEX_TYPES))
        record["reference"] = {"clips": len(before), "index_sha256": sha256_file(reference)}
        if current.empty or before.empty:
            record["reason"] = f"no training clips in the {'current' if current.empty else 'reference'} index"
        else:
            _compare(record, current, before, page, settings)
    write_json(out, record)
    if record["drifted"] is None:
        render_page("drift.html.j2", page, record=record)


def _compare(
    record: dict[str, Any], current: pd.DataFrame, before: pd.DataFrame, page: Path, settings: DriftSettings
) -> None:
    now, then = _measures(current), _measures(before)
    words_now, words_then = _words(current), _words(before)
    common = {word for word, _ in (Counter(words_now) + Counter(words_then)).most_common(_MOST_WORDS)}
    now[_WORDS], then[_WORDS] = _spread(words_now, common, len(now)), _spread(words_then, common, len(then))
    distances = _distances(now, then, page, settings.distance)
    record["columns"] = [
        {
            "column": name,
            "method": _METHODS[name],
            "distance": distance,
            "drifted": distance >= settings.distance,
            "reference_mean": _mean(then, name),
            "current_mean": _mean(now, name),
        }
        for name, distance in distances.items()
    ]
    record["words"] = {
        "new": sorted(set(words_now) - set(words_then)),
        "gone": sorted(set(words_then) - set(words_now)),
    }
    moved = sum(column["drifted"] for column in record["columns"])
    record["drifted"] = moved / len(record["columns"]) >= settings.share
    record["reason"] = f"{moved} of {len(record['columns'])} columns moved by {settings.distance} or more"


def _training(index: pd.DataFrame) -> pd.DataFrame:
    return index[index["split"] == "train"].reset_index(drop=True)


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


def _distances(now: pd.DataFrame, then: pd.DataFrame, page: Path, threshold: float) -> dict[str, float]:
    """Evidently's distance of each column, and its page."""
    os.environ["DO_NOT_TRACK"] = "1"
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    definition = DataDefinition(numerical_columns=list(_NUMBERS), categorical_columns=[_WORDS])
    metrics = [ValueDrift(column=name, method=method, threshold=threshold) for name, method in _METHODS.items()]
    snapshot = Report(metrics).run(Dataset.from_pandas(now, definition), Dataset.from_pandas(then, definition))
    with replacing(page) as partial:
        snapshot.save_html(str(partial))
        partial.write_text(_without_random_ids(partial.read_text(encoding="utf-8")), encoding="utf-8")
    values = {metric["config"]["column"]: float(metric["value"]) for metric in snapshot.dict()["metrics"]}
    return {name: round(values[name], 6) for name in _METHODS}


def _without_random_ids(page: str) -> str:
    """The page with its random ids numbered in order, so that the same data give the same bytes."""
    numbers: dict[str, int] = {}
    return _RANDOM_ID.sub(lambda match: f"id{numbers.setdefault(match[0], len(numbers)):06d}", page)
