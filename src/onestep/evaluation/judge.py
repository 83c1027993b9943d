"""The judge: what it says of a clip's attributes, features and texture is what every model is measured by.

It is trained once on real clips (`onestep.pretraining.judge`), pinned, and never changed by a training run. Its parts read
from one network, and each can be replaced: a probe for attributes, an extractor of clip features, one of textures. A judge
of another kind is one entry in `KINDS`; its folder names it in `config.json`.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from onestep.core.storage import StorageError, read_json, write_json
from onestep.core.values import Seed, within
from onestep.evaluation.attributes import AttributeProbe, Vocabulary
from onestep.evaluation.features import ClipFeatures, clip_statistics
from onestep.evaluation.network import Depths, Network, to_input
from onestep.evaluation.texture import PatchFeatures

CONVOLUTIONAL = "convolutional"
_BATCH_PIXELS = 64 * 13 * 64 * 64  # frames times pixels that go through the network at once
_IN_FILE = {  # how the parts' tensors are called in model.safetensors
    "network.stages.": "stages.",
    "probe.linear.": "probe.",
    "extractor.fault_head.": "fault_head.",
    "extractor.projection.matrix": "clip_projection",
    "extractor.projection.": "clip_",
    "texture.projection.matrix": "patch_projection",
    "texture.projection.": "patch_",
}
_Size = Annotated[int, within(1, 65_536, "numbers of one vector")]


class JudgeError(RuntimeError):
    """A folder is not a usable judge, or something is not a clip that it could judge; the message says which and why."""


class Words(BaseModel):
    """One attribute and its words, in the order of the probe's classes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attribute: str
    words: tuple[str, ...]


class JudgeConfig(BaseModel):
    """Everything that decides a convolutional judge but its weights; the sizes' defaults are those of the first judges."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # A list, because JSON objects are written in the order of their keys and the probe's classes have their own.
    vocabulary: tuple[Words, ...]
    faults: tuple[
        str, ...
    ]  # rendering faults that an auxiliary head was taught to grade, so that the features see them
    width: Annotated[int, within(1, 4096, "channels of the first depth")]
    seed: Seed
    features: _Size = 48  # of a clip: few enough that 128 clips determine a covariance
    patch_features: _Size = 24
    patch_pixels: _Size = 16  # side of one patch
    patch_frames: _Size = 3  # length of one patch
    fault_units: Annotated[float, within(0, 1e6, "length of a fault of full strength among the features")] = 5.0


class Assessment(NamedTuple):
    """What the judge says of N clips."""

    attributes: dict[str, np.ndarray]  # probabilities [N, classes] of each attribute's words
    features: np.ndarray  # [N, D]
    patches: np.ndarray  # [N, P, D'], P patches of each clip


class Judge(nn.Module):
    """Attribute probe, clip features and patch features of uint8 RGB clips `[N, T, H, W, 3]`, from 16 pixels a side up."""

    def __init__(
        self,
        config: Mapping[str, Any],
        network: nn.Module,
        probe: AttributeProbe,
        extractor: nn.Module,
        texture: nn.Module,
    ) -> None:
        """config: what `config.json` holds; network: clips → `Depths`; extractor, texture: `Depths` → vectors.

        The extractor gives `[N, D]`, the texture `[N, P, D']`.
        """
        super().__init__()
        self.config = dict(config)
        self.network, self.probe, self.extractor, self.texture = network, probe, extractor, texture

    @property
    def vocabulary(self) -> Vocabulary:
        """The words of each attribute that the probe knows."""
        return self.probe.vocabulary

    def forward(self, clips: Tensor) -> Depths:
        """What the parts read, of clips `[N, 3, T, H, W]` in [-1, 1]."""
        return self.network(clips)

    @torch.no_grad()
    def assess(self, frames: np.ndarray) -> Assessment:
        """Everything that the judge can say of uint8 clips `[N, T, H, W, 3]`, in one pass; raises `JudgeError`."""
        probabilities: dict[str, list[Tensor]] = {name: [] for name in self.vocabulary}
        features, patches = [], []
        for depths in self._depths(frames):
            for name, values in self.probe(depths).items():
                probabilities[name].append(values.softmax(1))
            features.append(self.extractor(depths))
            patches.append(self.texture(depths))
        return Assessment(
            {name: torch.cat(parts).numpy() for name, parts in probabilities.items()},
            torch.cat(features).numpy(),
            torch.cat(patches).numpy(),
        )

    def attributes(self, frames: np.ndarray) -> dict[str, np.ndarray]:
        """Probabilities `[N, classes]` of each attribute's words."""
        return self.assess(frames).attributes

    def features(self, frames: np.ndarray) -> np.ndarray:
        """One vector per clip, `[N, D]` float32, in units of the spread over real clips."""
        return self.assess(frames).features

    def patch_features(self, frames: np.ndarray) -> np.ndarray:
        """One vector per patch, `[N * P, D']` float32, clip after clip."""
        patches = self.assess(frames).patches
        return patches.reshape(-1, patches.shape[2])

    @torch.no_grad()
    def calibrate(self, frames: np.ndarray) -> None:
        """Set the scale of the features from real clips, uint8 `[N, T, H, W, 3]`; needs this module's own parts."""
        assert isinstance(self.extractor, ClipFeatures) and isinstance(self.texture, PatchFeatures)
        clips, patches = [], []
        for depths in self._depths(frames):
            clips.append(clip_statistics(depths))
            patches.append(self.texture.statistics(depths).flatten(0, 1))
        self.extractor.projection.calibrate(torch.cat(clips))
        self.texture.projection.calibrate(torch.cat(patches))

    def save(self, folder: Path) -> None:
        """Write `config.json` and `model.safetensors`."""
        write_json(folder / "config.json", self.config)
        tensors = {_in_file(name): tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(tensors, folder / "model.safetensors")

    def _depths(self, frames: np.ndarray) -> Iterator[Depths]:
        if frames.dtype != np.uint8 or frames.ndim != 5 or frames.shape[4] != 3 or not len(frames):
            raise JudgeError(f"the judge reads uint8 clips [N, T, H, W, 3], not {frames.dtype} {list(frames.shape)}")
        self.eval()
        size = max(_BATCH_PIXELS // int(np.prod(frames.shape[1:4])), 1)
        for first in range(0, len(frames), size):
            yield self(to_input(frames[first : first + size]))


def convolutional_judge(config: JudgeConfig) -> Judge:
    """An untrained judge; the order in which its parts draw their weights is fixed."""
    vocabulary = {entry.attribute: entry.words for entry in config.vocabulary}
    network = Network(config.width)
    probe = AttributeProbe(vocabulary, network.widths[-1])
    extractor = ClipFeatures(network.widths, config.features, config.faults, config.fault_units, config.seed)
    sizes = (config.patch_features, config.patch_pixels, config.patch_frames)
    texture = PatchFeatures(network.widths, *sizes, config.seed)
    return Judge(config.model_dump(mode="json"), network, probe, extractor, texture)


KINDS: dict[str, Callable[[dict[str, Any]], Judge]] = {
    CONVOLUTIONAL: lambda config: convolutional_judge(JudgeConfig.model_validate(config)),
}


def load_judge(folder: Path) -> Judge:
    """The judge in a local folder, in evaluation mode; raises `JudgeError` when a part is missing or does not fit."""
    try:
        judge = _untrained(read_json(folder / "config.json"))
        names = {_in_file(name): name for name in judge.state_dict()}
        tensors = load_file(folder / "model.safetensors")
        judge.load_state_dict({names.get(name, name): tensor for name, tensor in tensors.items()})
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        raise JudgeError(f"{folder} is not a judge: config.json: {key}: {problem['msg']}") from error
    except (StorageError, KeyError, OSError, RuntimeError) as error:
        raise JudgeError(f"{folder} is not a judge: {error}") from error
    return judge.eval().requires_grad_(False)


def _untrained(config: Mapping[str, Any]) -> Judge:
    kind = config.get("kind", CONVOLUTIONAL)
    if kind not in KINDS:
        raise JudgeError(f"config.json: its kind {kind!r:.40} is unknown; known are {', '.join(KINDS)}")
    return KINDS[kind]({key: value for key, value in config.items() if key != "kind"})


def _in_file(name: str) -> str:
    for here, there in _IN_FILE.items():
        if name.startswith(here):
            return there + name.removeprefix(here)
    return name
