"""One set of clips as numbers: what the judge, the text model and the per-clip metrics say of it, kept or read back."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import safe_open
from safetensors.numpy import save_file

from onestep.core.storage import sha256_file
from onestep.evaluation import clip_metrics
from onestep.evaluation.attributes import attribute_hits, likeliest
from onestep.evaluation.columns import ACCURACY, PER_ATTRIBUTE
from onestep.evaluation.distances import Moments
from onestep.evaluation.judge import Judge
from onestep.evaluation.text_alignment import TextAlignment

_ROOM = Path(__file__).parent
_CODE = (  # what decides the numbers of a measurement, text alignment apart, which is never kept
    "attributes.py",
    "clip_metrics.py",
    "distances.py",
    "features.py",
    "judge.py",
    "measurement.py",
    "network.py",
    "texture.py",
)


class MeasurementError(RuntimeError):
    """Clips cannot be measured for these prompts; the message says why."""


@dataclass(frozen=True)
class Measurement:
    """One model's clips as numbers."""

    clips: pd.DataFrame  # one row per prompt, one column per metric of kind `per clip`
    attributes: dict[str, np.ndarray]  # the word that the judge named, `[N]` of each attribute
    features: np.ndarray  # [N, D]
    patches: Moments

    def save(self, path: Path) -> None:
        """Write everything to one safetensors file, from which `read_measurement` gives the same numbers, bit for bit."""
        tensors = {f"clips.{name}": self.clips[name].to_numpy(np.float64) for name in self.clips}
        tensors |= {"features": self.features} | {f"patches.{k}": v for k, v in self.patches.arrays().items()}
        words = {name: named.tolist() for name, named in self.attributes.items()}
        order = {"columns": list(self.clips), "words": words}
        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path, {"measured": json.dumps(order)})


def read_measurement(path: Path) -> Measurement:
    """What `Measurement.save` wrote."""
    with safe_open(path, "np") as file:
        order = json.loads(file.metadata()["measured"])
        clips = pd.DataFrame({name: file.get_tensor(f"clips.{name}") for name in order["columns"]})
        patches = Moments.of_arrays(
            file.get_tensor("patches.sums"), file.get_tensor("patches.outers"), file.get_tensor("patches.per_clip")
        )
        attributes = {name: np.array(named) for name, named in order["words"].items()}
        return Measurement(clips, attributes, file.get_tensor("features"), patches)


def measuring_code() -> dict[str, str]:
    """The sha256 of each module that decides the numbers of a measurement: kept ones hold for this code alone."""
    return {f"{_ROOM.name}/{name}": sha256_file(_ROOM / name) for name in _CODE}


@dataclass(frozen=True)
class Measurer:
    """What every model is measured with, and what cannot be measured, by metric and reason."""

    judge: Judge
    prompts: pd.DataFrame
    attributes: tuple[str, ...]
    text: TextAlignment | None
    unmeasured: dict[str, str] = field(default_factory=dict)


def make_measurer(judge: Judge, prompts: pd.DataFrame, text_model: str | None) -> Measurer:
    """What can be measured of these prompts: attributes that the judge knows, and text alignment by a model's URL."""
    unmeasured = {}
    known = []
    for name in (n for n in prompts.columns if n in judge.vocabulary):
        unknown = sorted(set(prompts[name]) - set(judge.vocabulary[name]))
        if unknown:
            unmeasured[f"{PER_ATTRIBUTE}{name}"] = f"the judge does not know the {name} {unknown[0]!r}"
        else:
            known.append(name)
    for name in (n for n in judge.vocabulary if n not in prompts.columns):
        unmeasured[f"{PER_ATTRIBUTE}{name}"] = f"the footage has no column {name!r}"
    if not known:
        absent = "the footage has no attribute columns that the judge knows"
        unmeasured |= dict.fromkeys((ACCURACY, "mode_coverage"), absent)
    if text_model is None:
        unmeasured["text_alignment"] = "no video-text model is configured (evaluate.text_model)"
    if not prompts["caption"].duplicated().any():
        unmeasured["caption_diversity"] = "no two prompts have the same caption"
    return Measurer(judge, prompts, tuple(known), TextAlignment(text_model) if text_model else None, unmeasured)


def measure(frames: np.ndarray, measurer: Measurer) -> Measurement:
    """Everything that is measured of one set of clips, uint8 `[N, T, H, W, 3]` in the prompts' order."""
    if len(frames) != len(measurer.prompts):
        raise MeasurementError(
            f"{len(frames)} clips do not fit {len(measurer.prompts)} prompts: sample the family again"
        )
    columns: dict[str, np.ndarray] = {}
    attributes: dict[str, np.ndarray] = {}
    assessed = measurer.judge.assess(frames)
    if measurer.attributes:
        probabilities, vocabulary = assessed.attributes, measurer.judge.vocabulary
        asked = {name: measurer.prompts[name].tolist() for name in measurer.attributes}
        hits = attribute_hits(probabilities, asked, vocabulary)
        columns[ACCURACY] = np.mean(list(hits.values()), axis=0)
        columns |= {f"{PER_ATTRIBUTE}{name}": hit.astype(np.float64) for name, hit in hits.items()}
        attributes = {n: likeliest(probabilities[n], vocabulary[n]) for n in measurer.attributes}
    if measurer.text is not None:
        columns["text_alignment"] = measurer.text.score(frames, measurer.prompts["caption"].tolist())
    columns |= {name: metric(frames) for name, metric in clip_metrics.METRICS.items()}
    return Measurement(pd.DataFrame(columns), attributes, assessed.features, Moments(assessed.patches))
