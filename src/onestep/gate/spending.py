"""How much alpha each comparison may spend, so that nightly repetition does not promote by luck.

LORD++ (Ramdas, Yang, Wainwright and Jordan, "Online control of the false discovery rate with decaying memory", NIPS
2017, arXiv 1710.00499, section 3; after Javanmard and Montanari, arXiv 1603.09000). Comparison t is tested at

    α_t = γ_t W₀ + (α − W₀) γ_{t−τ₁} + α Σ_{j≥2} γ_{t−τ_j},

where τ_j is the comparison that led to promotion j, W₀ the initial wealth and γ a sequence that sums to one.

Before the first promotion these levels are fixed in advance and sum to W₀, so while no candidate is better the chance of
any wrong promotion is at most W₀ ≤ α for ever, by the union bound, however the comparisons depend on each other (the
same champion and overlapping prompts make them depend). A promotion brings wealth back; over many of them the expected
share that was wrong stays at most α, which LORD++ shows for independent comparisons.

γ_t = t^−1.3 / ζ(1.3). The power depends on log α, so a slow decay costs little early and keeps late nights alive.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from onestep.gate.settings import GateSettings

DECAY = 1.3
NIGHTS = (1, 30, 90, 365)  # since the last promotion, at which power is reported


def gamma(count: int) -> np.ndarray:
    """The first `count` shares of the wealth, `[count]`; all of them sum to one."""
    from scipy.special import zeta

    return np.arange(1, count + 1, dtype=np.float64) ** -DECAY / zeta(DECAY)


def offered(promoted: Any, settings: GateSettings) -> np.ndarray:
    """The alpha of the next comparison after histories `[..., t]` of whether each comparison led to a promotion."""
    history = np.asarray(promoted, dtype=bool)
    made = history.shape[-1]
    shares = gamma(made + 1)
    returned = np.where(history.cumsum(-1) == 1, settings.alpha - settings.initial_wealth, settings.alpha)
    since = shares[:made][::-1]  # comparison i is made + 1 - i comparisons before the next
    return shares[made] * settings.initial_wealth + (history * returned * since).sum(-1)


def alpha_after(promoted: Sequence[bool], settings: GateSettings) -> float:
    """The alpha of the next comparison of one history."""
    return float(offered(np.array(promoted, dtype=bool), settings))


def alpha_without_promotion(promoted: Sequence[bool], nights: int, settings: GateSettings) -> float:
    """The alpha of the comparison `nights` from now (1 = the next) if none before it leads to a promotion."""
    return alpha_after([*promoted, *[False] * (nights - 1)], settings)


def wealth(promoted: Sequence[bool], spent: Sequence[float], settings: GateSettings) -> float:
    """What is left after these comparisons: W₀, less each alpha that was offered, plus what each promotion brought.

    A promotion brings α, the first of all α − W₀. What is left is what later comparisons may spend before the next
    promotion, so it never falls to zero.
    """
    promotions = sum(promoted)
    returned = promotions * settings.alpha - (settings.initial_wealth if promotions else 0.0)
    return settings.initial_wealth - sum(spent) + returned


def power(effect: float, prompts: int, alpha: float) -> float:
    """Chance that a true paired difference of `effect` standard deviations is found, by the normal approximation."""
    from scipy.stats import norm

    return float(norm.sf(norm.isf(alpha) - effect * prompts**0.5))


def detectable(standard_error: float, alpha: float, wanted_power: float = 0.8) -> float:
    """The smallest true difference that is found with the wanted power, in the unit of the standard error."""
    from scipy.stats import norm

    return float((norm.isf(alpha) + norm.ppf(wanted_power)) * standard_error)
