"""Intervals of one model's numbers and of the difference between two, by a paired bootstrap over prompts."""

import numpy as np

from onestep.evaluation.distances import Estimate


def interval(estimate: Estimate, confidence: float) -> tuple[float, float]:
    """The bootstrap interval around the value (Efron and Tibshirani, 1993, chapter 13).

    Resampled Fréchet distances keep a bias that their value no longer has, so only their spread is used: the quantiles
    are moved so that the resamples' mean lies on the value. For a mean this is the percentile interval.
    """
    tail = (1 - confidence) / 2
    low, high = np.quantile(estimate.resampled, [tail, 1 - tail]) + estimate.value - estimate.resampled.mean()
    return float(low), float(high)


def difference(model: Estimate, other: Estimate) -> Estimate:
    """Model less other, resample by resample: both must come from the same `Draws`, or nothing is paired."""
    if model.resampled.shape != other.resampled.shape:
        raise ValueError(
            f"{len(model.resampled)} and {len(other.resampled)} resamples are not the same draws: make one `Draws` for both"
        )
    return Estimate(model.value - other.value, model.resampled - other.resampled)


def cell(estimate: Estimate, confidence: float, name: str = "value") -> dict[str, float]:
    """What a report stores of an estimate: the number under `name`, and its `low` and `high`."""
    low, high = interval(estimate, confidence)
    return {name: estimate.value, "low": low, "high": high}


def compare(
    models: dict[str, dict[str, Estimate]], candidate: str, confidence: float
) -> dict[str, dict[str, dict[str, float]]]:
    """`{"onestep vs teacher-4": {metric: {"difference", "low", "high"}}}`: the candidate against every other model."""
    return {
        f"{candidate} vs {other}": {
            name: cell(difference(models[candidate][name], estimates[name]), confidence, "difference")
            for name in models[candidate]
            if name in estimates
        }
        for other, estimates in models.items()
        if other != candidate
    }
