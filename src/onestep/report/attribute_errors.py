"""Attribute errors by word: an average over all words of the captions hides one that a model never learned to show."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from onestep.evaluation.columns import ASKED, PER_ATTRIBUTE


@dataclass(frozen=True)
class WordErrors:
    """One word that captions ask for, and the share of its clips, in [0, 1], in which the judge names it, by model."""

    word: str
    attribute: str
    clips: int
    shares: dict[str, float]


def attribute_errors(per_prompt: pd.DataFrame, models: Sequence[str], most: int) -> list[WordErrors]:
    """The words by which the first of the models falls behind the second by the most clips, at most `most` of them.

    per_prompt: `per_prompt.parquet`, one row per model and prompt. With one model alone, what it misses counts.
    A word that the first model never misses is left out.
    """
    found = []
    for column in (name for name in map(str, per_prompt.columns) if name.startswith(ASKED)):
        attribute = column.removeprefix(ASKED)
        hit = f"{PER_ATTRIBUTE}{attribute}"
        if hit not in per_prompt:  # the judge does not know every word of this attribute
            continue
        shares = per_prompt.pivot_table(index=column, columns="model", values=hit)
        clips = per_prompt[per_prompt["model"] == models[0]].groupby(column).size().to_dict()
        found += [
            WordErrors(str(word), attribute, int(clips[word]), {model: float(row[model]) for model in models})
            for word, row in shares.iterrows()
        ]
    missed = [word for word in found if word.shares[models[0]] < 1]
    return sorted(missed, key=lambda word: _behind(word, models))[:most]


def _behind(word: WordErrors, models: Sequence[str]) -> float:
    other = word.shares[models[1]] if len(models) > 1 else 1.0
    return word.clips * (word.shares[models[0]] - other)
