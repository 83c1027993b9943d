import numpy as np
import pytest

from onestep.evaluation import clip_metrics as metrics
from tests.evaluation.made import drawn


@pytest.fixture(scope="module")
def real():
    return drawn(32, seed=21)[0]


def test_motion_is_the_mean_step_between_frames():
    clip = np.zeros((1, 3, 16, 16, 3), np.uint8)
    clip[:, 1:] = 51
    assert metrics.motion(clip) == pytest.approx([0.1])
    assert metrics.motion(clip[:, :1]) == pytest.approx([0.0])


def test_real_clips_are_stable_flat_and_moving(real):
    assert metrics.structural_stability(real).mean() > 0.9
    assert metrics.background_grain(real).mean() < 0.1
    assert metrics.motion(real).min() > 0


def test_morphing_lowers_stability(real):
    other = real[:, ::-1][np.arange(1, len(real) + 1) % len(real)]
    share = np.linspace(0, 1, real.shape[1])[None, :, None, None, None]
    morphed = (real * (1 - share) + other * share).astype(np.uint8)
    assert metrics.structural_stability(morphed).mean() < metrics.structural_stability(real).mean() - 0.05


def test_stability_of_a_plain_clip_is_one():
    assert metrics.structural_stability(np.full((1, 5, 64, 64, 3), 90, np.uint8)) == pytest.approx([1.0])


def test_grain_is_measured_in_grey_levels_and_outlines_do_not_count():
    flat = np.full((1, 2, 64, 64, 3), 120, np.uint8)
    flat[:, :, 16:48, 16:48] = 220
    noisy = flat + np.random.default_rng(0).integers(-3, 4, flat.shape).astype(np.uint8)
    assert metrics.background_grain(flat) == pytest.approx([0.0], abs=1e-3)
    assert 1.2 < metrics.background_grain(noisy)[0] < 2.2


def test_clips_of_other_sizes_are_measured():
    frames = np.random.default_rng(0).integers(0, 256, (2, 5, 48, 80, 3), dtype=np.uint8)
    for measure in (metrics.motion, metrics.structural_stability, metrics.background_grain):
        assert measure(frames).shape == (2,)


def test_many_clips_in_parts_give_what_one_gives_alone(real, monkeypatch):
    whole = metrics.structural_stability(real)
    monkeypatch.setattr(metrics, "_CHUNK_PIXELS", 1)
    assert metrics.structural_stability(real) == pytest.approx(whole)
