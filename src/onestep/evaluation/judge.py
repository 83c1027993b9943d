"""The judge: a small 3-D convolutional network on pixels that names a clip's attributes and gives video features.

It is trained once on real clips (`onestep.pretraining.judge`), pinned, and never touched by a training run. Its features
stand in for the I3D network of the Fréchet video distance (Unterthiner et al., arXiv 1812.01717); they mix depths, so
that grain, blur and flicker, which the attribute probe may overlook, still move them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from onestep.core.storage import StorageError, read_json, write_json

FEATURES = 48  # of a clip: few enough that 128 clips determine a covariance
PATCH_FEATURES = 24
PATCH_PIXELS = 16  # side of one patch
PATCH_FRAMES = 3  # frames of one patch
_FAULT_UNITS = 5.0  # weight of the faults' grades among the features
_BATCH_PIXELS = 64 * 13 * 64 * 64  # frames times pixels that go through the network at once


class JudgeError(RuntimeError):
    """A folder is not a usable judge, or something is not a clip that it could judge; the message says which and why."""


class Assessment(NamedTuple):
    """What the judge says of N clips."""

    attributes: dict[str, np.ndarray]  # probabilities [N, classes] of each attribute's words
    features: np.ndarray  # [N, FEATURES]
    patches: np.ndarray  # [N, P, PATCH_FEATURES]


class Judge(nn.Module):
    """Attribute probe and features of uint8 RGB clips `[N, T, H, W, 3]` of any length and size from 16 pixels up.

    vocabulary: the words of each attribute, in the order of the probe's classes; empty for a judge without a probe.
    faults: names of the rendering faults that an auxiliary head was taught to grade, so that the features see them.
    """

    def __init__(self, vocabulary: dict[str, tuple[str, ...]], faults: tuple[str, ...], width: int, seed: int) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            # A list, because JSON objects are written in the order of their keys and the probe's classes have their own.
            "vocabulary": [{"attribute": name, "words": list(words)} for name, words in vocabulary.items()],
            "faults": list(faults),
            "width": width,
            "seed": seed,
        }
        widths = (width, 2 * width, 4 * width, 8 * width)
        self.stages = nn.ModuleList(
            [
                _stage(3, widths[0], (1, 5, 5), (1, 2, 2)),
                _stage(widths[0], widths[1], (3, 3, 3), (2, 2, 2)),
                _stage(widths[1], widths[2], (3, 3, 3), (1, 2, 2)),
                _stage(widths[2], widths[3], (3, 3, 3), (2, 2, 2)),
            ]
        )
        classes = sum(len(words) for words in vocabulary.values())
        self.probe = nn.Linear(2 * widths[3], classes)
        self.fault_head = nn.Linear(sum(_group_sizes(widths)), len(faults))
        groups, patch_groups = _group_sizes(widths), (2 * widths[0], 2 * widths[1])
        projected = FEATURES - len(faults)
        for name, sizes, outputs in (("clip", groups, projected), ("patch", patch_groups, PATCH_FEATURES)):
            self.register_buffer(f"{name}_mean", torch.zeros(sum(sizes)))
            self.register_buffer(f"{name}_scale", torch.ones(sum(sizes)))
            self.register_buffer(f"{name}_projection", _projection(sizes, outputs, seed))

    @property
    def vocabulary(self) -> dict[str, tuple[str, ...]]:
        """The words of each attribute that the probe knows."""
        return _vocabulary(self.config)

    def forward(self, clips: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Of clips `[N, 3, T, H, W]` in [-1, 1]: logits of each attribute, fault grades, and clip statistics `[N, S]`."""
        return self._read(self._maps(clips))

    def assess(self, frames: np.ndarray) -> "Assessment":
        """Everything that the judge can say of uint8 clips `[N, T, H, W, 3]`, in one pass."""
        probabilities: dict[str, list[Tensor]] = {name: [] for name in self.vocabulary}
        features, patches = [], []
        for clips in self._batches(frames):
            maps = self._maps(clips)
            logits, grades, statistics = self._read(maps)
            for name, values in logits.items():
                probabilities[name].append(values.softmax(1))
            features.append(torch.cat([self._project(statistics, "clip"), _FAULT_UNITS * grades], dim=1))
            patches.append(self._project(_patch_statistics(maps, clips.shape[2:]), "patch"))
        return Assessment(
            {name: torch.cat(parts).numpy() for name, parts in probabilities.items()},
            torch.cat(features).numpy(),
            torch.cat(patches).numpy(),
        )

    def attributes(self, frames: np.ndarray) -> dict[str, np.ndarray]:
        """Probabilities `[N, classes]` of each attribute's words."""
        return self.assess(frames).attributes

    def features(self, frames: np.ndarray) -> np.ndarray:
        """One vector per clip, `[N, FEATURES]` float32: statistics of every depth and the grades of the faults.

        The statistics are in units of their spread over real clips; a fault of full strength is `_FAULT_UNITS` long.
        """
        return self.assess(frames).features

    def patch_features(self, frames: np.ndarray) -> np.ndarray:
        """One vector per patch of 16 x 16 pixels by 3 frames, `[N * P, PATCH_FEATURES]` float32, clip after clip."""
        patches = self.assess(frames).patches
        return patches.reshape(-1, patches.shape[2])

    @torch.no_grad()
    def calibrate(self, frames: np.ndarray) -> None:
        """Set the scale of the features from real clips, so that a distance of one is one spread of real clips.

        Statistics that hardly vary among real clips are scaled by a quarter of the typical spread instead of their own,
        or a difference that no eye sees would rule the distance.
        """
        clip_parts, patch_parts = [], []
        for clips in self._batches(frames):
            maps = self._maps(clips)
            clip_parts.append(_clip_statistics(maps))
            patch_parts.append(_patch_statistics(maps, clips.shape[2:]).flatten(0, 1))
        for name, found in (("clip", torch.cat(clip_parts)), ("patch", torch.cat(patch_parts))):
            spread = found.std(0)
            getattr(self, f"{name}_mean").copy_(found.mean(0))
            getattr(self, f"{name}_scale").copy_(spread.clamp_min(0.25 * spread.median().item() + 1e-6))

    def save(self, folder: Path) -> None:
        """Write `config.json` and `model.safetensors`."""
        write_json(folder / "config.json", self.config)
        save_file(
            {name: tensor.contiguous() for name, tensor in self.state_dict().items()}, folder / "model.safetensors"
        )

    def _maps(self, clips: Tensor) -> list[Tensor]:
        maps = [clips]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[1:]

    def _read(self, maps: list[Tensor]) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        pooled = torch.cat([maps[-1].mean((2, 3, 4)), maps[-1].amax((2, 3, 4))], dim=1)
        logits = self.probe(pooled).split([len(words) for words in self.vocabulary.values()], dim=1)
        statistics = _clip_statistics(maps)
        return dict(zip(self.vocabulary, logits, strict=True)), self.fault_head(statistics), statistics

    def _project(self, statistics: Tensor, name: str) -> Tensor:
        mean, scale = getattr(self, f"{name}_mean"), getattr(self, f"{name}_scale")
        return (statistics - mean) / scale @ getattr(self, f"{name}_projection")

    def _batches(self, frames: np.ndarray) -> Iterator[Tensor]:
        if frames.dtype != np.uint8 or frames.ndim != 5 or frames.shape[4] != 3 or not len(frames):
            raise JudgeError(f"the judge reads uint8 clips [N, T, H, W, 3], not {frames.dtype} {list(frames.shape)}")
        self.eval()
        size = max(_BATCH_PIXELS // int(np.prod(frames.shape[1:4])), 1)
        with torch.no_grad():
            for first in range(0, len(frames), size):
                yield to_input(frames[first : first + size])


def to_input(frames: np.ndarray) -> Tensor:
    """uint8 clips `[N, T, H, W, 3]` as the network reads them: `[N, 3, T, H, W]` in [-1, 1]."""
    return torch.from_numpy(frames).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def load_judge(folder: Path) -> Judge:
    """The judge in a local folder, in evaluation mode; raises `JudgeError` when a part is missing or does not fit."""
    try:
        config = read_json(folder / "config.json")
        judge = Judge(_vocabulary(config), tuple(config["faults"]), config["width"], config["seed"])
        judge.load_state_dict(load_file(folder / "model.safetensors"))
    except (StorageError, KeyError, OSError, RuntimeError) as error:
        raise JudgeError(f"{folder} is not a judge: {error}") from error
    return judge.eval().requires_grad_(False)


def _vocabulary(config: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    return {entry["attribute"]: tuple(entry["words"]) for entry in config["vocabulary"]}


def _stage(inputs: int, outputs: int, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> nn.Sequential:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    convolution = nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=False)
    # Batch statistics, not a clip's own: normalising each clip by itself would hide how much grain it has.
    return nn.Sequential(convolution, nn.BatchNorm3d(outputs), nn.LeakyReLU(0.1))


def _group_sizes(widths: tuple[int, ...]) -> tuple[int, ...]:
    return (3 * widths[0], 3 * widths[1], 2 * widths[2], 2 * widths[3])


def _clip_statistics(maps: list[Tensor]) -> Tensor:
    """Mean and spread of each channel at each depth; at the early ones also how much its mean changes between frames."""
    found = []
    for depth, layer in enumerate(maps):
        found += [layer.mean((2, 3, 4)), _spread(layer, (2, 3, 4))]
        if depth < 2:
            series = layer.mean((3, 4))
            steps = series[:, :, 1:] - series[:, :, :-1] if series.shape[2] > 1 else torch.zeros_like(series)
            found.append((steps.square().mean(2) + 1e-6).sqrt())
    return torch.cat(found, dim=1)


def _patch_statistics(maps: list[Tensor], size: Sequence[int]) -> Tensor:
    """Mean and spread of the two earliest depths within each patch, `[N, P, S]`; size: of the clips, `T, H, W`."""
    cells = (max(size[0] // PATCH_FRAMES, 1), max(size[1] // PATCH_PIXELS, 1), max(size[2] // PATCH_PIXELS, 1))
    pooled = [statistic for layer in maps[:2] for statistic in _mean_and_spread(layer, cells)]
    return torch.cat(pooled, dim=1).flatten(2).transpose(1, 2)


def _spread(layer: Tensor, dims: tuple[int, ...]) -> Tensor:
    return (layer.var(dims, correction=0) + 1e-6).sqrt()


def _mean_and_spread(layer: Tensor, cells: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    grid = (min(cells[0], layer.shape[2]), min(cells[1], layer.shape[3]), min(cells[2], layer.shape[4]))
    pooled = [functional.adaptive_avg_pool3d(values, grid) for values in (layer, layer.square())]
    spread = ((pooled[1] - pooled[0].square()).clamp_min(0) + 1e-6).sqrt()
    mean = pooled[0]
    if grid != cells:  # a short clip has fewer deep frames than patches: repeat them, so that depths line up
        mean, spread = (functional.interpolate(values, cells) for values in (mean, spread))
    return mean, spread


def _projection(sizes: tuple[int, ...], outputs: int, seed: int) -> Tensor:
    """A fixed random map with orthonormal columns, each group of statistics weighted alike whatever its size."""
    generator = torch.Generator().manual_seed(seed)
    columns = torch.linalg.qr(torch.randn(sum(sizes), outputs, generator=generator, dtype=torch.float64)).Q
    weights = torch.cat([torch.full((size,), (sum(sizes) / size / len(sizes)) ** 0.5) for size in sizes])
    return (columns * weights[:, None]).float()
