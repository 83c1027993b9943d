"""Train the judge on real clips: once, before any student is scored."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from onestep.core.storage import replacing_folder, write_json
from onestep.data.clips import load_frames, read_index
from onestep.demo.world import vocabulary
from onestep.evaluation.faults import FAULTS
from onestep.evaluation.features import ClipFeatures
from onestep.evaluation.judge import Judge, JudgeConfig, Words, convolutional_judge
from onestep.evaluation.network import to_input
from onestep.pretraining.settings import JudgeTraining

_FAULTY_SHARE = 0.25  # of a batch: clips with one fault, from which only the fault head learns
_FAULT_WEIGHT = 0.5
_WARMUP_SHARE = 0.05
_CALIBRATION_CLIPS = 1024
_IGNORED = -1  # class of a clip whose attribute does not count
_SHIFT_PIXELS = 4
_COLOURED = {"colour", "background"}
_MIRRORED = {"sliding left": "sliding right", "sliding right": "sliding left"}
_BACKWARDS = _MIRRORED | {"rising": "falling", "falling": "rising", "growing": "shrinking", "shrinking": "growing"}


class ClassError(RuntimeError):
    """The clips' attributes cannot be learned; the message names the column and the word."""


@dataclass(frozen=True)
class LabelledClips:
    """Real clips uint8 `[N, T, H, W, 3]` and, for each attribute, the class number of each clip `[N]`."""

    frames: np.ndarray
    classes: dict[str, np.ndarray]


def train_judge(clips: Path, out: Path, settings: JudgeTraining) -> None:
    """Train on the train split and write the judge, with its accuracy on the held-out splits in `metrics.json`.

    Raises `ClassError` when the clips carry no attributes, or a word that the world does not know.
    """
    index = read_index(clips)
    splits = {name: _labelled(clips, index[index["split"] == name]) for name in ("train", "dev", "test")}
    judge = fit(splits["train"], settings)
    metrics = {name: accuracy(judge, part) for name, part in splits.items() if name != "train" and len(part.frames)}
    with replacing_folder(out) as folder:
        judge.save(folder)
        write_json(folder / "metrics.json", {"train": {"clips": len(splits["train"].frames)}, **metrics})


def fit(train: LabelledClips, settings: JudgeTraining) -> Judge:
    """A judge trained on the clips: its probe on clean ones, its fault head on clips with one fault of a random strength.

    Clips are varied in ways that keep what they show (`_varied`) and by a small step in brightness; noise or blur on
    clips that count as clean would teach it to ignore them.
    """
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    words = tuple(Words(attribute=name, words=w) for name, w in vocabulary().items() if name in train.classes)
    judge = convolutional_judge(
        JudgeConfig(vocabulary=words, faults=tuple(FAULTS), width=settings.width, seed=settings.seed)
    )
    optimiser = torch.optim.AdamW(judge.parameters(), settings.learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=settings.updates + 1, pct_start=_WARMUP_SHARE
    )
    judge.train()
    for _ in range(settings.updates):
        chosen = rng.integers(len(train.frames), size=settings.batch)
        varied = _varied(LabelledClips(train.frames[chosen], {n: c[chosen] for n, c in train.classes.items()}), rng)
        frames, grades = _with_faults(varied.frames, rng)
        targets = {
            name: torch.from_numpy(np.where(grades.max(1) == 0, classes, _IGNORED))
            for name, classes in varied.classes.items()
        }
        brightness = torch.from_numpy(rng.uniform(-0.03, 0.03, (settings.batch, 1, 1, 1, 1)).astype(np.float32))
        loss = _loss(judge, to_input(frames) + brightness, targets, torch.from_numpy(grades))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    judge.eval().requires_grad_(False)
    judge.calibrate(train.frames[rng.permutation(len(train.frames))[:_CALIBRATION_CLIPS]])
    return judge


def accuracy(judge: Judge, clips: LabelledClips) -> dict[str, Any]:
    """Share of clips whose attribute the probe names rightly: `mean`, each attribute, and the number of `clips`."""
    found = judge.attributes(clips.frames)
    right = {name: float((found[name].argmax(1) == truth).mean()) for name, truth in clips.classes.items()}
    return {"clips": len(clips.frames), "mean": float(np.mean(list(right.values()))), **right}


def class_numbers(index: pd.DataFrame) -> dict[str, np.ndarray]:
    """The class number of each row's word, for each attribute; raises `ClassError` for a missing or unknown word."""
    classes = {}
    for name, words in vocabulary().items():
        if name not in index.columns:
            raise ClassError(f"clips.parquet has no column {name!r}: the judge is trained on clips with attributes")
        numbers = index[name].map({word: number for number, word in enumerate(words)})
        if numbers.isna().any():
            unknown = sorted(map(str, index.loc[numbers.isna(), name].unique()))
            raise ClassError(f"clips.parquet: {name} {unknown[0]!r} is unknown; known are {', '.join(words)}")
        classes[name] = numbers.to_numpy(dtype=np.int64)
    return classes


def _labelled(clips: Path, index: pd.DataFrame) -> LabelledClips:
    ids = index["clip_id"].tolist()
    frames = load_frames(clips, ids) if ids else np.empty((0, 1, 1, 1, 3), np.uint8)
    return LabelledClips(frames, class_numbers(index))


def _with_faults(frames: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The clips, the last of them with one fault each, and the grade of every fault `[N, faults]`."""
    frames, grades = frames.copy(), np.zeros((len(frames), len(FAULTS)), np.float32)
    parts = np.array_split(np.arange(round(len(frames) * (1 - _FAULTY_SHARE)), len(frames)), len(FAULTS))
    for number, (part, fault) in enumerate(zip(parts, FAULTS.values(), strict=True)):
        strength = rng.uniform(0.02, 1.0, len(part)) ** 2  # faint ones more often: they are the hard ones
        if len(part):
            frames[part] = fault(frames[part], strength, rng)
            grades[part, number] = np.sqrt(strength)
    return frames, grades


def _loss(judge: Judge, clips: Tensor, targets: dict[str, Tensor], grades: Tensor) -> Tensor:
    assert isinstance(judge.extractor, ClipFeatures)
    depths = judge(clips)
    logits, faults = judge.probe(depths), judge.extractor.grades(depths)
    entropy = [
        functional.cross_entropy(logits[name], target, ignore_index=_IGNORED) for name, target in targets.items()
    ]
    return torch.stack(entropy).mean() + _FAULT_WEIGHT * functional.mse_loss(faults, grades)


def _varied(clips: LabelledClips, rng: np.random.Generator) -> LabelledClips:
    """The clips mirrored, played backwards, moved by some pixels and with colour channels swapped, labels kept true.

    Some combinations of words are held out: without this the probe learns which exist, not what a shape looks like.
    """
    frames, classes = clips.frames.copy(), {name: numbers.copy() for name, numbers in clips.classes.items()}
    mirrored, backwards, recoloured = rng.random((3, len(frames))) < 0.5
    frames[mirrored] = frames[mirrored, :, :, ::-1]
    frames[backwards] = frames[backwards, ::-1]
    for place in np.flatnonzero(recoloured):
        frames[place] = frames[place][..., rng.permutation(3)]
    for name in _COLOURED & classes.keys():
        classes[name][recoloured] = _IGNORED
    if "motion" in classes:
        words = vocabulary()["motion"]
        for turned, opposite in ((mirrored, _MIRRORED), (backwards, _BACKWARDS)):
            turn = np.array([words.index(opposite.get(word, word)) for word in words])
            classes["motion"][turned] = turn[classes["motion"][turned]]
    height, width = frames.shape[2:4]
    for number, (down, right) in enumerate(rng.integers(-_SHIFT_PIXELS, _SHIFT_PIXELS + 1, (len(frames), 2))):
        rows, columns = (np.clip(np.arange(n) + by, 0, n - 1) for n, by in ((height, down), (width, right)))
        frames[number] = frames[number][:, rows][:, :, columns]
    return LabelledClips(frames, classes)
