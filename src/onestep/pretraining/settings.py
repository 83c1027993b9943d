"""`data/bundled/params.yaml` as typed settings: how the bundled base is made. The same strictness as `onestep.config`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from onestep.config import (
    Count,
    EvaluateSettings,
    FootageSettings,
    IngestSettings,
    MachineSettings,
    Positive,
    SamplesSettings,
    Settings,
    Share,
    ValidateSettings,
    read_settings,
)


class VaeTraining(Settings):
    """The autoencoder: stock `AutoencoderKLWan`, first along its shortcuts alone, then whole."""

    seed: int
    base_dim: Count
    z_dim: Count
    dim_mult: tuple[Count, ...]
    residual_blocks: Count
    patch: Count
    shortcut_updates: Annotated[int, Field(ge=0)]
    updates: Count
    batch: Count
    frames: Count
    muon_lr: Positive
    adam_lr: Positive
    latent_penalty: float
    latent_noise: float
    checkpoint_every: Count


class TeacherTraining(Settings):
    """The multi-step diffusion transformer and its text encoder, trained together."""

    seed: int
    form: Literal["flow", "sample"]
    layers: Count
    heads: Count
    head_dim: Count
    text_dim: Count
    text_layers: Count
    text_tokens: Count
    updates: Count
    batch: Count
    muon_lr: Positive
    adam_lr: Positive
    warmup: Annotated[int, Field(ge=0)]
    caption_dropout: Share
    ema: Share
    checkpoint_every: Count
    samples_every: Count
    compile: bool


class JudgeTraining(Settings):
    """The judge: a small 3-D convolutional attribute probe on pixels."""

    seed: int
    updates: Count
    batch: Count
    learning_rate: Positive
    width: Count


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


def load_pretraining(path: Path) -> Pretraining:
    """Read and check the bundled project's `params.yaml`; raises `SettingsError`."""
    return read_settings(Pretraining, path)
