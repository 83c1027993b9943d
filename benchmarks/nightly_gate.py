"""Does the gate hold under nightly repetition? Ninety nights, many times over, against the rules that others use.

    python benchmarks/nightly_gate.py            # a few minutes on one core; --repetitions 1200 for a quick look
    python benchmarks/nightly_gate.py --report   # run nothing: tables and picture from results/nightly-gate.json

Writes `results/nightly-gate.json`, the tables of `docs/gate.md` and `docs/images/nightly-gate.png`. The gate's side is the
project's own code: alpha from `gate/spending.py` with the settings of `params.yaml`, p-values from `evaluation/statistics.py`.

Each night a candidate and the champion are measured on the same fresh prompts and noise. A clip's score is what prompt
and noise make of any model (spread 1) plus what the model makes of it (spread 1), so a difference of two clips of one
prompt has the spread √2, as one score has; true differences are stated in that spread. A promotion of a candidate that is
no better than the champion is wrong.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest, norm

from onestep.cli.params import load_params
from onestep.core.failures import one_sentence
from onestep.core.storage import read_json, write_json
from onestep.evaluation.distances import Moments
from onestep.evaluation.statistics import frechet_contributions, mean_test
from onestep.gate.settings import GateSettings
from onestep.gate.spending import alpha_without_promotion, offered, power
from pages import fill

RESULT = Path("results/nightly-gate.json")
PROMPTS, NIGHTS = 256, 90
MARGIN = 0.03  # of the rule with a margin, in spreads of the paired difference
EFFECTS = (0.1, 0.2, 0.3, 0.4, 0.5)  # true differences, in the same spread
SPREAD = 2**0.5
BLOCK = 1000  # repetitions at once
LEAST = 99  # flips of a test whose p-value is not read
POWER_REPETITIONS = {1: 1000, 30: 300, 90: 150, 365: 30}  # of 4000: late nights need many flips

STORED = "new > stored score"
AGAIN = "new > champion, re-evaluated"
INTERVAL = "paired, one-sided 95 % interval"
WITH_MARGIN = f"the same, with a margin of {MARGIN}"
OURS = "this gate"
RULES = (STORED, AGAIN, INTERVAL, WITH_MARGIN, OURS)

World = Callable[
    [np.random.Generator, int], np.ndarray
]  # differences of candidate and champion, [PROMPTS, repetitions]


def normal(rng: np.random.Generator, repetitions: int) -> np.ndarray:
    """Both models equally good."""
    return SPREAD * rng.standard_normal((PROMPTS, repetitions))


def accuracies(rng: np.random.Generator, repetitions: int) -> np.ndarray:
    """Five attributes of a clip right or wrong, most prompts easy and some hard: discrete and full of ties."""
    easy = rng.beta(9, 1, size=(PROMPTS, repetitions))
    return (rng.binomial(5, easy) - rng.binomial(5, easy)) / 5


def uneven(rng: np.random.Generator, repetitions: int) -> np.ndarray:
    """The candidate is a little better on most prompts and fails badly on one in twenty; equal means, skewed."""
    size = (PROMPTS, repetitions)
    return 0.7 * rng.standard_normal(size) + 0.3 - 6.0 * (rng.random(size) < 0.05)


def heavy(rng: np.random.Generator, repetitions: int) -> np.ndarray:
    """Equally good, with tails of Student's t on three degrees."""
    return rng.standard_t(3, (PROMPTS, repetitions))


def frechet(rng: np.random.Generator, repetitions: int) -> np.ndarray:
    """What each prompt adds to the Fréchet distances of two equal models, eight features a clip; lower is better."""
    dim, columns = 8, []
    reference = Moments(rng.normal(size=(2 * PROMPTS, 1, dim)))
    for _ in range(repetitions):
        shared = rng.normal(size=(PROMPTS, 1, dim))
        pair = [Moments(0.7 * shared + 0.7 * rng.normal(size=shared.shape) + 0.3) for _ in range(2)]
        columns.append(-frechet_contributions(pair[0], pair[1], reference))
    return np.stack(columns, axis=1)


def stored_scores(rng: np.random.Generator, repetitions: int, better: dict[int, float]) -> np.ndarray:
    """Nights that promote by `new > stored score`; a score is the mean of clips whose spread is √2 as well."""
    error = SPREAD / PROMPTS**0.5
    level = np.zeros(repetitions)
    stored = error * rng.standard_normal(repetitions)
    promoted = np.zeros((repetitions, NIGHTS), dtype=bool)
    for night in range(NIGHTS):
        gain = SPREAD * better.get(night + 1, 0.0)
        score = level + gain + error * rng.standard_normal(repetitions)
        promoted[:, night] = score > stored
        stored = np.where(promoted[:, night], score, stored)
        level = np.where(promoted[:, night], level + gain, level)
    return promoted


def nights(
    world: World, settings: GateSettings, repetitions: int, rng: np.random.Generator, better: dict[int, float]
) -> dict[str, np.ndarray]:
    """Which nights promote, bool `[repetitions, NIGHTS]` by rule; `better` names nights whose candidate is better."""
    promoted = {rule: np.zeros((repetitions, NIGHTS), dtype=bool) for rule in RULES[1:]}
    for night in range(NIGHTS):
        differences = world(rng, repetitions) + SPREAD * better.get(night + 1, 0.0)
        mean, spread = differences.mean(0), differences.std(0, ddof=1)
        low = mean - norm.ppf(0.95) * spread / PROMPTS**0.5
        alpha = offered(promoted[OURS][:, :night], settings)
        p_values = mean_test(differences, alpha, int(rng.integers(2**31)), least=LEAST).p_values
        promoted[AGAIN][:, night] = mean > 0
        promoted[INTERVAL][:, night] = low > 0
        promoted[WITH_MARGIN][:, night] = low > MARGIN * spread
        promoted[OURS][:, night] = p_values <= alpha
    return promoted


def repeated(
    world: World, settings: GateSettings, repetitions: int, seed: int, better: dict[int, float] | None = None
) -> dict[str, np.ndarray]:
    """The same in blocks, so that memory stays small, and the rule that needs no champion measured again."""
    rng = np.random.default_rng(seed)
    blocks = [min(BLOCK, repetitions - first) for first in range(0, repetitions, BLOCK)]
    parts = [nights(world, settings, size, rng, better or {}) for size in blocks]
    found = {rule: np.concatenate([part[rule] for part in parts]) for rule in RULES[1:]}
    return {STORED: stored_scores(rng, repetitions, better or {}), **found}


def chance(hits: np.ndarray) -> dict[str, float]:
    """A share of bools with its 95 % interval (Clopper and Pearson)."""
    low, high = binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95)
    return {"value": float(hits.mean()), "low": float(low), "high": float(high)}


def wrong(promoted: np.ndarray) -> dict[str, Any]:
    """Of nights whose candidates are all no better: promotions in a run of nights, and the chance of any."""
    return {"promotions": float(promoted.sum(1).mean()), "any": chance(promoted.any(1))}


def single_night_power(settings: GateSettings, share: float, seed: int) -> dict[str, Any]:
    """By rule, night and true difference: the chance to promote, after nights that promoted nothing.

    This gate's is simulated (`value`, with its interval) beside the normal approximation that `onestep ledger power`
    reports (`formula`); the other rules' are formulas.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {rule: {} for rule in (INTERVAL, WITH_MARGIN, OURS)}
    for night, full in POWER_REPETITIONS.items():
        repetitions = max(int(full * share), 2)
        alpha = alpha_without_promotion([], night, settings)
        for effect in EFFECTS:
            differences = normal(rng, repetitions) + SPREAD * effect
            p_values = mean_test(differences, alpha, int(rng.integers(2**31)), least=LEAST).p_values
            cell = chance(p_values <= alpha) | {"formula": power(effect, PROMPTS, alpha), "repetitions": repetitions}
            found[OURS].setdefault(str(night), {})[str(effect)] = cell
            for rule, margin in ((INTERVAL, 0.0), (WITH_MARGIN, MARGIN)):
                value = power(effect - margin, PROMPTS, 0.05)
                found[rule].setdefault(str(night), {})[str(effect)] = {"value": value}
    return found


def mixed(settings: GateSettings, repetitions: int, seed: int, effect: float) -> dict[str, Any]:
    """Every tenth candidate is truly better than the champion of its night: promotions, and how many were wrong."""
    better = dict.fromkeys(range(1, NIGHTS + 1, 10), effect)
    truly = np.isin(np.arange(1, NIGHTS + 1), list(better))
    return {
        rule: {
            "right promotions": float(found[:, truly].sum(1).mean()),
            "wrong promotions": float(found[:, ~truly].sum(1).mean()),
            "wrong share": float((found[:, ~truly].sum(1) / np.maximum(found.sum(1), 1)).mean()),
            "any wrong": chance(found[:, ~truly].any(1)),
        }
        for rule, found in repeated(normal, settings, repetitions, seed, better).items()
    }


def simulate(repetitions: int, settings: GateSettings) -> dict[str, Any]:
    """Everything that the page and the plot show."""
    equal = repeated(normal, settings, repetitions, seed=1)
    print(f"{repetitions} runs of {NIGHTS} nights done", flush=True)
    after_first = repeated(normal, settings, repetitions // 4, 2, {1: 5.0})
    shapes: dict[str, tuple[World, int]] = {
        "accuracies": (accuracies, 4), "heavy tails": (heavy, 4), "rare bad failures": (uneven, 4),
        "Fréchet contributions": (frechet, 20),
    }  # fmt: skip
    others = {}
    for name, (world, part) in shapes.items():
        others[name] = wrong(repeated(world, settings, max(repetitions // part, 2), 3)[OURS])
        print(f"{name} done", flush=True)
    return {
        "command": f"python benchmarks/nightly_gate.py --repetitions {repetitions}",
        "settings": {"alpha": settings.alpha, "initial_wealth": settings.initial_wealth},
        "prompts": PROMPTS,
        "nights": NIGHTS,
        "repetitions": repetitions,
        "no better": {rule: wrong(promoted) for rule, promoted in equal.items()},
        "any by night": {rule: (found.cumsum(1) > 0).mean(0).tolist() for rule, found in equal.items()},
        "no better, after a true promotion in night 1": wrong(after_first[OURS][:, 1:]),
        "no better, other shapes": others,
        "power": single_night_power(settings, repetitions / 4000, 5),
        "every tenth better": {str(e): mixed(settings, max(repetitions // 40, 2), 6, e) for e in (0.3, 0.5)},
    }


def table(found: dict[str, Any]) -> str:
    """The tables as Markdown."""
    lines = [
        "| rule | wrong promotions | chance of any | power: +0.3 on night 1 | 30 | 90 | 365 |",
        "|---|---|---|---|---|---|---|",
    ]
    for rule, cells in found["no better"].items():
        powers = found["power"].get(rule)
        power = " | ".join("" if powers is None else f"{powers[str(n)]['0.3']['value']:.2f}" for n in POWER_REPETITIONS)
        lines.append(f"| {rule} | {cells['promotions']:.3g} | {_interval(cells['any'])} | {power} |")
    lines += ["", "| candidates no better, this gate | wrong promotions | chance of any |", "|---|---|---|"]
    rows = {"after a true promotion in night 1": found["no better, after a true promotion in night 1"]}
    for name, cells in (rows | found["no better, other shapes"]).items():
        lines.append(f"| {name} | {cells['promotions']:.3g} | {_interval(cells['any'])} |")
    nights_ = " | ".join(f"night {n}" for n in POWER_REPETITIONS)
    lines += [
        "",
        f"| truly better by, this gate: simulated (by formula) | {nights_} |",
        "|---" * (len(POWER_REPETITIONS) + 1) + "|",
    ]
    for effect in map(str, EFFECTS):
        cells = [found["power"][OURS][str(n)][effect] for n in POWER_REPETITIONS]
        lines.append(f"| {effect} | " + " | ".join(f"{c['value']:.2f} ({c['formula']:.2f})" for c in cells) + " |")
    lines += [
        "",
        "| every tenth candidate better | right promotions of 9 | wrong | share wrong | any wrong |",
        "|---|---|---|---|---|",
    ]
    for effect, rules in found["every tenth better"].items():
        for rule, cells in rules.items():
            numbers = f"{cells['right promotions']:.2f} | {cells['wrong promotions']:.3g} | {cells['wrong share']:.3f}"
            lines.append(f"| by {effect}: {rule} | {numbers} | {_interval(cells['any wrong'])} |")
    return "\n".join(lines)


def plot(found: dict[str, Any], settings: GateSettings, path: Path) -> None:
    """Left: the chance of any wrong promotion by night. Right: the power of one night, lines by formula, dots simulated."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    steps = np.arange(1, found["nights"] + 1)
    for rule, values in found["any by night"].items():
        ours = rule == OURS
        left.plot(steps, values, label=rule, linewidth=2.6 if ours else 1.4, color="black" if ours else None)
    limit = found["settings"]["alpha"]
    left.axhline(limit, color="grey", linewidth=0.8, linestyle=":")
    left.annotate(f"{limit:g}", (found["nights"], limit), xytext=(0, 4), textcoords="offset points", color="grey")
    left.set(xlabel="nights", ylabel="chance of any wrong promotion so far", ylim=(0, 1.02))
    left.set_title("Candidates no better than the champion")
    left.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False)
    fine = np.linspace(0, EFFECTS[-1], 101)
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.85, len(POWER_REPETITIONS)))
    for shade, night in zip(shades, POWER_REPETITIONS, strict=True):
        cells = found["power"][OURS][str(night)]
        alpha = alpha_without_promotion([], night, settings)
        curve = [power(float(effect), found["prompts"], alpha) for effect in fine]
        right.plot(fine, curve, color=shade, label=f"this gate, night {night}")
        points = np.array([[cells[str(e)][key] for key in ("value", "low", "high")] for e in EFFECTS])
        bars = abs(points[:, 1:] - points[:, :1]).T
        right.errorbar(EFFECTS, points[:, 0], bars, color=shade, fmt="o", markersize=4, linewidth=0.8)
    single = [power(float(effect), found["prompts"], 0.05) for effect in fine]
    right.plot(fine, single, color="C2", linestyle="--", label=f"{INTERVAL}, any night")
    right.set(xlabel="true difference, in spreads of the paired difference", ylabel="chance to promote", ylim=(0, 1.02))
    right.set_title(f"A truly better candidate, {found['prompts']} prompts")
    right.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    # without the library's version in it, the same numbers give the same file
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _interval(cell: dict[str, float]) -> str:
    return f"{cell['value']:.4f} [{cell['low']:.4f}, {cell['high']:.4f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=4000)
    parser.add_argument("--report", action="store_true", help="run nothing, write tables and picture")
    arguments = parser.parse_args()
    settings = load_params(Path("params.yaml")).gate
    if not arguments.report:
        write_json(RESULT, simulate(arguments.repetitions, settings))
    found = read_json(RESULT)
    plot(found, settings, Path("docs/images/nightly-gate.png"))
    fill(Path("docs/gate.md"), "nightly_gate", table(found))


if __name__ == "__main__":
    with one_sentence("nightly_gate", sys.argv[1:]):
        main()
