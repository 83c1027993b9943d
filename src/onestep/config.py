"""`params.yaml` as strict, frozen, typed settings: the only reader of that file besides DVC.

Unknown keys and impossible sizes are refused with one sentence that names the key and the nearest legal value.
"""

import json
import math
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from onestep.yaml_files import YamlError, read_yaml

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]
Decay = Annotated[float, Field(ge=0.0, lt=1.0)]
Precision = Literal["auto", "fp32", "bf16"]
Metric = str

TEMPORAL_STRIDE = 4  # frames that one latent frame of a Wan VAE stands for, after the first
PIXEL_STRIDE = 16  # pixels to one transformer token, per side: VAE compression times patch


class SettingsError(ValueError):
    """A setting is missing, unknown or impossible; the message names its key."""


class Settings(BaseModel):
    """One group of `params.yaml`: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


AnySettings = TypeVar("AnySettings", bound=Settings)


def nearest_frames(frames: int) -> int:
    """The nearest legal number of frames, 4k+1 (the VAE silently drops the rest otherwise)."""
    return max(TEMPORAL_STRIDE * round((frames - 1) / TEMPORAL_STRIDE), 0) + 1


def nearest_side(pixels: int) -> int:
    """The nearest legal height or width: a positive multiple of 16."""
    return max(round(pixels / PIXEL_STRIDE), 1) * PIXEL_STRIDE


class MachineSettings(Settings):
    """What every stage does alike on this machine."""

    threads: Count


class FootageSettings(Settings):
    """The rendered demo world."""

    seed: int
    shots: Count
    evaluation_seed: int
    evaluation_shots: Annotated[int, Field(ge=0)]
    side: Count
    fps: Count
    bad_files: bool


class IngestSettings(Settings):
    """Footage to clips."""

    fps: Count
    frames: Count
    height: Count
    width: Count
    fit: Literal["crop", "pad"]
    clips_per_shot: Count
    cut_threshold: Positive
    min_brightness: Share
    min_movement: Share
    duplicate_distance: Annotated[int, Field(ge=0, le=64)]
    crf: Annotated[int, Field(ge=0, le=51)]
    dev_share: Share
    test_share: Share
    shard_clips: Count
    workers: Annotated[int, Field(ge=0)]

    @field_validator("frames")
    @classmethod
    def _legal_frames(cls, frames: int) -> int:
        if frames != nearest_frames(frames):
            raise ValueError(f"{frames} frames are not 4k+1; the nearest legal value is {nearest_frames(frames)}")
        return frames

    @field_validator("height", "width")
    @classmethod
    def _legal_side(cls, pixels: int) -> int:
        if pixels != nearest_side(pixels):
            raise ValueError(
                f"{pixels} pixels are not a multiple of {PIXEL_STRIDE}; the nearest legal value is {nearest_side(pixels)}"
            )
        return pixels


class ValidateSettings(Settings):
    """What the clips must be like before anything trains on them."""

    min_train_clips: Count
    min_test_clips: Annotated[int, Field(ge=0)]
    brightness: tuple[Share, Share]
    movement: tuple[Share, Share]
    max_quarantine_rate: Share


class DriftSettings(Settings):
    """When the footage counts as drifted from that of the model in production."""

    distance: Positive
    share: Share


class FetchSettings(Settings):
    """A folder of weights by URL, pinned by its fingerprint when `sha256` is set."""

    url: str
    sha256: str | None


class EncodeSettings(Settings):
    """Clips to latents."""

    batch: Count
    text_tokens: Count
    shard_latents: Count


class MatchingSettings(Settings):
    """Distribution matching after the initialisation's target."""

    updates: Annotated[int, Field(ge=0)]
    warmup: Annotated[int, Field(ge=0)]
    guidance_scale: Annotated[float, Field(ge=1.0)]
    token_exchange: Share
    token_dropout: Share
    optimizer: Literal["adamw", "muon"]
    rate: Positive
    score_rate: Positive

    @model_validator(mode="after")
    def _warmup_fits(self) -> "MatchingSettings":
        if self.updates and self.warmup >= self.updates:
            raise ValueError(
                f"warmup = {self.warmup} leaves none of {self.updates} updates after it; "
                f"the nearest legal value is {self.updates - 1}"
            )
        return self


class ConsistencySettings(Settings):
    """The few-step initialisation: the base becomes a student that samples in one step, before any GAN."""

    seed: int
    target: Literal["consistency", "progressive", "trajectory"]
    updates: Count
    batch: Count
    accumulate: Count
    optimizer: Literal["adamw", "muon"]
    learning_rate: Positive
    weight_decay: NonNegative
    warmup: Annotated[int, Field(ge=0)]
    cooldown: Share
    levels: Annotated[int, Field(ge=2)]
    pairs: Count
    teacher_steps: Count
    guidance_scale: Annotated[float, Field(ge=1.0)]
    depth_repeats: Count
    depth_tied: bool
    matching: MatchingSettings
    ema: Decay | None
    precision: Precision
    samples_every: Count
    checkpoint_every: Count

    @model_validator(mode="after")
    def _levels_halve(self) -> "ConsistencySettings":
        if self.target == "progressive" and self.levels & (self.levels - 1):
            raise ValueError(
                f"levels = {self.levels} cannot be halved down to 1 (target progressive); "
                f"the nearest legal value is {2 ** round(math.log2(self.levels))}"
            )
        return self


class GuardSettings(Settings):
    """When a run counts as collapsed, and what is done about it."""

    window: Count
    one_sided: NonNegative
    gap: Positive
    floor: Share
    rollbacks: Annotated[int, Field(ge=0)]
    rate_factor: Annotated[float, Field(gt=0.0, lt=1.0)]


class AdversarialSettings(Settings):
    """Adversarial post-training against real clips."""

    seed: int
    image_updates: Annotated[int, Field(ge=0)]
    updates: Count
    batch: Count
    accumulate: Count
    generator_lr: Positive
    discriminator_lr: Positive
    cooldown: Share
    discriminator_warmup: Annotated[int, Field(ge=0)]
    loss: Literal["non-saturating", "relativistic"]
    r1: NonNegative
    r2: NonNegative
    sigma: Positive
    penalty_share: Annotated[float, Field(gt=0.0, le=1.0)]
    centring: NonNegative
    contrastive: NonNegative
    contrastive_share: Annotated[float, Field(gt=0.0, le=1.0)]
    contrastive_nearest: Count | None
    augmentation: Share
    frame_logits: bool
    timestep_shift: Positive
    heads: Annotated[tuple[Annotated[float, Field(gt=0.0, le=1.0)], ...], Field(min_length=1)]
    train_backbone: bool
    ema: Annotated[tuple[Decay, ...], Field(min_length=1)]
    end_game: Annotated[int, Field(ge=0)]
    end_game_rate: Annotated[float, Field(gt=0.0, le=1.0)]
    evaluate_every: Count
    evaluate_clips: Annotated[int, Field(ge=8)]
    select: dict[Metric, float]
    certainty: Share
    guard: GuardSettings
    precision: Precision
    samples_every: Count
    checkpoint_every: Count

    @model_validator(mode="after")
    def _end_game_fits(self) -> "AdversarialSettings":
        if self.end_game >= self.updates:
            raise ValueError(
                f"end_game = {self.end_game} leaves none of {self.updates} updates before it; "
                f"the nearest legal value is {self.updates - 1}"
            )
        return self


class SamplingSettings(Settings):
    """What is generated for every comparison."""

    prompts: Count
    teacher: tuple[tuple[Count, Annotated[float, Field(ge=1.0)]], ...]
    batch: Count

    def with_seed(self, seed: int) -> "SamplesSettings":
        """The settings of one comparison: its seed comes from `data/production.json`, not from here."""
        return SamplesSettings(**self.model_dump(), seed=seed)


class SamplesSettings(SamplingSettings):
    """What is generated for one comparison; the seed is that of the noise and of the choice of prompts."""

    seed: int


class EvaluateSettings(Settings):
    """Intervals and pictures of the report."""

    resamples: Count
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)]
    seed: int
    gallery: Count
    text_model: str | None


class LatencySettings(Settings):
    """How generation is timed."""

    repeats: Count
    batch: Count


class Margin(Settings):
    """How much worse still counts as no worse: in the metric's own unit, or as a share of the other model's value."""

    absolute: NonNegative | None = None
    relative: NonNegative | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> "Margin":
        if (self.absolute is None) == (self.relative is None):
            raise ValueError("give either absolute (the metric's unit) or relative (a share), not both and not none")
        return self


class GateSettings(Settings):
    """The rules of promotion, as data."""

    alpha: Annotated[float, Field(gt=0.0, lt=0.5)]
    initial_wealth: Positive
    training_seeds: Count
    min_prompts: Count
    better_than: tuple[str, ...]
    better_metrics: tuple[Metric, ...]
    reference: str
    margins: dict[Metric, Margin]
    floors: dict[Metric, Share]
    min_speedup: Positive

    @model_validator(mode="after")
    def _wealth_is_part_of_alpha(self) -> "GateSettings":
        if self.initial_wealth > self.alpha:
            raise ValueError(f"initial_wealth must be at most alpha: the nearest legal value is {self.alpha:g}")
        return self


class RetrainSettings(Settings):
    """When a night trains."""

    min_new_clips: Count
    on_drift: bool
    max_champion_age_days: Positive | None
    on_new_recipe: bool


class Params(Settings):
    """All of `params.yaml`, one group per stage."""

    machine: MachineSettings
    footage: FootageSettings
    ingest: IngestSettings
    validate_: Annotated[ValidateSettings, Field(alias="validate")]
    drift: DriftSettings
    base: FetchSettings
    judge: FetchSettings
    encode: EncodeSettings
    consistency: ConsistencySettings
    adversarial: AdversarialSettings
    samples: SamplingSettings
    evaluate: EvaluateSettings
    latency: LatencySettings
    gate: GateSettings
    retrain: RetrainSettings

    @model_validator(mode="after")
    def _splits_fit(self) -> "Params":
        if self.ingest.dev_share + self.ingest.test_share >= 1.0:
            raise ValueError("ingest.dev_share + ingest.test_share must leave clips to train on: keep the sum below 1")
        return self


def parse_settings(kind: type[AnySettings], content: Any, source: str) -> AnySettings:
    """Settings from parsed YAML; raises `SettingsError` with one sentence per wrong key, each naming `source`."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise SettingsError("; ".join(_sentence(kind, source, problem) for problem in error.errors())) from error


def load_params(path: Path) -> Params:
    """Read and check a `params.yaml`; raises `SettingsError`."""
    return read_settings(Params, path)


def load_group(kind: type[AnySettings], path: Path, group: str) -> AnySettings:
    """One group alone, whatever else a project's `params.yaml` holds; raises `SettingsError`."""
    return parse_settings(kind, _content(path).get(group, {}), f"{path}: {group}")


def read_settings(kind: type[AnySettings], path: Path) -> AnySettings:
    """Read and check any settings file; raises `SettingsError`."""
    return parse_settings(kind, _content(path), str(path))


def _content(path: Path) -> Any:
    try:
        return read_yaml(path)
    except YamlError as error:
        hint = "" if path.exists() else ": run from the project's root or pass --params"
        raise SettingsError(f"{error}{hint}") from error


def merged(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with changes over them: a group within a group is changed key by key, everything else is replaced."""
    result = dict(content)
    for key, value in changes.items():
        below = content.get(key)
        result[key] = merged(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return result


def overrides(profile: Path, params: Path) -> list[str]:
    """A profile's settings as `group.key=value` for `dvc exp run --set-param`; raises `SettingsError` as `load_params`."""
    content, changes = _content(params), _content(profile)
    parse_settings(Params, merged(content, changes), str(profile))
    return [f"{key}={json.dumps(value, separators=(',', ':'))}" for key, value in _leaves(changes)]


def _leaves(changes: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is not a group, under its dotted key, which is the only way that DVC takes it."""
    for key, value in changes.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _sentence(kind: type[Settings], source: str, problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"]) or "the file"
    if problem["type"] == "extra_forbidden":
        *groups, name = map(str, problem["loc"])
        known = _names(kind, groups)
        meant = get_close_matches(name, known, n=1)
        hint = f"did you mean {'.'.join([*groups, *meant])}?" if meant else f"known are {', '.join(known)}"
        return f"{source}: {key} is not a known setting; {hint}"
    if problem["type"] == "missing":
        return f"{source}: {key} is missing"
    reason = problem["msg"].removeprefix("Value error, ")
    return f"{source}: {key} = {problem['input']!r}: {reason}" if key != "the file" else f"{source}: {reason}"


def _names(kind: type[Settings], groups: list[str]) -> list[str]:
    """The keys of a group of settings within `kind`, as the file spells them."""
    fields = {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
    if not groups:
        return list(fields)
    inner = fields[groups[0]]
    assert isinstance(inner, type) and issubclass(inner, Settings)
    return _names(inner, groups[1:])
