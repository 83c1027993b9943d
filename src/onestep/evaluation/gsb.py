"""Preference without people: on how many prompts is one model's clip better than another's, of one caption and noise?

GSB = (good − bad) / (good + same + bad), the form of APT's study with human raters (arXiv 2501.08316, section 4.2), on
fidelity, structure and text, by the scores of `fidelity.py`. Two clips are the same within the margins that
`margins.py` fixed.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from onestep.evaluation.comparison import cell
from onestep.evaluation.distances import Draws, mean_of
from onestep.evaluation.fidelity import FIX_AGAIN, TEXT_SCORES, Margins, scores
from onestep.evaluation.measurement import Measurement
from onestep.evaluation.names import QUESTIONS

_TIES = 1e-9  # differences of means of five attributes that differ by less are the same difference


def preferred(difference: np.ndarray, margin: float) -> np.ndarray:
    """1 where the first clip is better, −1 where it is worse, 0 where both are the same: within the margin, or on it."""
    return np.where(np.abs(difference) > margin + _TIES, np.sign(difference), 0.0)


def gsb(
    candidate: Measurement, other: Measurement, reference: np.ndarray, margins: Margins, draws: Draws, confidence: float
) -> dict[str, dict[str, float]]:
    """By question the candidate's GSB against another model, with its interval over prompts and the three shares.

    A question that either model or the margins lack is left out (`unanswered` says why).
    """
    ours, theirs = scores(candidate, reference, margins), scores(other, reference, margins)
    found = {}
    for question, name in asked(ours, margins).items():
        if name in theirs:
            sides = preferred(ours[name] - theirs[name], margins.margins[name])
            shares = {word: float((sides == side).mean()) for word, side in (("good", 1), ("same", 0), ("bad", -1))}
            found[question] = cell(mean_of(sides, draws), confidence) | shares
    return found


def asked(known: Mapping[str, Any], margins: Margins) -> dict[str, str]:
    """By question the score that answers it: one that was measured and has a margin."""
    text = [name for name in TEXT_SCORES if name in known and name in margins.margins]
    ways = {"fidelity": ["fidelity"], "structure": ["structural_stability"], "text": text}
    return {q: names[0] for q, names in ways.items() if names and names[0] in known and names[0] in margins.margins}


def unanswered(known: Mapping[str, Any], margins: Margins) -> dict[str, str]:
    """By question why it has no answer."""
    reasons = {}
    for question in QUESTIONS:
        if question in asked(known, margins):
            continue
        measured = question != "text" or any(name in known for name in TEXT_SCORES)
        reasons[question] = (
            f"the margins were fixed without this score; {FIX_AGAIN}"
            if measured
            else "the footage has no attribute columns that the judge knows, and no evaluate.text_model is configured"
        )
    return reasons


def preference(
    measured: Mapping[str, Measurement],
    candidate: str,
    reference: np.ndarray,
    margins: Margins,
    draws: Draws,
    confidence: float,
    against: str | None,
) -> dict[str, Any]:
    """The `gsb` of `metrics.json`: per other model `"onestep vs teacher-25": {question: cell}`, and that of `against` itself.

    The questions at the top are the candidate's against `against`; `unmeasured` says why one is missing.
    """
    versus = {
        f"{candidate} vs {other}": gsb(measured[candidate], found, reference, margins, draws, confidence)
        for other, found in measured.items()
        if other != candidate
    }
    known = scores(measured[candidate], reference, margins)
    answered = asked(known, margins)
    return {
        "against": against,
        **versus.get(f"{candidate} vs {against}", {}),
        **versus,
        "margins": {question: {"score": name, "margin": margins.margins[name]} for question, name in answered.items()},
        "unmeasured": unanswered(known, margins),
    }
