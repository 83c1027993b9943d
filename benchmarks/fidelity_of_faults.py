"""Does GSB's fidelity see rendering faults? Real test clips with a fault against the same clips without it.

    python benchmarks/fidelity_of_faults.py

Needs `data/clips` and `models/judge` (`dvc repro ingest judge`) and `data/margins.json`. Prints one row per fault and
strength; a score that sees the fault has −100 %.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from onestep.core.failures import one_sentence
from onestep.data.clips import load_frames, read_index
from onestep.evaluation.distances import Moments
from onestep.evaluation.faults import FAULTS
from onestep.evaluation.fidelity import fidelity, read_margins, texture
from onestep.evaluation.gsb import preferred
from onestep.evaluation.judge import load_judge

EVERY = 20  # of the test clips one in so many gets a fault; the others are the reference
STRENGTHS = (0.1, 0.25, 0.5, 1.0)
CLIPS, JUDGE, MARGINS = Path("data/clips"), Path("models/judge"), Path("data/margins.json")


def main() -> None:
    torch.set_num_threads(1)
    judge, margins = load_judge(JUDGE), read_margins(MARGINS)
    index = read_index(CLIPS)
    test = index[index["split"] == "test"]["clip_id"].tolist()
    clean = load_frames(CLIPS, test[::EVERY])
    others = [clip for number, clip in enumerate(test) if number % EVERY]

    def textures(frames: np.ndarray) -> np.ndarray:
        return texture(Moments(judge.assess(frames).patches)) @ margins.whitening

    reference = textures(load_frames(CLIPS, others))
    before = fidelity(textures(clean), reference)
    print(f"{len(clean)} clips, {len(others)} in the reference; GSB of fidelity, %, at strength {STRENGTHS}")
    for name, fault in FAULTS.items():
        found = []
        for strength in STRENGTHS:
            faulty = fault(clean, np.full(len(clean), strength), np.random.default_rng(0))
            after = fidelity(textures(faulty), reference)
            found.append(100 * preferred(after - before, margins.margins["fidelity"]).mean())
        print(f"{name:14s}" + "".join(f"{value:8.0f}" for value in found), flush=True)


if __name__ == "__main__":
    with one_sentence("fidelity_of_faults", sys.argv[1:]):
        main()
