"""The multi-step baselines, measured once and kept, so that they ship with their base (`inference/baselines.py` reuses them)."""

import shutil
from pathlib import Path

import numpy as np

from onestep.core.storage import read_json, replacing_folder, write_json
from onestep.evaluation.judge import load_judge
from onestep.evaluation.measurement import make_measurer, measure
from onestep.inference.samples import PROMPTS, RECORD, SHOWN, kept_paths, read_samples, rows_to_show


def keep_baselines(samples: Path, clips: Path, judge: Path, out: Path) -> None:
    """Measure a family that `sample_baselines` wrote, and keep the numbers and a few clips of each set in `out`."""
    found, record = read_samples([samples]), read_json(samples / RECORD)
    measurer = make_measurer(load_judge(judge), found.prompts, None)
    rows = rows_to_show(found.prompts, SHOWN)
    with replacing_folder(out) as partial:
        for each in found.sets:
            shown, measured = kept_paths(partial, each.name)
            if each.measured:
                shutil.copyfile(each.path, shown)
                shutil.copyfile(each.measured, measured)
                continue
            frames = each.frames()
            np.savez_compressed(shown, frames=frames[rows])
            measure(frames, measurer).save(measured)
        shutil.copyfile(samples / PROMPTS, partial / PROMPTS)
        write_json(partial / RECORD, record)
