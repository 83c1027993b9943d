"""Within how much two clips are the same: fixed once, from real clips alone, before any model is scored; no run moves it.

The margin of a score is the 95th percentile of the difference between two real clips of one caption.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from onestep.core.storage import sha256_folder, write_json
from onestep.data.clips import load_frames, read_index
from onestep.evaluation.fidelity import MarginsError, fidelity, scored_columns, texture, whitening_within
from onestep.evaluation.judge import load_judge
from onestep.evaluation.measurement import make_measurer, measure

QUANTILE = 0.95  # of the differences of two real clips; so at most one pair in twenty of real clips is not 'same'
MIN_PAIRS = 100
_CLIPS_OF_A_CAPTION = 8  # at most, so that no caption dominates the margins
_DIGITS = 7


def fix_margins(clips: Path, judge: Path, out: Path, split: str = "test", text_model: str | None = None) -> None:
    """Write the margins of a clips folder under a judge to the JSON file `out`; from real clips alone.

    Every pair of clips of one caption counts, of at most eight clips of a caption. Raises `MarginsError` where
    the split has too few such pairs.
    """
    index = read_index(clips)
    index = index[index["split"] == split]
    chosen = index[index.groupby("caption").cumcount() < _CLIPS_OF_A_CAPTION].reset_index(drop=True)
    first, second = pairs(chosen["caption"])
    if len(first) < MIN_PAIRS:
        raise MarginsError(
            f"{clips} has {len(first)} pairs of {split} clips with one caption and margins need {MIN_PAIRS}: add clips "
            "whose captions repeat, or choose another split by --split"
        )
    frames = load_frames(clips, chosen["clip_id"].tolist())
    measured = measure(frames, make_measurer(load_judge(judge), chosen, text_model))
    textures = texture(measured.patches)
    whitening = _rounded(whitening_within(textures, chosen["caption"]))
    whitened = textures @ whitening
    found = {"fidelity": fidelity(whitened, whitened, itself=True), **scored_columns(measured)}
    write_json(
        out,
        {
            "judge": sha256_folder(judge),
            "shape": list(frames.shape[1:4]),
            "quantile": QUANTILE,
            "real": {
                "split": split,
                "clips": len(chosen),
                "captions": chosen["caption"].nunique(),
                "pairs": len(first),
            },
            "margins": {name: margin(values[first] - values[second]) for name, values in found.items()},
            "whitening": [" ".join(f"{value:.{_DIGITS}g}" for value in row) for row in whitening],
        },
    )


def margin(differences: np.ndarray) -> float:
    """The smallest difference that 95 % of these do not exceed; of a score with few values, so a whole step of it."""
    return float(np.quantile(np.abs(differences), QUANTILE, method="inverted_cdf"))


def pairs(captions: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Rows of both clips of every pair with one caption, each pair once."""
    words = captions.to_numpy()
    first, second = np.triu_indices(len(words), 1)
    alike = words[first] == words[second]
    return first[alike], second[alike]


def _rounded(values: np.ndarray) -> np.ndarray:
    """As they are written, so that what is fixed is what is read."""
    return np.array([[float(f"{value:.{_DIGITS}g}") for value in row] for row in values])
