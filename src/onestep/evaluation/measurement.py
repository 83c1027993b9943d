"""One set of clips as numbers: what the judge, the text model and the per-clip metrics say of it, kept or read back."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import safe_open
from safetensors.numpy import save_file

from onestep.evaluation import metrics
from onestep.evaluation.distances import Moments
from onestep.evaluation.judge import Judge
from onestep.evaluation.text_alignment import TextAlignment


class MeasuringError(RuntimeError):
    """Clips cannot be measured for these prompts; the message says why."""


@dataclass(frozen=True)
class Measured:
    """One model's clips as numbers."""

    clips: pd.DataFrame  # one row per prompt, one column per metric of kind `per clip`
    words: dict[str, np.ndarray]  # what the judge saw, `[N]` of each attribute
    features: np.ndarray  # [N, D]
    patches: Moments

    def save(self, path: Path) -> None:
        """Write everything to one safetensors file, from which `read_measured` gives the same numbers, bit for bit."""
        tensors = {f"clips.{name}": self.clips[name].to_numpy(np.float64) for name in self.clips}
        tensors |= {"features": self.features} | {f"patches.{k}": v for k, v in self.patches.arrays().items()}
        words = {name: seen.tolist() for name, seen in self.words.items()}
        order = {"columns": list(self.clips), "words": words}
        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path, {"measured": json.dumps(order)})


def read_measured(path: Path) -> Measured:
    """What `Measured.save` wrote."""
    with safe_open(path, "np") as file:
        order = json.loads(file.metadata()["measured"])
        clips = pd.DataFrame({name: file.get_tensor(f"clips.{name}") for name in order["columns"]})
        patches = Moments.of_arrays(
            file.get_tensor("patches.sums"), file.get_tensor("patches.outers"), file.get_tensor("patches.per_clip")
        )
        words = {name: np.array(seen) for name, seen in order["words"].items()}
        return Measured(clips, words, file.get_tensor("features"), patches)


@dataclass(frozen=True)
class Ruler:
    """What every model is measured with, and what cannot be measured, by metric and reason."""

    judge: Judge
    prompts: pd.DataFrame
    attributes: tuple[str, ...]
    text: TextAlignment | None
    unmeasured: dict[str, str] = field(default_factory=dict)


def make_ruler(judge: Judge, prompts: pd.DataFrame, text_model: str | None) -> Ruler:
    """What can be measured of these prompts: attributes that the judge knows, and text alignment by a model's URL."""
    unmeasured = {}
    known = []
    for name in (n for n in prompts.columns if n in judge.vocabulary):
        unknown = sorted(set(prompts[name]) - set(judge.vocabulary[name]))
        if unknown:
            unmeasured[f"attribute_accuracy_{name}"] = f"the judge does not know the {name} {unknown[0]!r}"
        else:
            known.append(name)
    for name in (n for n in judge.vocabulary if n not in prompts.columns):
        unmeasured[f"attribute_accuracy_{name}"] = f"the footage has no column {name!r}"
    if not known:
        absent = "the footage has no attribute columns that the judge knows"
        unmeasured |= dict.fromkeys(("attribute_accuracy", "mode_coverage"), absent)
    if text_model is None:
        unmeasured["text_alignment"] = "no video-text model is configured (evaluate.text_model)"
    if not prompts["caption"].duplicated().any():
        unmeasured["caption_diversity"] = "no two prompts have the same caption"
    return Ruler(judge, prompts, tuple(known), TextAlignment(text_model) if text_model else None, unmeasured)


def measure(frames: np.ndarray, ruler: Ruler) -> Measured:
    """Everything that is measured of one set of clips, uint8 `[N, T, H, W, 3]` in the prompts' order."""
    if len(frames) != len(ruler.prompts):
        raise MeasuringError(f"{len(frames)} clips do not fit {len(ruler.prompts)} prompts: sample the family again")
    columns: dict[str, np.ndarray] = {}
    words: dict[str, np.ndarray] = {}
    seen = ruler.judge.assess(frames)
    if ruler.attributes:
        probabilities = seen.attributes
        asked = {name: ruler.prompts[name].tolist() for name in ruler.attributes}
        hits = metrics.attribute_hits(probabilities, asked, ruler.judge.vocabulary)
        columns["attribute_accuracy"] = np.mean(list(hits.values()), axis=0)
        columns |= {f"attribute_accuracy_{name}": hit.astype(np.float64) for name, hit in hits.items()}
        words = {n: np.array(ruler.judge.vocabulary[n])[probabilities[n].argmax(1)] for n in ruler.attributes}
    if ruler.text is not None:
        columns["text_alignment"] = ruler.text.score(frames, ruler.prompts["caption"].tolist())
    columns["structural_stability"] = metrics.structural_stability(frames)
    columns["motion"] = metrics.motion(frames)
    columns["background_grain"] = metrics.background_grain(frames)
    return Measured(pd.DataFrame(columns), words, seen.features, Moments(seen.patches))
