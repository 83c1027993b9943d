import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

from onestep.evaluation.distances import FrechetDistance, KernelDistance, Moments, diversity, frechet, make_draws
from onestep.evaluation.measurement import Measurement
from onestep.evaluation.statistics import (
    LEAST,
    RESOLUTION,
    Comparison,
    contributions,
    diversity_contributions,
    flip_test,
    frechet_contributions,
    kernel_contributions,
    mean_test,
    paired_tests,
    permutations_for,
    skew_corrected,
)

DIM, CLIPS = 6, 60


def features(count: int, seed: int, shift: float = 0.0, spread: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(count, DIM)) * spread + shift).astype(np.float32)


def measured(seed: int, shift: float = 0.0, accuracy: float = 0.8) -> Measurement:
    rng = np.random.default_rng(seed)
    patches = (rng.normal(size=(CLIPS, 5, 3)) + shift).astype(np.float32)
    clips = pd.DataFrame(
        {
            "attribute_accuracy": (rng.random((CLIPS, 5)) < accuracy).mean(1),
            "background_grain": rng.random(CLIPS) + shift,
        }
    )
    return Measurement(clips, {}, features(CLIPS, seed + 1, shift), Moments(patches))


REFERENCE, REFERENCE_PATCHES = features(80, 100), Moments(np.random.default_rng(5).normal(size=(80, 5, 3)))


def test_p_value_agrees_with_all_flips_counted() -> None:
    differences = np.array([[0.9, 0.4, -0.3, 0.8, 0.2, 0.5, -0.1, 0.6, 0.7, 0.3]]).T
    signs = np.array(list(itertools.product((1, -1), repeat=10)))
    exact = ((signs @ differences)[:, 0] >= differences.sum() - 1e-12).mean()
    found = flip_test(differences, 1e-4, seed=3)
    assert found.p_values[0] == pytest.approx(exact, rel=0.4)  # ten exceedances: a third of it, give or take
    many = [flip_test(differences, 1e-3, seed=s).p_values[0] for s in range(40)]
    assert np.mean(many) == pytest.approx(exact, rel=0.15)


def test_p_values_are_uniform_where_there_is_no_difference() -> None:
    null = np.random.default_rng(0).standard_t(3, size=(40, 2000))
    p_values = flip_test(null, 0.05, seed=1).p_values
    assert kstest(p_values, "uniform").pvalue > 0.01
    assert np.mean(p_values <= 0.05) == pytest.approx(0.05, abs=0.015)


def test_rare_bad_failures_of_a_candidate_no_better_do_not_look_like_a_gain() -> None:
    """Equal means, skewed differences: in the far tail flips alone are wrong many times too often."""
    rng = np.random.default_rng(4)
    size, alpha = (256, 20_000), 1e-3
    skewed = 0.7 * rng.standard_normal(size) + 0.3 - 6.0 * (rng.random(size) < 0.05)
    corrected = skew_corrected(skewed)
    assert np.mean(corrected <= alpha) <= 2 * alpha
    few = skewed[:, np.argsort(corrected)[:400]]
    flips = flip_test(few, alpha, seed=0).p_values
    assert (flips <= alpha).sum() > 3 * alpha * 20_000
    assert (mean_test(few, alpha, seed=0).p_values == np.maximum(flips, skew_corrected(few))).all()


def test_correction_leaves_even_differences_alone() -> None:
    even = np.random.default_rng(5).normal(size=(256, 4000))
    assert kstest(skew_corrected(even), "uniform").pvalue > 0.01
    assert (skew_corrected(np.stack([np.zeros(9), np.ones(9), -np.ones(9)], 1)) == [1.0, 0.0, 1.0]).all()


def test_ties_count_against_the_candidate() -> None:
    hits = np.zeros((30, 1))
    hits[:4] = 0.2  # 0.2 * 4 in another order is not the same float
    assert flip_test(hits, 0.01, seed=0).p_values[0] == pytest.approx(1 / 16, rel=0.4)
    assert flip_test(np.zeros((30, 1)), 0.01, seed=0).p_values[0] == 1.0


def test_permutations_are_as_many_as_alpha_needs_and_stop_where_the_answer_is_known() -> None:
    rng = np.random.default_rng(0)
    strong, null = rng.normal(1.5, 1, 64), rng.normal(0, 1, 64)
    found = flip_test(np.stack([strong, null], 1), np.array([1e-5, 1e-5]), seed=0)
    assert found.permutations[0] == permutations_for(1e-5) == RESOLUTION * 100_000 - 1
    assert found.p_values[0] == 1e-6
    assert found.permutations[1] == LEAST
    assert permutations_for(0.5) == LEAST


def test_same_seed_gives_the_same_p_values_and_another_seed_others() -> None:
    differences = np.random.default_rng(0).normal(0.2, 1, (64, 3))
    first = flip_test(differences, 0.01, seed=7)
    assert (first.p_values == flip_test(differences, 0.01, seed=7).p_values).all()
    assert (first.p_values != flip_test(differences, 0.01, seed=8).p_values).any()


def test_contributions_of_quadratic_numbers_add_up_to_the_difference_exactly() -> None:
    ours, theirs = features(CLIPS, 1, 0.3), features(CLIPS, 2)
    draws = make_draws(CLIPS, len(REFERENCE), 2, 0)
    kernel = KernelDistance(REFERENCE, draws)
    expected = kernel.of(ours).value - kernel.of(theirs).value
    assert kernel_contributions(ours, theirs, REFERENCE).mean() == pytest.approx(expected, rel=1e-9)
    spread = diversity(ours, draws).value - diversity(theirs, draws).value
    assert diversity_contributions(ours, theirs).mean() == pytest.approx(spread, rel=1e-6)


@pytest.mark.parametrize("shift", [0.05, 0.4])
def test_contributions_of_a_frechet_distance_are_its_slope_at_both_sets_pooled(shift: float) -> None:
    ours, theirs = features(CLIPS, 1, shift), features(CLIPS, 2)
    reference = Moments(REFERENCE[:, None])
    pooled, real = Moments(np.concatenate([ours, theirs])[:, None]), reference.fit(np.ones((1, len(REFERENCE))))

    def distance(lean: float) -> float:
        """Of a mixture that leans from half and half (0) to our clips alone (1) or theirs (-1)."""
        weights = np.repeat([[0.5 + lean / 2, 0.5 - lean / 2]], CLIPS, axis=1)
        return float(frechet(pooled.fit(weights), real)[0])

    total = frechet_contributions(Moments(ours[:, None]), Moments(theirs[:, None]), reference).mean()
    assert total == pytest.approx((distance(1e-4) - distance(-1e-4)) / 1e-4, rel=1e-5)
    assert total == pytest.approx(distance(1) - distance(-1), rel=0.15)


def test_exchanging_labels_within_prompts_changes_the_sign_of_their_contributions_alone() -> None:
    """This is what makes flips of signs a permutation of labels: the pooled set does not move."""
    ours, theirs = measured(1, 0.3), measured(9)
    swapped = np.arange(CLIPS) % 3 == 0

    def mixed(a: Measurement, b: Measurement) -> Measurement:
        def take(x: np.ndarray, y: np.ndarray) -> np.ndarray:
            return np.where(swapped.reshape(-1, *[1] * (x.ndim - 1)), y, x)

        arrays = {k: take(v, b.patches.arrays()[k]) for k, v in a.patches.arrays().items() if k != "per_clip"}
        patches = Moments.of_arrays(**arrays, per_clip=a.patches.arrays()["per_clip"])
        clips = pd.DataFrame({c: take(a.clips[c].to_numpy(), b.clips[c].to_numpy()) for c in a.clips})
        return Measurement(clips, {}, take(a.features, b.features), patches)

    before = contributions(ours, theirs, REFERENCE, REFERENCE_PATCHES)
    after = contributions(mixed(ours, theirs), mixed(theirs, ours), REFERENCE, REFERENCE_PATCHES)
    signs = np.where(swapped, -1, 1)
    for name, values in before.items():
        np.testing.assert_allclose(after[name], signs * values, rtol=1e-6, atol=1e-6 * abs(values).max())


def test_better_is_found_in_each_metrics_own_direction() -> None:
    good, bad = measured(1, 0.0, accuracy=0.95), measured(9, 0.9, accuracy=0.5)
    plan = Comparison(alpha=0.01, seed=4, judge=None)
    found = paired_tests(good, bad, REFERENCE, REFERENCE_PATCHES, plan)
    assert set(found) == {
        "attribute_accuracy", "background_grain", "frechet_video_distance", "kernel_video_distance",
        "patch_frechet_distance", "diversity",
    }  # fmt: skip
    for name in ("attribute_accuracy", "background_grain", "frechet_video_distance", "kernel_video_distance"):
        assert found[name]["p_value"] <= 0.001
    assert found["frechet_video_distance"]["difference"] < 0 < found["attribute_accuracy"]["difference"]
    turned = paired_tests(bad, good, REFERENCE, REFERENCE_PATCHES, plan)
    assert turned["frechet_video_distance"]["p_value"] > 0.99
    draws = make_draws(CLIPS, len(REFERENCE), 2, 0)
    distance = FrechetDistance(Moments(REFERENCE[:, None]), draws)
    assert distance.of(Moments(good.features[:, None])).value < distance.of(Moments(bad.features[:, None])).value


def test_frechet_test_rejects_equal_models_no_more_often_than_it_says() -> None:
    """Two models of one distribution, correlated within prompts as the same noise makes them, 400 times."""
    rng = np.random.default_rng(0)
    columns = []
    reference = Moments(REFERENCE[:, None])
    for _ in range(400):
        shared = rng.normal(size=(CLIPS, DIM))
        pair = [Moments((0.8 * shared + 0.6 * rng.normal(size=(CLIPS, DIM)))[:, None]) for _ in range(2)]
        columns.append(-frechet_contributions(*pair, reference))
    p_values = flip_test(np.stack(columns, 1), 0.05, seed=2).p_values
    assert kstest(p_values, "uniform").pvalue > 0.01
