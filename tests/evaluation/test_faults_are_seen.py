"""A measurement is tested on what it must find: each injected fault moves a named metric the right way, more for more."""

import numpy as np
import pytest

from onestep.evaluation import clip_metrics as metrics
from onestep.evaluation.attributes import attribute_hits
from onestep.evaluation.distances import (
    FrechetDistance,
    KernelDistance,
    Moments,
    diversity,
    make_draws,
    mode_coverage,
)
from onestep.evaluation.faults import FAULTS
from onestep.evaluation.names import better
from tests.evaluation.made import drawn

STRENGTHS = (0.25, 0.5, 1.0)  # after none at all
CLIPS = 96

MUST_MOVE = [
    ("grain", "background_grain"),
    ("grain", "frechet_video_distance"),
    ("grain", "patch_frechet_distance"),
    ("blur", "patch_frechet_distance"),
    ("blur", "frechet_video_distance"),
    ("flicker", "structural_stability"),
    ("flicker", "frechet_video_distance"),
    ("freeze", "motion"),
    ("freeze", "frechet_video_distance"),
    ("shuffle", "structural_stability"),
    ("shuffle", "frechet_video_distance"),
    ("colour shift", "patch_frechet_distance"),
    ("colour shift", "frechet_video_distance"),
    ("colour shift", "kernel_video_distance"),
    ("dropped modes", "mode_coverage"),
    ("dropped modes", "diversity"),
    ("swapped captions", "attribute_accuracy"),
]


@pytest.fixture(scope="module")
def measurement(judge):
    reference, _ = drawn(CLIPS, seed=11)
    draws = make_draws(CLIPS, CLIPS, resamples=2, seed=0)
    features = judge.features(reference)
    frechet = FrechetDistance(Moments(features[:, None]), draws)
    patch = FrechetDistance(Moments(judge.assess(reference).patches), draws)
    kernel = KernelDistance(features, draws)

    def measure(frames, rows, wanted):
        found = judge.assess(frames)
        asked = {name: rows[name].to_numpy() for name in judge.vocabulary}
        seen = {name: np.array(judge.vocabulary[name])[found.attributes[name].argmax(1)] for name in asked}
        hits = attribute_hits(found.attributes, asked, judge.vocabulary)
        ways = {
            "frechet_video_distance": lambda: frechet.of(Moments(found.features[:, None])).value,
            "patch_frechet_distance": lambda: patch.of(Moments(found.patches)).value,
            "kernel_video_distance": lambda: kernel.of(found.features).value,
            "background_grain": lambda: metrics.background_grain(frames).mean(),
            "structural_stability": lambda: metrics.structural_stability(frames).mean(),
            "motion": lambda: metrics.motion(frames).mean(),
            "diversity": lambda: diversity(found.features, draws).value,
            "mode_coverage": lambda: mode_coverage(seen, asked, draws).value,
            "attribute_accuracy": lambda: np.mean(list(hits.values())),
        }
        return {name: ways[name]() for name in wanted}

    return measure


@pytest.fixture(scope="module")
def measured(measurement):
    """Each named metric at each strength of each fault, `{(fault, metric): values}`."""
    frames, rows = drawn(CLIPS, seed=12)
    clean = measurement(frames, rows, {metric for _, metric in MUST_MOVE})
    found = {pair: [clean[pair[1]]] for pair in MUST_MOVE}
    for fault in dict(MUST_MOVE):
        wanted = [metric for name, metric in MUST_MOVE if name == fault]
        for strength in STRENGTHS:
            for metric, value in measurement(*faulty(fault, frames, rows, strength), wanted).items():
                found[fault, metric].append(value)
    return found


def faulty(fault, frames, rows, strength):
    rng = np.random.default_rng(13)
    if fault == "dropped modes":  # the first colours take the place of the others, clip by clip
        replaced = np.flatnonzero(rng.permutation(CLIPS) < strength * CLIPS)
        donors = np.flatnonzero((rows["colour"] == "red") & (rows["background"] == "teal"))
        changed = frames.copy()
        changed[replaced] = frames[donors[np.arange(len(replaced)) % len(donors)]]
        return changed, rows
    if fault == "swapped captions":
        order = np.arange(CLIPS)
        swapped = np.flatnonzero(rng.permutation(CLIPS) < strength * CLIPS)
        order[swapped] = np.roll(swapped, 1)
        return frames, rows.iloc[order].reset_index(drop=True)
    return FAULTS[fault](frames, np.full(CLIPS, strength), rng), rows


@pytest.mark.parametrize(("fault", "metric"), MUST_MOVE)
def test_a_stronger_fault_moves_the_metric_further_the_wrong_way(measured, fault, metric):
    worse = 1 if better(metric) == "lower" else -1
    values = [worse * value for value in measured[fault, metric]]
    assert values == sorted(values) and len(set(values)) == len(values), values


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_no_strength_changes_nothing(name):
    frames, _ = drawn(2, seed=1)
    assert np.array_equal(FAULTS[name](frames, np.zeros(2), np.random.default_rng(0)), frames)


def test_clips_without_a_fault_are_near_beside_clips_with_a_plain_one(measured):
    clean, _, _, strong = measured["grain", "frechet_video_distance"]
    assert abs(clean) < 0.05 * strong
