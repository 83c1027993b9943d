"""The multi-step baselines: the teacher at every setting, and `real-vae`, the prompts' own clips through the autoencoder.

They are the dear part of a comparison and the same for every student of one base. So a base ships with its baselines
measured, and each is reused where nothing that made it has changed: base, prompts, noise, judge, code and libraries are
in its fingerprint. Any other is sampled anew.
"""

import hashlib
import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from onestep.core.storage import read_json, read_mapping, replacing_folder, sha256_file, sha256_folder, write_json
from onestep.data.clips import load_frames
from onestep.evaluation.judge import load_judge
from onestep.evaluation.measurement import make_ruler, measure
from onestep.inference.sampler import Setting, choose_prompts, sample, teacher_settings
from onestep.inference.samples import PROMPTS, RECORD, SHOWN, SampleSet, kept_paths, read_samples, rows_to_show
from onestep.inference.settings import SamplesSettings
from onestep.models.pipeline import fingerprint

REAL_VAE = "real-vae"
_SOURCE = Path(__file__).parents[1]
_CODE = (  # what decides how a baseline is sampled and measured
    "evaluation/distances.py",
    "evaluation/judge.py",
    "evaluation/measurement.py",
    "evaluation/metrics.py",
    "inference/sampler.py",
    "models/families/base.py",
    "models/families/wan.py",
    "models/pipeline.py",
)
_LIBRARIES = ("diffusers", "torch", "transformers")


def sample_baselines(
    model: Path, clips: Path, judge: Path, shipped: Path, out: Path, text_tokens: int, settings: SamplesSettings
) -> None:
    """Write the family folder `out`; sets of the folder `shipped` whose fingerprints match are taken from there."""
    ways = [*teacher_settings(settings), Setting(REAL_VAE, 0, 1.0)]
    expected = fingerprints(model, clips, judge, text_tokens, settings)
    kept = _reusable(shipped, expected)
    taken = [way.name for way in ways if way.name in kept]
    anew = [way.name for way in ways if way.name not in kept]
    if taken:
        print(f"measured already, in {shipped}: {', '.join(taken)}")
    if anew:
        print(f"to be sampled: {', '.join(anew)}")
    sample(model, ways, clips, out, text_tokens, settings, kept, fingerprints=expected, code=code())


def keep_baselines(samples: Path, clips: Path, judge: Path, out: Path) -> None:
    """Measure a family that `sample_baselines` wrote, and keep the numbers and a few clips of each set in `out`."""
    found, record = read_samples([samples]), read_json(samples / RECORD)
    ruler = make_ruler(load_judge(judge), found.prompts, None)
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
            measure(frames, ruler).save(measured)
        shutil.copyfile(samples / PROMPTS, partial / PROMPTS)
        write_json(partial / RECORD, record)


def code() -> dict[str, str]:
    """The sha256 of each module that decides how a baseline is sampled and measured."""
    return {name: sha256_file(_SOURCE / name) for name in _CODE}


def fingerprints(model: Path, clips: Path, judge: Path, text_tokens: int, settings: SamplesSettings) -> dict[str, str]:
    """By the name of each baseline, the sha256 of everything that its clips and their measurements depend on."""
    prompts = choose_prompts(clips, settings.prompts, settings.seed)
    common: dict[str, Any] = {
        "base": fingerprint(model),
        "judge": sha256_folder(judge),
        "prompts": prompts.to_dict("list"),
        "noise": settings.seed,
        "text_tokens": text_tokens,
        "code": code(),
        "libraries": {name: version(name) for name in _LIBRARIES},
    }
    real = hashlib.sha256(load_frames(clips, prompts.clip_id.tolist()).tobytes()).hexdigest()
    ways: dict[str, dict[str, Any]] = {
        way.name: {"steps": way.steps, "guidance": way.guidance} for way in teacher_settings(settings)
    }
    return {name: _digest(common | way) for name, way in {**ways, REAL_VAE: {"clips": real}}.items()}


def _reusable(shipped: Path, expected: dict[str, str]) -> dict[str, SampleSet]:
    if not (shipped / RECORD).is_file():
        return {}
    found = read_mapping(shipped / RECORD, fingerprints=dict)["fingerprints"]
    return {each.name: each for each in read_samples([shipped]).sets if found.get(each.name) == expected.get(each.name)}


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
