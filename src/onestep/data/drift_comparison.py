"""What is compared of two sets of clips, and Evidently's comparison of it."""

import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from onestep.core.storage import read_table
from onestep.data.schema import INDEX_TYPES

if TYPE_CHECKING:
    from evidently.core.report import Snapshot

_NUMBERS = ("brightness", "movement", "caption length", "height", "width", "frames")
WORDS = "caption words"
METHODS = {**dict.fromkeys(_NUMBERS, "wasserstein"), WORDS: "jensenshannon"}
_MOST_WORDS = 200  # further words count as one


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

    definition = DataDefinition(numerical_columns=list(_NUMBERS), categorical_columns=[WORDS])
    metrics = [ValueDrift(column=name, method=method, threshold=distance) for name, method in METHODS.items()]
    return Report(metrics).run(Dataset.from_pandas(now, definition), Dataset.from_pandas(then, definition))


def tables(current: pd.DataFrame, before: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What is compared of two indices' clips, neither of them empty: numbers of each clip, and as many of their words."""
    now, then = _measures(current), _measures(before)
    words_now, words_then = words_of(current), words_of(before)
    common = {word for word, _ in (Counter(words_now) + Counter(words_then)).most_common(_MOST_WORDS)}
    now[WORDS], then[WORDS] = _spread(words_now, common, len(now)), _spread(words_then, common, len(then))
    return now, then


def _measures(index: pd.DataFrame) -> pd.DataFrame:
    table = index[["brightness", "movement", "height", "width", "frames"]].astype(float)
    table["caption length"] = index["caption"].map(lambda caption: float(len(caption.split())))
    return table[list(_NUMBERS)]


def words_of(index: pd.DataFrame) -> list[str]:
    """All words of the captions, in lower case."""
    return [word for caption in index["caption"].str.lower() for word in re.findall(r"\w+", caption)]


def _spread(words: list[str], common: set[str], rows: int) -> list[str]:
    """As many words as the table has rows, taken evenly from the sorted list, so that their shares are kept."""
    ordered = sorted(word if word in common else "(other)" for word in words) or ["(none)"]
    return [ordered[int((row + 0.5) * len(ordered) / rows)] for row in range(rows)]
