"""The multi-step baselines: the teacher at every setting, and `real-vae`, the prompts' own clips through the autoencoder.

They are the expensive part of a comparison and the same for every student of one base. So a base ships with its baselines
measured (`evaluation/baselines.py` keeps them), and each is reused where nothing that made it has changed: base, prompts,
noise, judge, code and libraries are in its fingerprint. Any other is sampled anew.
"""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from onestep.core.storage import read_mapping, sha256_file, sha256_folder
from onestep.data.clips import load_frames
from onestep.inference.rows import REAL_VAE
from onestep.inference.sampler import Setting, choose_prompts, sample, teacher_settings
from onestep.inference.samples import RECORD, SampleSet, read_samples
from onestep.inference.settings import SamplesSettings
from onestep.models.pipeline import fingerprint

_SOURCE = Path(__file__).parents[1]
_CODE = (  # what decides how a baseline is sampled
    "inference/sampler.py",
    "models/families/base.py",
    "models/families/wan.py",
    "models/pipeline.py",
)
_LIBRARIES = ("diffusers", "torch", "transformers")


def sample_baselines(
    model: Path,
    clips: Path,
    judge: Path,
    shipped: Path,
    out: Path,
    text_tokens: int,
    settings: SamplesSettings,
    measuring: Mapping[str, str],
) -> None:
    """Write the family folder `out`; sets of the folder `shipped` whose fingerprints match are taken from there.

    measuring: the sha256 of each module that decides how clips are measured, since shipped sets are measured already.
    """
    ways = [*teacher_settings(settings), Setting(REAL_VAE, 0, 1.0)]
    expected = fingerprints(model, clips, judge, text_tokens, settings, measuring)
    reused = _reusable(shipped, expected)
    taken = [way.name for way in ways if way.name in reused]
    anew = [way.name for way in ways if way.name not in reused]
    if taken:
        print(f"measured already, in {shipped}: {', '.join(taken)}")
    if anew:
        print(f"to be sampled: {', '.join(anew)}")
    sample(model, ways, clips, out, text_tokens, settings, reused, fingerprints=expected, code={**code(), **measuring})


def code() -> dict[str, str]:
    """The sha256 of each module that decides how a baseline is sampled."""
    return {name: sha256_file(_SOURCE / name) for name in _CODE}


def fingerprints(
    model: Path, clips: Path, judge: Path, text_tokens: int, settings: SamplesSettings, measuring: Mapping[str, str]
) -> dict[str, str]:
    """By the name of each baseline, the sha256 of everything that its clips and their measurements depend on."""
    prompts = choose_prompts(clips, settings.prompts, settings.seed)
    common: dict[str, Any] = {
        "base": fingerprint(model),
        "judge": sha256_folder(judge),
        "prompts": prompts.to_dict("list"),
        "noise": settings.seed,
        "text_tokens": text_tokens,
        "code": {**code(), **measuring},
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
