import numpy as np
import pytest

from onestep.cli.params import load_params
from onestep.core.params import SettingsError, parse_settings
from onestep.gate.pin import read_pin
from onestep.gate.settings import GateSettings
from onestep.gate.spending import (
    alpha_after,
    alpha_without_promotion,
    detectable,
    gamma,
    offered,
    power,
    wealth,
)
from onestep.provenance.entries import GENESIS
from onestep.registry.trials import seed_of
from tests.test_graph import ROOT

SETTINGS = load_params(ROOT / "params.yaml").gate


def lord_plus_plus(history: list[bool], alpha: float, wealth: float) -> float:
    """The published formula, term by term (arXiv 1710.00499, section 3)."""
    t = len(history) + 1
    shares = gamma(t)
    times = [i for i, promoted in enumerate(history, start=1) if promoted]
    found = shares[t - 1] * wealth
    for j, tau in enumerate(times):
        found += (alpha - wealth if j == 0 else alpha) * shares[t - tau - 1]
    return float(found)


@pytest.mark.parametrize("promotions", [[], [1], [3], [2, 3, 7], [1, 2, 3, 4, 5, 6, 7, 8, 9]])
def test_levels_are_those_of_the_published_formula(promotions: list[int]) -> None:
    history = [night in promotions for night in range(1, 10)]
    expected = lord_plus_plus(history, SETTINGS.alpha, SETTINGS.initial_wealth)
    assert alpha_after(history, SETTINGS) == pytest.approx(expected, rel=1e-12)


def test_many_histories_at_once_give_the_same_levels_as_one_by_one() -> None:
    histories = np.random.default_rng(0).random((6, 20)) < 0.2
    assert offered(histories, SETTINGS) == pytest.approx([alpha_after(list(h), SETTINGS) for h in histories])


def test_all_that_is_ever_offered_without_a_promotion_is_the_initial_wealth() -> None:
    nights = 20_000
    spent = (gamma(nights) * SETTINGS.initial_wealth).sum()
    assert alpha_without_promotion([], 365, SETTINGS) == pytest.approx(gamma(365)[-1] * SETTINGS.initial_wealth)
    assert spent < SETTINGS.initial_wealth <= SETTINGS.alpha
    tail = nights**-0.3 / 0.3 / (1 / gamma(1)[0])  # the integral of what follows
    assert spent / SETTINGS.initial_wealth + tail == pytest.approx(1, abs=1e-5)


def test_wealth_comes_back_on_promotion_and_fades_again() -> None:
    before = alpha_after([False] * 30, SETTINGS)
    after = [alpha_after([False] * 30 + [True] + [False] * n, SETTINGS) for n in range(5)]
    assert after[0] > 50 * before
    assert after == sorted(after, reverse=True)
    assert alpha_after([False] * 31, SETTINGS) < before


@pytest.mark.parametrize("promotions", [[], [1], [2, 3], [5]])
def test_wealth_is_what_later_comparisons_may_still_spend(promotions: list[int]) -> None:
    history = [night in promotions for night in range(1, 7)]
    spent = [alpha_after(history[:before], SETTINGS) for before in range(len(history))]
    rest = [1 - gamma(len(history)).sum()] + [1 - gamma(len(history))[: len(history) - n].sum() for n in promotions]
    shares = [SETTINGS.initial_wealth, SETTINGS.alpha - SETTINGS.initial_wealth, *[SETTINGS.alpha] * 5]
    expected = sum(share * left for share, left in zip(shares, rest, strict=False))
    assert wealth(history, spent, SETTINGS) == pytest.approx(expected, rel=1e-12)
    assert wealth([], [], SETTINGS) == SETTINGS.initial_wealth


def test_shipped_pin_offers_the_first_level() -> None:
    pin = read_pin(ROOT / "data" / "production.json")
    assert pin.alpha == pytest.approx(alpha_after([], SETTINGS), rel=1e-12)
    assert (pin.comparison, pin.seed, pin.ledger) == (1, seed_of(1), GENESIS)


def test_wealth_beyond_alpha_is_refused_with_the_nearest_legal_value() -> None:
    content = SETTINGS.model_dump(exclude_none=True) | {"initial_wealth": 0.2}
    with pytest.raises(SettingsError, match=r"initial_wealth must be at most alpha: the nearest legal value is 0\.05"):
        parse_settings(GateSettings, content, "params.yaml")


def test_power_and_detectable_difference_are_two_sides_of_one_thing() -> None:
    for alpha in (0.01, 1e-5):
        assert power(detectable(1 / 16, alpha), 256, alpha) == pytest.approx(0.8)
    assert power(0.0, 256, 0.01) == pytest.approx(0.01)
