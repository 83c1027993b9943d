"""Fidelity: how near a clip's texture lies to that of real clips; and the scores that a preference is counted by.

Each clip has one score per question, from what was measured of it anyway:

- fidelity: less the mean distance to the nearest few textures of the reference (the distance behind the manifolds of
  Kynkäänniemi et al., arXiv 1904.06991, section 3). A Gaussian's density would not do: it is highest between the modes,
  where no real clip is. The texture is mean and spread of the judge's patch features, whitened by how they differ between
  real clips of one caption: so what such clips agree in weighs more than the content, in which any two clips differ. (The
  judge's clip features are mostly content: in them, obvious grain moves a clip by less than two real clips of one caption
  differ.)
- structure: `structural_stability`.
- text: `attribute_accuracy`, or `text_alignment` where the captions have no attributes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from onestep.core.storage import StorageError, read_mapping
from onestep.evaluation.columns import ACCURACY
from onestep.evaluation.distances import Moments
from onestep.evaluation.measurement import Measurement

NEIGHBOURS = 5  # nearest real clips that a clip's fidelity is measured to
TEXT_SCORES = (ACCURACY, "text_alignment")
FIX_AGAIN = "run onestep margins before the next comparison"
_LEAST_VARIANCE = 1e-6


class MarginsError(ValueError):
    """Margins cannot be fixed or read; the message names the file and what would do."""


@dataclass(frozen=True)
class Margins:
    """Within how much two clips are the same, by score, and the judge and clip size for which that holds."""

    judge: str  # sha256 of its folder
    shape: tuple[int, int, int]  # frames, height, width of the clips
    margins: Mapping[str, float]  # by the score's name
    whitening: np.ndarray  # [D, D], of textures

    def misfit(self, judge: str, shape: tuple[int, int, int]) -> str | None:
        """Why these margins do not hold for clips of this shape under this judge, or None."""
        if judge != self.judge:
            return f"the margins were fixed with another judge; {FIX_AGAIN}"
        if shape != self.shape:
            return f"the margins were fixed on clips of {_size(self.shape)}, and these are {_size(shape)}; {FIX_AGAIN}"
        return None


def read_margins(path: Path) -> Margins:
    """What `margins.fix_margins` wrote; raises `MarginsError`."""
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
        raise MarginsError(
            f"{path} holds no margins ({error}): make it by onestep margins data/clips models/judge --out {path}"
        ) from error


def texture(patches: Moments) -> np.ndarray:
    """One vector per clip `[N, D]`: the mean of its patches' features and the logarithm of their spread."""
    arrays = patches.arrays()
    count, dim = float(arrays["per_clip"][0]), arrays["sums"].shape[1]
    rows, columns = np.triu_indices(dim)
    mean = arrays["sums"] / count
    variance = arrays["outers"][:, rows == columns] / count - mean**2
    return np.concatenate([mean, np.log(np.clip(variance, _LEAST_VARIANCE, None)) / 2], axis=1)


def whitening_within(vectors: np.ndarray, captions: pd.Series) -> np.ndarray:
    """The matrix `[D, D]` that makes vectors `[N, D]` of one caption uncorrelated, with variance 1 about their mean.

    A direction of less than a thousandth of the mean variance is scaled as if it had that.
    """
    groups = captions.astype("category").cat.codes.to_numpy()
    sizes = np.bincount(groups)
    means = np.stack([np.bincount(groups, column) / sizes for column in vectors.T], axis=1)
    apart = vectors - means[groups]
    variances, directions = np.linalg.eigh(apart.T @ apart / max(len(vectors) - len(sizes), 1))
    return directions / np.sqrt(np.maximum(variances, 1e-3 * variances.mean() + _LEAST_VARIANCE**2))


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


def scores(measured: Measurement, reference: np.ndarray, margins: Margins) -> dict[str, np.ndarray]:
    """Every score that these clips have, `[N]` each and higher is better; reference: textures of real clips `[M, D]`."""
    own = texture(measured.patches) @ margins.whitening
    return {"fidelity": fidelity(own, reference @ margins.whitening), **scored_columns(measured)}


def scored_columns(measured: Measurement) -> dict[str, np.ndarray]:
    """The scores that are columns of the measured clips, `[N]` each."""
    names = ("structural_stability", *TEXT_SCORES)
    return {name: measured.clips[name].to_numpy(np.float64) for name in names if name in measured.clips}


def _size(shape: tuple[int, int, int]) -> str:
    return f"{shape[0]} frames of {shape[1]} x {shape[2]}"
