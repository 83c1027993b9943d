"""Preference without people: on how many prompts is one model's clip better than another's, of one caption and noise?

GSB = (good − bad) / (good + same + bad), the form of APT's study with human raters (arXiv 2501.08316, section 4.2), on
fidelity, structure and text. Each clip has one score per question, from what was measured of it anyway:

- fidelity: how near the clip's texture lies to that of real clips, less the mean distance to the nearest few of the
  reference (the distance behind the manifolds of Kynkäänniemi et al., arXiv 1904.06991, section 3). A Gaussian's density
  would not do: it is highest between the modes, where no real clip is. The texture is mean and spread of the judge's
  patch features, whitened by how they differ between real clips of one caption: so what such clips agree in weighs more
  than the content, in which any two clips differ. (The judge's clip features are mostly content: in them, grain that
  nobody overlooks moves a clip by less than two real clips of one caption differ.)
- structure: `structural_stability`.
- text: `attribute_accuracy`, or `text_alignment` where the captions have no attributes.

Two clips are the same within a margin: the 95th percentile of the difference between two real clips of one caption. The
margins are fixed once, from real clips alone (`fix_margins`), before any model is scored by them; no run moves them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from onestep.core.storage import StorageError, read_mapping, sha256_folder, write_json
from onestep.data.clips import load_frames, read_index
from onestep.evaluation.comparison import cell
from onestep.evaluation.distances import Draws, Moments, mean_of
from onestep.evaluation.judge import load_judge
from onestep.evaluation.measurement import Measured, make_ruler, measure

QUESTIONS = ("fidelity", "structure", "text")
# What three human raters a pair said of APT's one step against its own 25, video, in % (arXiv 2501.08316, section 4.2).
PUBLISHED = {"fidelity": 10.4, "structure": -38.5, "text": -8.3}
NEIGHBOURS = 5  # nearest real clips that a clip's fidelity is measured to
QUANTILE = 0.95  # of the differences of two real clips; so at most one pair in twenty of real clips is not 'same'
MANY_STEPS = 25  # from here on a teacher's setting is the one that a one-step model is held against
MIN_PAIRS = 100
_CLIPS_OF_A_CAPTION = 8  # at most, so that no caption rules the margins
_TIES = 1e-9  # differences of means of five attributes that differ by less are the same difference
_FAINT = 1e-6
_DIGITS = 7
_TEXT_SCORES = ("attribute_accuracy", "text_alignment")
_TEACHER = "teacher-"
_ANEW = "run onestep margins before the next comparison"


class PreferenceError(ValueError):
    """Margins cannot be fixed or read; the message names the file and what would do."""


@dataclass(frozen=True)
class Margins:
    """Within how much two clips are the same, by score, and the ruler for which that holds."""

    judge: str  # sha256 of its folder
    shape: tuple[int, int, int]  # frames, height, width of the clips
    margins: Mapping[str, float]  # by the score's name
    whitening: np.ndarray  # [D, D], of textures

    def misfit(self, judge: str, shape: tuple[int, int, int]) -> str | None:
        """Why these margins do not hold for clips of this shape under this judge, or None."""
        if judge != self.judge:
            return f"the margins were fixed with another judge; {_ANEW}"
        if shape != self.shape:
            return f"the margins were fixed on clips of {_size(self.shape)}, and these are {_size(shape)}; {_ANEW}"
        return None


def fix_margins(clips: Path, judge: Path, out: Path, split: str = "test", text_model: str | None = None) -> None:
    """Write the margins of a clips folder under a judge to the JSON file `out`; only real clips are looked at.

    Every pair of clips of one caption counts, of at most eight clips of a caption. Raises `PreferenceError` where
    the split has too few such pairs.
    """
    index = read_index(clips)
    index = index[index["split"] == split]
    chosen = index[index.groupby("caption").cumcount() < _CLIPS_OF_A_CAPTION].reset_index(drop=True)
    first, second = pairs(chosen["caption"])
    if len(first) < MIN_PAIRS:
        raise PreferenceError(
            f"{clips} has {len(first)} pairs of {split} clips with one caption and margins need {MIN_PAIRS}: add clips "
            "whose captions repeat, or choose another split by --split"
        )
    frames = load_frames(clips, chosen["clip_id"].tolist())
    measured = measure(frames, make_ruler(load_judge(judge), chosen, text_model))
    textures = texture(measured.patches)
    whitening = _rounded(whitening_within(textures, chosen["caption"]))
    whitened = textures @ whitening
    found = {"fidelity": fidelity(whitened, whitened, itself=True), **_columns(measured)}
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


def read_margins(path: Path) -> Margins:
    """What `fix_margins` wrote; raises `PreferenceError`."""
    try:
        content = read_mapping(path, judge=str, shape=list, margins=dict, whitening=list)
        frames, height, width = (int(size) for size in content["shape"])
        values = {str(name): float(value) for name, value in content["margins"].items()}
        whitening = np.array([row.split() for row in content["whitening"]], np.float64)
        if not (
            np.isfinite(whitening).all() and np.isfinite(list(values.values())).all() and min(values.values()) >= 0
        ):
            raise ValueError("a margin is negative, or a number is not finite")
        if whitening.ndim != 2 or whitening.shape[0] != whitening.shape[1]:
            raise ValueError("the whitening has not as many columns as rows")
        return Margins(content["judge"], (frames, height, width), values, whitening)
    except (StorageError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise PreferenceError(
            f"{path} holds no margins ({error}): make it by onestep margins data/clips models/judge --out {path}"
        ) from error


def margin(differences: np.ndarray) -> float:
    """The smallest difference that 95 % of these do not exceed; of a score with few values, so a whole step of it."""
    return float(np.quantile(np.abs(differences), QUANTILE, method="inverted_cdf"))


def pairs(captions: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Rows of both clips of every pair with one caption, each pair once."""
    words = captions.to_numpy()
    first, second = np.triu_indices(len(words), 1)
    alike = words[first] == words[second]
    return first[alike], second[alike]


def texture(patches: Moments) -> np.ndarray:
    """One vector per clip `[N, D]`: the mean of its patches' features and the logarithm of their spread."""
    arrays = patches.arrays()
    count, dim = float(arrays["per_clip"][0]), arrays["sums"].shape[1]
    rows, columns = np.triu_indices(dim)
    mean = arrays["sums"] / count
    variance = arrays["outers"][:, rows == columns] / count - mean**2
    return np.concatenate([mean, np.log(np.clip(variance, _FAINT, None)) / 2], axis=1)


def whitening_within(vectors: np.ndarray, captions: pd.Series) -> np.ndarray:
    """The matrix `[D, D]` that makes vectors `[N, D]` of one caption uncorrelated, with variance 1 about their mean.

    A direction of less than a thousandth of the mean variance is scaled as if it had that.
    """
    groups = captions.astype("category").cat.codes.to_numpy()
    sizes = np.bincount(groups)
    means = np.stack([np.bincount(groups, column) / sizes for column in vectors.T], axis=1)
    apart = vectors - means[groups]
    variances, directions = np.linalg.eigh(apart.T @ apart / max(len(vectors) - len(sizes), 1))
    return directions / np.sqrt(np.maximum(variances, 1e-3 * variances.mean() + _FAINT**2))


def fidelity(textures: np.ndarray, reference: np.ndarray, itself: bool = False) -> np.ndarray:
    """Less the mean distance of each texture `[N, D]` to its nearest reference clips' `[M, D]`; higher is better.

    itself: the clips are the reference, and none is its own neighbour.
    """
    squares = (textures**2).sum(1)[:, None] + (reference**2).sum(1)[None] - 2 * textures @ reference.T
    distances = np.sqrt(np.clip(squares, 0, None))
    if itself:
        np.fill_diagonal(distances, np.inf)
    count = min(NEIGHBOURS, len(reference) - itself)
    return -np.partition(distances, count - 1, axis=1)[:, :count].mean(1)


def scores(measured: Measured, reference: np.ndarray, margins: Margins) -> dict[str, np.ndarray]:
    """Every score that these clips have, `[N]` each and higher is better; reference: textures of real clips `[M, D]`."""
    own = texture(measured.patches) @ margins.whitening
    return {"fidelity": fidelity(own, reference @ margins.whitening), **_columns(measured)}


def preferred(difference: np.ndarray, margin: float) -> np.ndarray:
    """1 where the first clip is better, −1 where it is worse, 0 where both are the same: within the margin, or on it."""
    return np.where(np.abs(difference) > margin + _TIES, np.sign(difference), 0.0)


def gsb(
    candidate: Measured, other: Measured, reference: np.ndarray, margins: Margins, draws: Draws, confidence: float
) -> dict[str, dict[str, float]]:
    """By question the candidate's GSB against another model, with its interval over prompts and the three shares.

    A question that either model or the margins lack is left out (`unanswered` says why).
    """
    ours, theirs = scores(candidate, reference, margins), scores(other, reference, margins)
    found = {}
    for question, name in asked(ours, margins).items():
        if name in theirs:
            sides = preferred(ours[name] - theirs[name], margins.margins[name])
            shares = {word: float((sides == side).mean()) for word, side in (("good", 1), ("same", 0), ("bad", -1))}
            found[question] = cell(mean_of(sides, draws), confidence) | shares
    return found


def asked(known: Mapping[str, Any], margins: Margins) -> dict[str, str]:
    """By question the score that answers it: one that was measured and has a margin."""
    text = [name for name in _TEXT_SCORES if name in known and name in margins.margins]
    ways = {"fidelity": ["fidelity"], "structure": ["structural_stability"], "text": text}
    return {q: names[0] for q, names in ways.items() if names and names[0] in known and names[0] in margins.margins}


def unanswered(known: Mapping[str, Any], margins: Margins) -> dict[str, str]:
    """By question why it has no answer."""
    reasons = {}
    for question in QUESTIONS:
        if question in asked(known, margins):
            continue
        measured = question != "text" or any(name in known for name in _TEXT_SCORES)
        reasons[question] = (
            f"the margins were fixed without this score; {_ANEW}"
            if measured
            else "the footage has no attribute columns that the judge knows, and no evaluate.text_model is configured"
        )
    return reasons


def best_of_many_steps(
    models: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Mapping[str, Any]]
) -> str | None:
    """The teacher's setting with the lowest Fréchet video distance among those of 25 steps and more.

    Among those with the most steps where none has so many; None without a teacher. models, settings: of `metrics.json`.
    """
    steps = {name: settings[name]["steps"] for name in models if name.startswith(_TEACHER) and name in settings}
    least = min(MANY_STEPS, max(steps.values(), default=0))
    slow = sorted(name for name, count in steps.items() if count >= least)
    return min(slow, key=lambda name: models[name]["frechet_video_distance"]["value"], default=None)


def preference(
    measured: Mapping[str, Measured],
    candidate: str,
    reference: np.ndarray,
    margins: Margins,
    draws: Draws,
    confidence: float,
    against: str | None,
) -> dict[str, Any]:
    """The `gsb` of `metrics.json`: per other model `"onestep vs teacher-25": {question: cell}`, and that of `against` itself.

    The questions at the top are the candidate's against `against`; `unmeasured` says why one is missing.
    """
    versus = {
        f"{candidate} vs {other}": gsb(measured[candidate], found, reference, margins, draws, confidence)
        for other, found in measured.items()
        if other != candidate
    }
    known = scores(measured[candidate], reference, margins)
    answered = asked(known, margins)
    return {
        "against": against,
        **versus.get(f"{candidate} vs {against}", {}),
        **versus,
        "margins": {question: {"score": name, "margin": margins.margins[name]} for question, name in answered.items()},
        "unmeasured": unanswered(known, margins),
    }


def _columns(measured: Measured) -> dict[str, np.ndarray]:
    names = ("structural_stability", *_TEXT_SCORES)
    return {name: measured.clips[name].to_numpy(np.float64) for name in names if name in measured.clips}


def _rounded(values: np.ndarray) -> np.ndarray:
    """As they are written, so that what is fixed is what is read."""
    return np.array([[float(f"{value:.{_DIGITS}g}") for value in row] for row in values])


def _size(shape: tuple[int, int, int]) -> str:
    return f"{shape[0]} frames of {shape[1]} x {shape[2]}"
