import numpy as np
import pytest
import torch

from onestep.evaluation.comparison import compare, difference, interval
from onestep.evaluation.distances import (
    Estimate,
    FrechetDistance,
    Gaussians,
    KernelDistance,
    Moments,
    diversity,
    frechet,
    make_draws,
    mean_of,
    mode_coverage,
)

DIM = 12


def gaussian(count, seed, shift=0.0, scale=1.0):
    return np.random.default_rng(seed).normal(size=(count, DIM)) * scale + shift


def frechet_between(a, b, resamples=40, seed=0):
    return FrechetDistance(Moments(b[:, None]), make_draws(len(a), len(b), resamples, seed)).of(Moments(a[:, None]))


def test_frechet_distance_of_known_gaussians_is_the_closed_form():
    eye = np.eye(DIM)[None]
    a, b = Gaussians(np.full((1, DIM), 0.5), 4 * eye), Gaussians(np.zeros((1, DIM)), eye)
    assert frechet(a, b)[0] == pytest.approx(DIM * 0.25 + DIM * (2 - 1) ** 2)


def test_frechet_distance_before_the_bias_is_removed_is_torchmetrics_own():
    from torchmetrics.image.fid import _compute_fid

    a, b = gaussian(40, 1, 0.3, 1.2), gaussian(50, 2)
    ours = frechet(*(Moments(x[:, None]).fit(np.ones((1, len(x)))) for x in (a, b)))[0]
    mean_a, mean_b = (torch.from_numpy(x.mean(0)) for x in (a, b))
    cov_a, cov_b = (torch.from_numpy(np.cov(x.T)) for x in (a, b))
    assert ours == pytest.approx(_compute_fid(mean_a, cov_a, mean_b, cov_b).item(), rel=1e-6)


def test_kernel_distance_is_torchmetrics_own():
    from torchmetrics.image.kid import poly_mmd

    a, b = gaussian(40, 1, 0.3), gaussian(40, 2)
    ours = KernelDistance(b, make_draws(40, 40, 2, 0)).of(a).value
    assert ours == pytest.approx(poly_mmd(torch.from_numpy(b), torch.from_numpy(a)).item(), rel=1e-6)


def test_frechet_distance_of_equal_distributions_is_about_zero_at_any_number_of_clips():
    for count in (48, 192):
        values = [frechet_between(gaussian(count, s), gaussian(2 * count, 100 + s), 2).value for s in range(20)]
        raw = [
            frechet(*(Moments(x[:, None]).fit(np.ones((1, len(x)))) for x in (gaussian(count, s), gaussian(2 * count, 100 + s))))
            for s in range(20)
        ]  # fmt: skip
        assert abs(np.mean(values)) < 0.15 * np.mean(raw)


def test_frechet_distance_of_a_shift_is_found_whatever_the_number_of_clips():
    for count in (48, 192):
        values = [frechet_between(gaussian(count, s, 0.5), gaussian(count, 100 + s), 2).value for s in range(20)]
        assert np.mean(values) == pytest.approx(DIM * 0.25, rel=0.1)


def test_kernel_distance_of_equal_distributions_scatters_around_zero():
    draws = make_draws(60, 60, 2, 0)
    values = [KernelDistance(gaussian(60, 100 + s), draws).of(gaussian(60, s)).value for s in range(40)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))


def test_moments_of_patches_are_those_of_all_patches_together():
    patches = np.random.default_rng(0).normal(size=(6, 5, DIM))
    weights = np.array([[1.0, 0, 2, 1, 1, 1]])
    repeated = np.concatenate([patches[[0]], patches[[2]], patches[2:]]).reshape(-1, DIM)
    fitted = Moments(patches).fit(weights)
    assert fitted.mean[0] == pytest.approx(repeated.mean(0))
    assert fitted.covariance[0] == pytest.approx(np.cov(repeated.T))


def test_interval_of_a_mean_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        low, high = interval(mean_of(rng.normal(1.0, 2.0, 50), make_draws(50, 4, 300, trial)), 0.9)
        covered += low < 1.0 < high
    assert 0.84 < covered / 300 < 0.95


def test_interval_of_a_frechet_difference_covers_the_truth():
    covered, trials, count = 0, 40, 80
    for trial in range(trials):
        base = gaussian(count, trial)
        draws = make_draws(count, count, 100, trial)
        distance = FrechetDistance(Moments(gaussian(count, 1000 + trial)[:, None]), draws)
        near, far = (distance.of(Moments((base + shift)[:, None])) for shift in (0.3, 0.6))
        low, high = interval(difference(far, near), 0.95)
        covered += low < DIM * (0.36 - 0.09) < high
    assert covered / trials >= 0.85


def test_pairing_narrows_the_interval_of_a_difference():
    rng = np.random.default_rng(0)
    hardness = rng.normal(size=100)  # of each prompt, the same for both models
    a, b = hardness + 0.1 * rng.normal(size=100), hardness + 0.1 * rng.normal(size=100)
    draws, others = make_draws(100, 4, 400, 0), make_draws(100, 4, 400, 1)
    paired = interval(difference(mean_of(a, draws), mean_of(b, draws)), 0.95)
    unpaired = interval(difference(mean_of(a, draws), mean_of(b, others)), 0.95)
    assert paired[1] - paired[0] < 0.3 * (unpaired[1] - unpaired[0])


def test_a_model_differs_from_itself_by_exactly_nothing():
    features = gaussian(30, 1)
    distance = FrechetDistance(Moments(gaussian(30, 2)[:, None]), make_draws(30, 30, 20, 0))
    same = {"frechet_video_distance": distance.of(Moments(features[:, None]))}
    found = compare({"onestep": same, "teacher-4": same}, "onestep", 0.95)
    assert found == {"onestep vs teacher-4": {"frechet_video_distance": {"difference": 0.0, "low": 0.0, "high": 0.0}}}


def test_resamples_of_other_draws_are_refused():
    with pytest.raises(ValueError, match="same draws"):
        difference(Estimate(0.0, np.zeros(3)), Estimate(0.0, np.zeros(4)))


def test_draws_repeat_from_their_seed_and_leave_the_number_of_clips():
    first, second = make_draws(7, 5, 3, 1), make_draws(7, 5, 3, 1)
    assert np.array_equal(first.prompts, second.prompts)
    assert (first.weights.sum(1) == 7).all() and (first.reference_weights.sum(1) == 5).all()


def test_diversity_is_the_mean_distance_between_two_clips():
    points = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    draws = make_draws(3, 3, 50, 0)
    assert diversity(points, draws).value == pytest.approx(10 / 3)
    assert diversity(points, draws, np.array(["a", "b", "a"])).value == 0.0
    assert diversity(points, draws, np.array(["a", "b", "c"])) is None


def test_mode_coverage_falls_with_every_word_that_is_never_drawn():
    asked = {"colour": np.array(["red", "blue", "green", "pink"] * 5)}
    draws = make_draws(20, 4, 10, 0)
    every = mode_coverage(asked, asked, draws)
    half = mode_coverage({"colour": np.array(["red", "blue"] * 10)}, asked, draws)
    assert every.value == 1.0 and every.resampled == pytest.approx(np.ones(10))
    assert half.value == 0.5
