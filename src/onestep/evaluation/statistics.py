"""Is the candidate better than another model on the same prompts and noise? Paired permutation tests, one per metric.

Under the null hypothesis the two clips of a prompt could as well have come from the other model, so the labels may be
exchanged within any prompt: Fisher's randomisation test for pairs (Fisher, 1935, section 21; Good, 2005, chapter 3). A
permutation flips the sign of some prompts' differences, so a test of a mean costs one product of matrices.

For a number that belongs to a whole set, each clip's contribution is its derivative at both models' clips pooled, a
point that no exchange of labels moves. The kernel distance and the mean pairwise distance are quadratic in the set, so
their difference is exactly the sum of these contributions' differences. For Fréchet distances it is so up to third order
(the midpoint rule), and the test stays exact whatever the statistic, because the null distribution is that of the same
statistic. What exactness does not cover, models that differ but are no better, `skew_corrected` guards.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from onestep.evaluation.distances import Moments, _cubic
from onestep.evaluation.names import better

if TYPE_CHECKING:
    from onestep.evaluation.measurement import Measurement

RESOLUTION = 10  # permutations that may still reach the observed difference at a p-value of exactly alpha
LEAST, MOST = 999, 9_999_999  # permutations of any test
_CHUNK = 1 << 22  # signs drawn at once
_TIES = 1e-9  # of the largest possible sum: sums that differ by less are the same sum in another order


class FlipTest(NamedTuple):
    """One-sided p-values `[K]` and how many permutations each rests on, beside the identity."""

    p_values: np.ndarray
    permutations: np.ndarray


@dataclass(frozen=True)
class Comparison:
    """What a run was offered before it began: the alpha of its tests, the seed, and the judge it must be measured with."""

    alpha: float
    seed: int
    judge: str | None


def permutations_for(alpha: float, least: int = LEAST) -> int:
    """How many permutations a p-value needs to resolve alpha; below 1e-6 it is resolved less well, below 1e-7 never."""
    return int(np.clip(np.ceil(RESOLUTION / max(alpha, 1e-12)) - 1, least, MOST))


def flip_test(differences: np.ndarray, alpha: float | np.ndarray, seed: int, least: int = LEAST) -> FlipTest:
    """Sign-flip tests of the means of `differences` `[N, K]` against the alternative that they are above zero.

    p = (1 + b) / (1 + B), where b of B random flips reach the observed sum (Phipson and Smyth, 2010), which is valid at
    any B. Each column gets as many flips as resolving its alpha (`[K]` or one for all) needs, and no more once it can
    no longer come out at or below it (sequential p-values, Besag and Clifford, 1991). The same seed gives the same
    p-values.
    """
    count, columns = differences.shape
    wanted = np.array([permutations_for(a, least) for a in np.broadcast_to(np.asarray(alpha, np.float64), columns)])
    observed = differences.sum(0) - _TIES * abs(differences).sum(0)
    reached, done = np.zeros(columns, np.int64), np.zeros(columns, np.int64)
    rng = np.random.default_rng(seed)
    size = least
    open_columns = np.arange(columns)
    while len(open_columns):
        signs = _signs(rng, size, count)
        sums = signs @ differences[:, open_columns]
        counted = np.minimum(wanted[open_columns] - done[open_columns], size)
        within = np.arange(size)[:, None] < counted
        reached[open_columns] += ((sums >= observed[open_columns]) & within).sum(0)
        done[open_columns] += counted
        size = min(4 * size, max(_CHUNK // max(count, len(open_columns)), 1))
        open_columns = open_columns[(reached[open_columns] < RESOLUTION) & (done[open_columns] < wanted[open_columns])]
    return FlipTest((1 + reached) / (1 + done), done)


def mean_test(differences: np.ndarray, alpha: float | np.ndarray, seed: int, least: int = LEAST) -> FlipTest:
    """`flip_test` and `skew_corrected`, each metric by the larger p-value.

    Flips are exact where the two models could be exchanged. A candidate may also be another model with the same mean: one
    that is a little better on most prompts and fails badly on a few. Its differences are skewed, and in the far tail that
    small alphas live in, flips alone would call it better too often.
    """
    flips = flip_test(differences, alpha, seed, least)
    return FlipTest(np.maximum(flips.p_values, skew_corrected(differences)), flips.permutations)


def skew_corrected(differences: np.ndarray) -> np.ndarray:
    """One-sided p-values `[K]` of means above zero, with the skewness taken out of Student's t.

    Hall, "On the removal of skewness by transformation", JRSS B 54 (1992): with s = mean / spread and skewness g,
    √n (s + g s²/3 + g² s³/27 + g/(6 n)) is standard normal to second order.
    """
    from scipy.stats import norm

    count = len(differences)
    mean, spread = differences.mean(0), differences.std(0, ddof=1)
    varies = spread > 0
    safe = np.where(varies, spread, 1.0)
    skew = (((differences - mean) / safe) ** 3).mean(0)
    s = mean / safe
    moved = s + skew * s**2 / 3 + skew**2 * s**3 / 27 + skew / (6 * count)
    return np.where(varies, norm.sf(count**0.5 * moved), np.where(mean > 0, 0.0, 1.0))


def paired_tests(
    candidate: "Measurement",
    other: "Measurement",
    reference: np.ndarray,
    reference_patches: Moments,
    comparison: Comparison,
) -> dict[str, dict[str, float | int]]:
    """`{metric: {"p_value", "difference", "permutations"}}`: is the candidate better, in the metric's own direction?

    reference: features of the real clips `[M, D]`; difference: candidate less other, as the test sees it.
    """
    found = contributions(candidate, other, reference, reference_patches)
    names = list(found)
    signs = np.array([1.0 if better(name) == "higher" else -1.0 for name in names])
    differences = np.stack([found[name] for name in names], axis=1)
    tested = mean_test(differences * signs, comparison.alpha, comparison.seed)
    return {
        name: {
            "p_value": float(tested.p_values[i]),
            "difference": float(differences[:, i].mean()),
            "permutations": int(tested.permutations[i]),
        }
        for i, name in enumerate(names)
    }


def contributions(
    candidate: "Measurement", other: "Measurement", reference: np.ndarray, reference_patches: Moments
) -> dict[str, np.ndarray]:
    """By metric, what each prompt adds to candidate less other, `[N]`; their mean is the difference."""
    found: dict[str, np.ndarray] = {
        str(name): candidate.clips[name].to_numpy(np.float64) - other.clips[name].to_numpy(np.float64)
        for name in candidate.clips
        if name in other.clips
    }
    sets = Moments(candidate.features[:, None]), Moments(other.features[:, None])
    found["frechet_video_distance"] = frechet_contributions(*sets, Moments(reference[:, None]))
    found["patch_frechet_distance"] = frechet_contributions(candidate.patches, other.patches, reference_patches)
    found["kernel_video_distance"] = kernel_contributions(candidate.features, other.features, reference)
    found["diversity"] = diversity_contributions(candidate.features, other.features)
    return found


def frechet_contributions(candidate: Moments, other: Moments, reference: Moments) -> np.ndarray:
    """Each prompt's share `[N]` of the difference of two Fréchet distances to one reference, to second order.

    With F(μ, Σ) = |μ − μ_r|² + tr(Σ + Σ_r − 2 (Σ_r Σ)^½): ∂F/∂μ = 2 (μ − μ_r) and ∂F/∂Σ = I − A, where
    A = R (Rᵀ Σ R)^−½ Rᵀ for R Rᵀ = Σ_r is the optimal transport between the two Gaussians.
    """
    ours, theirs = candidate.arrays(), other.arrays()
    count, dim = ours["sums"].shape
    per_clip = float(ours["per_clip"][0])
    drawn = 2 * count * per_clip
    unbiased = count * per_clip / (count * per_clip - 1)
    mean = (ours["sums"].sum(0) + theirs["sums"].sum(0)) / drawn
    second = _whole((ours["outers"].sum(0) + theirs["outers"].sum(0)) / drawn, dim)
    real = reference.fit(np.ones((1, len(reference.arrays()["sums"]))))
    covariance = unbiased * (second - np.outer(mean, mean))
    slope = unbiased * (np.eye(dim) - _transport(covariance, real.covariance[0]))
    linear = 2 * (mean - real.mean[0]) - 2 * slope @ mean
    sums = ours["sums"] - theirs["sums"]
    outers = ours["outers"] - theirs["outers"]
    rows, columns = np.triu_indices(dim)
    halves = slope[rows, columns] * np.where(rows == columns, 1.0, 2.0)
    return (outers @ halves + sums @ linear) / per_clip


def kernel_contributions(candidate: np.ndarray, other: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Each prompt's share `[N]` of the difference of two unbiased kernel distances; exact."""
    count = len(candidate)
    pooled = np.concatenate([candidate, other])
    within = _cubic(pooled, pooled)
    np.fill_diagonal(within, 0.0)
    slopes = within.sum(1) / (count - 1) - 2 * _cubic(pooled, reference).mean(1)
    return slopes[:count] - slopes[count:]


def diversity_contributions(candidate: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Each prompt's share `[N]` of the difference of the mean distance of two clips; exact."""
    count = len(candidate)
    pooled = np.concatenate([candidate, other]).astype(np.float64)
    squares = (pooled**2).sum(1)
    distances = np.sqrt(np.clip(squares[:, None] + squares[None] - 2 * pooled @ pooled.T, 0, None))
    np.fill_diagonal(distances, 0.0)
    slopes = distances.sum(1) / (count - 1)
    return slopes[:count] - slopes[count:]


def _signs(rng: np.random.Generator, size: int, count: int) -> np.ndarray:
    """Random signs `[size, count]`, one bit each."""
    bits = np.unpackbits(rng.integers(256, size=(size, (count + 7) // 8), dtype=np.uint8), axis=1, count=count)
    return 2.0 * bits - 1.0


def _transport(covariance: np.ndarray, real: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(real)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    values, vectors = np.linalg.eigh(root.T @ covariance @ root)
    kept = values > 1e-10 * values[-1]
    inverse = vectors[:, kept] / np.sqrt(values[kept]) @ vectors[:, kept].T
    return root @ inverse @ root.T


def _whole(upper: np.ndarray, dim: int) -> np.ndarray:
    rows, columns = np.triu_indices(dim)
    whole = np.empty((dim, dim))
    whole[rows, columns] = whole[columns, rows] = upper
    return whole
