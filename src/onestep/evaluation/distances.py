"""Numbers that a whole set of clips has: each with its value and with its values on resampled sets.

A set is resampled by weights (how often each clip is drawn), so that a resample costs a matrix product and not a pass
over the clips. Every estimate of one comparison uses the same `Draws`: that is what makes comparisons paired.
torchmetrics has the same distances, and tests hold these to it, but of one set at a time and without weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

FRECHET_RESAMPLES = 300  # at most: each costs an eigendecomposition of every model
_SPLITS = 16  # random splits into halves behind a Fréchet distance's value


class Estimate(NamedTuple):
    """A value with its bias removed, and the same statistic of each resampled set `[B]`, which may keep its bias."""

    value: float
    resampled: np.ndarray


class Gaussians(NamedTuple):
    """Means `[B, D]` and covariances `[B, D, D]`."""

    mean: np.ndarray
    covariance: np.ndarray


@dataclass(frozen=True)
class Draws:
    """Which prompts and which reference clips each resample holds: indices `[B, N]` and `[B, M]`, drawn with replacement."""

    prompts: np.ndarray
    reference: np.ndarray
    seed: int

    @property
    def weights(self) -> np.ndarray:
        """How often each prompt is drawn, `[B, N]`."""
        return _counts(self.prompts)

    @property
    def reference_weights(self) -> np.ndarray:
        """How often each reference clip is drawn, `[B, M]`."""
        return _counts(self.reference)


def make_draws(prompts: int, reference: int, resamples: int, seed: int) -> Draws:
    """The resamples of one comparison: prompts and reference clips are drawn apart, both the same for every model."""
    rng = np.random.default_rng(seed)
    return Draws(
        rng.integers(prompts, size=(resamples, prompts)), rng.integers(reference, size=(resamples, reference)), seed
    )


def mean_of(values: np.ndarray, draws: Draws) -> Estimate:
    """The mean of one number per clip `[N]`."""
    return Estimate(float(np.mean(values)), draws.weights @ np.asarray(values, np.float64) / len(values))


class FrechetDistance:
    """Fréchet distance of Gaussians fitted to features (Heusel et al., arXiv 1706.08500) to one reference set.

    Its bias falls as 1/N (Chong and Forsyth, arXiv 1911.07023), so the distance of halves has twice the bias of the
    whole: the value is twice the distance of the whole less the mean distance of halves of both sets. An unbiased
    value of two equal sets scatters around 0 and may be negative. Resampled distances keep their bias: only their
    spread is used (`comparison.interval`).
    """

    def __init__(self, reference: "Moments", draws: Draws) -> None:
        """reference: of M clips; draws: shared by everything that is to be compared."""
        resamples = slice(min(len(draws.prompts), FRECHET_RESAMPLES))
        count, reference_count = draws.prompts.shape[1], draws.reference.shape[1]
        rng = np.random.default_rng(draws.seed)
        halves, reference_halves = (_random_halves(size, rng) for size in (count, reference_count))
        self._pairs = [
            (weights, _with_root(reference.fit(reference_weights)))
            for weights, reference_weights in (
                (np.ones((1, count)), np.ones((1, reference_count))),
                (halves, reference_halves),
                (draws.weights[resamples], draws.reference_weights[resamples]),
            )
        ]

    def of(self, moments: "Moments") -> Estimate:
        """The distance of N clips, one for each prompt."""
        whole, halves, resampled = (_distance(moments.fit(weights), root) for weights, root in self._pairs)
        return Estimate(float(2 * whole[0] - halves.mean()), resampled)


class KernelDistance:
    """Unbiased squared maximum mean discrepancy under the kernel (x·y/D + 1)³ (Bińkowski et al., arXiv 1801.01401)."""

    def __init__(self, reference: np.ndarray, draws: Draws) -> None:
        """reference: one feature vector per clip, `[M, D]`."""
        self._reference, self._draws = reference, draws
        own = _cubic(reference, reference)
        self._own_value = _pair_mean(own, np.ones((1, len(reference))))[0]
        self._own = _pair_mean(own, draws.reference_weights)

    def of(self, features: np.ndarray) -> Estimate:
        """The distance of features `[N, D]`."""
        within, across = _cubic(features, features), _cubic(features, self._reference)
        weights, reference_weights = self._draws.weights, self._draws.reference_weights
        mixed = ((weights @ across) * reference_weights).sum(1) / (across.shape[0] * across.shape[1])
        value = _pair_mean(within, np.ones((1, len(features))))[0] + self._own_value - 2 * across.mean()
        return Estimate(float(value), _pair_mean(within, weights) + self._own - 2 * mixed)


def diversity(features: np.ndarray, draws: Draws, groups: np.ndarray | None = None) -> Estimate | None:
    """Mean distance of the features `[N, D]` of two clips, of the same group where `groups` `[N]` is given.

    None where no two clips share a group. Two draws of one clip do not count as a pair, in a resample either.
    """
    squares = (features.astype(np.float64) ** 2).sum(1)
    gram = features.astype(np.float64) @ features.T.astype(np.float64)
    distances = np.sqrt(np.clip(squares[:, None] + squares[None] - 2 * gram, 0, None))
    allowed = ~np.eye(len(features), dtype=bool)
    if groups is not None:
        allowed &= groups[:, None] == groups[None]
    if not allowed.any():
        return None
    pairs, whole = (np.where(allowed, values, 0.0) for values in (distances, np.ones_like(distances)))
    weights = draws.weights
    drawn = ((weights @ whole) * weights).sum(1)
    value = float(pairs.sum() / whole.sum())
    resampled = ((weights @ pairs) * weights).sum(1)
    return Estimate(value, np.divide(resampled, drawn, out=np.full_like(drawn, value), where=drawn > 0))


def mode_coverage(found: Mapping[str, np.ndarray], asked: Mapping[str, np.ndarray], draws: Draws) -> Estimate:
    """Overlap of the frequencies of words found and asked, averaged over attributes: Σ min(p, q), 1 where they agree.

    found, asked: the word of each clip `[N]`, for each attribute.
    """

    def overlap(weights: np.ndarray) -> np.ndarray:
        shares = []
        for name, words in asked.items():
            every = np.unique(words)
            p, q = (
                weights @ (given[:, None] == every) / weights.sum(1, keepdims=True) for given in (found[name], words)
            )
            shares.append(np.minimum(p, q).sum(1))
        return np.mean(shares, axis=0)

    return Estimate(float(overlap(np.ones((1, draws.prompts.shape[1])))[0]), overlap(draws.weights))


class Moments:
    """First and second moments of each clip's features, from which a Gaussian of any weighting of the clips is fitted."""

    ARRAYS = ("sums", "outers", "per_clip")

    def __init__(self, features: np.ndarray) -> None:
        """features: `[N, P, D]`, P of each clip; they are not kept."""
        exact = features.astype(np.float64)
        self._per_clip, self._dim = exact.shape[1], exact.shape[2]
        self._sums = exact.sum(1)
        outers = np.einsum("npi,npj->nij", exact, exact, optimize=True)
        self._set_outers(outers[:, *np.triu_indices(self._dim)])

    @classmethod
    def of_arrays(cls, sums: np.ndarray, outers: np.ndarray, per_clip: np.ndarray) -> "Moments":
        """The inverse of `arrays`."""
        found = cls.__new__(cls)
        found._per_clip, found._dim, found._sums = int(per_clip[0]), sums.shape[1], sums
        found._set_outers(outers)
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        """What the moments are made of: `sums` `[N, D]`, the upper half of `outers`, and how many vectors a clip has."""
        outers = self._outers.reshape(-1, self._dim, self._dim)[:, *np.triu_indices(self._dim)]
        return {"sums": self._sums, "outers": outers, "per_clip": np.array([self._per_clip])}

    def _set_outers(self, upper: np.ndarray) -> None:
        rows, columns = np.triu_indices(self._dim)
        whole = np.empty((len(upper), self._dim, self._dim))
        whole[:, rows, columns] = whole[:, columns, rows] = upper
        self._outers = whole.reshape(len(upper), -1)

    def fit(self, weights: np.ndarray) -> Gaussians:
        """The Gaussian of each weighting `[B, N]`."""
        count = weights.sum(1, keepdims=True) * self._per_clip
        mean = weights @ self._sums / count
        second = (weights @ self._outers / count).reshape(-1, self._dim, self._dim)
        centred = second - mean[:, :, None] * mean[:, None, :]
        return Gaussians(mean, centred * (count / (count - 1))[:, :, None])


class _Rooted(NamedTuple):
    gaussians: Gaussians
    root: np.ndarray


def frechet(a: Gaussians, b: Gaussians) -> np.ndarray:
    """|μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½) of each pair `[B]`, without any handling of bias."""
    return _distance(a, _with_root(b))


def _with_root(gaussians: Gaussians) -> _Rooted:
    values, vectors = np.linalg.eigh(gaussians.covariance)
    return _Rooted(gaussians, vectors * np.sqrt(np.clip(values, 0, None))[:, None, :])


def _distance(a: Gaussians, b: _Rooted) -> np.ndarray:
    # R^T Σ R with R R^T the other covariance is symmetric and has the eigenvalues of the product: eigvalsh may be used.
    product = np.swapaxes(b.root, 1, 2) @ a.covariance @ b.root
    shared = np.sqrt(np.clip(np.linalg.eigvalsh(product), 0, None)).sum(1)
    traces = np.trace(a.covariance, axis1=1, axis2=2) + np.trace(b.gaussians.covariance, axis1=1, axis2=2)
    return ((a.mean - b.gaussians.mean) ** 2).sum(1) + traces - 2 * shared


def _cubic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a.astype(np.float64) @ b.T.astype(np.float64) / a.shape[1] + 1) ** 3


def _pair_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of `values[i, j]` over pairs of different clips of each weighting `[B, N]`."""
    apart = values - np.diag(np.diag(values))
    return ((weights @ apart) * weights).sum(1) / (weights.sum(1) ** 2 - (weights**2).sum(1))


def _random_halves(size: int, rng: np.random.Generator) -> np.ndarray:
    """Both halves of random splits of a set, as weights `[2 * _SPLITS, size]`; an odd one is left out."""
    orders = np.stack([rng.permutation(size) for _ in range(_SPLITS)])
    middle = size // 2
    return np.concatenate([_counts(half, size) for half in (orders[:, :middle], orders[:, middle : 2 * middle])])


def _counts(indices: np.ndarray, size: int | None = None) -> np.ndarray:
    size = size or indices.shape[1]
    shifted = indices + size * np.arange(len(indices))[:, None]
    return np.bincount(shifted.ravel(), minlength=size * len(indices)).reshape(len(indices), size).astype(np.float64)
