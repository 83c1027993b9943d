"""`data/bundled/params.yaml` as typed settings: how the bundled base is made. The same strictness as `onestep.cli.params`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from onestep.core.params import read_settings
from onestep.core.settings import MachineSettings, Settings
from onestep.core.values import Batch, Rate, Seed, Share, Updates, UpdatesOrNone, within
from onestep.data.ingest_settings import IngestSettings
from onestep.data.validate_settings import ValidateSettings, clips_pass
from onestep.demo.settings import FootageSettings
from onestep.evaluation.settings import EvaluateSettings
from onestep.inference.settings import SamplesSettings
from onestep.models.sizes import Frames

Width = Annotated[int, within(1, 65_536, "the width of a layer")]
Layers = Annotated[int, within(1, 1000, "layers of a network")]


class VaeTraining(Settings):
    """The autoencoder: stock `AutoencoderKLWan`, first along its shortcuts alone, then whole."""

    seed: Seed
    base_dim: Width
    z_dim: Width
    dim_mult: tuple[Layers, Layers, Layers]  # two downsamplings lie between three levels
    residual_blocks: Layers
    patch: Annotated[int, within(1, 16, "pixels folded into channels, per side")]
    shortcut_updates: UpdatesOrNone
    updates: Updates
    batch: Batch
    frames: Frames
    muon_lr: Rate
    adam_lr: Rate
    latent_penalty: Annotated[float, within(0, 1e6, "the weight of a term")]
    latent_noise: Annotated[float, within(0, 100, "in standard deviations of the latents")]
    checkpoint_every: Updates

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Shortcuts that outlast the run."""
        if self.shortcut_updates > self.updates:
            yield (
                "shortcut_updates",
                f"is more than all {self.updates} updates; the nearest legal value is {self.updates}",
            )


class TeacherTraining(Settings):
    """The multi-step diffusion transformer and its text encoder, trained together."""

    seed: Seed
    form: Literal["flow", "sample"]
    layers: Layers
    heads: Annotated[int, within(1, 1000, "heads of a layer")]
    head_dim: Width
    text_dim: Annotated[int, within(4, 65_536, "the width of a text encoder of four heads")]
    text_layers: Layers
    text_tokens: Annotated[int, within(1, 512, "what the tokenizer takes")]
    updates: Updates
    batch: Batch
    muon_lr: Rate
    adam_lr: Rate
    warmup: UpdatesOrNone
    caption_dropout: Share
    ema: Share
    checkpoint_every: Updates
    samples_every: Updates
    compile: bool

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """A warm-up that is longer than the run."""
        if self.warmup > self.updates:
            yield (
                "warmup",
                f"is longer than the run of {self.updates} updates; the nearest legal value is {self.updates}",
            )


class JudgeTraining(Settings):
    """The judge: a small 3-D convolutional attribute probe on pixels."""

    seed: Seed
    updates: Updates
    batch: Batch
    learning_rate: Rate
    width: Width


class Pretraining(Settings):
    """All of `data/bundled/params.yaml`."""

    machine: MachineSettings
    footage: FootageSettings
    ingest: IngestSettings
    validate_: Annotated[ValidateSettings, Field(alias="validate")]
    vae: VaeTraining
    judge: JudgeTraining
    teacher: TeacherTraining
    samples: SamplesSettings
    evaluate: EvaluateSettings

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Clips that no check lets through, or that are no whole tokens of this autoencoder."""
        yield from clips_pass(self.ingest, self.validate_)
        stride = 8 * self.vae.patch  # two downsamplings and the transformer's own patch of two
        for name in ("height", "width"):
            pixels = getattr(self.ingest, name)
            if pixels % stride:
                nearest = max(round(pixels / stride), 1) * stride
                yield (
                    f"ingest.{name}",
                    f"is not a multiple of {stride} (8 x vae.patch); the nearest legal value is {nearest}",
                )


def load_pretraining(path: Path) -> Pretraining:
    """Read and check the bundled project's `params.yaml`; raises `SettingsError`."""
    return read_settings(Pretraining, path)
