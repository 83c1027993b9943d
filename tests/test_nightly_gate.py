"""The benchmark of `docs/gate.md`, smaller: what it shows must hold at any size."""

import numpy as np
import pytest

from nightly_gate import (
    AGAIN,
    INTERVAL,
    NIGHTS,
    OURS,
    STORED,
    accuracies,
    chance,
    normal,
    repeated,
    single_night_power,
    stored_scores,
    uneven,
)  # fmt: skip
from onestep.cli.params import load_params
from onestep.gate.spending import gamma
from tests.test_graph import ROOT

SETTINGS = load_params(ROOT / "params.yaml").gate
RUNS = 300


def test_the_gate_promotes_by_luck_in_at_most_one_of_twenty_runs_and_other_rules_in_nearly_all() -> None:
    promoted = repeated(normal, SETTINGS, RUNS, seed=11)
    wrong = {rule: nights.any(1).mean() for rule, nights in promoted.items()}
    assert wrong[OURS] <= SETTINGS.alpha
    offered = SETTINGS.initial_wealth * gamma(NIGHTS).sum()
    assert wrong[OURS] == pytest.approx(offered, abs=3 * (offered / RUNS) ** 0.5)
    assert min(wrong[STORED], wrong[INTERVAL]) > 0.9
    assert wrong[AGAIN] == 1.0


@pytest.mark.parametrize("world", [accuracies, uneven])
def test_neither_ties_nor_skewed_differences_break_it(world) -> None:
    assert repeated(world, SETTINGS, RUNS // 3, seed=12)[OURS].any(1).mean() <= SETTINGS.alpha


def test_a_truly_better_candidate_is_found_as_often_as_the_formula_says() -> None:
    found = single_night_power(SETTINGS, 0.1, seed=13)[OURS]["1"]
    for cell in found.values():
        spread = (cell["formula"] * (1 - cell["formula"]) / cell["repetitions"]) ** 0.5
        assert cell["value"] == pytest.approx(cell["formula"], abs=4 * spread + 0.02)


def test_new_against_stored_score_is_the_process_of_records() -> None:
    """Of 90 equal draws after a first, each is a record with chance 1/(n+1)."""
    promotions = stored_scores(np.random.default_rng(0), 4000, {}).sum(1)
    assert promotions.mean() == pytest.approx(sum(1 / (n + 1) for n in range(1, NIGHTS + 1)), rel=0.03)


def test_interval_of_a_chance_holds_it() -> None:
    cell = chance(np.arange(1000) < 20)
    assert cell["low"] < 0.02 == cell["value"] < cell["high"]
