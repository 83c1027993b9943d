"""`params.yaml` as strict, frozen, typed settings: all groups, and what must fit between them.

Unknown keys and impossible values are refused with one sentence that names the key and the nearest legal value, before
any stage runs. How a file is read is in `settings/loader.py`, the groups are in the modules beside it.
"""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

from pydantic import Field

from onestep.settings import loader, names
from onestep.settings.footage import (
    DriftSettings,
    EncodeSettings,
    FetchSettings,
    FootageSettings,
    IngestSettings,
    MachineSettings,
    ValidateSettings,
)
from onestep.settings.judging import (
    EvaluateSettings,
    GateSettings,
    LatencySettings,
    Margin,
    RetrainSettings,
    SamplesSettings,
    SamplingSettings,
)
from onestep.settings.loader import Settings, SettingsError, load_group, merged, parse_settings, read_settings
from onestep.settings.training import AdversarialSettings, ConsistencySettings, GuardSettings, MatchingSettings
from onestep.settings.values import nearest_frames, nearest_side

__all__ = [
    "AdversarialSettings",
    "ConsistencySettings",
    "DriftSettings",
    "EncodeSettings",
    "EvaluateSettings",
    "FetchSettings",
    "FootageSettings",
    "GateSettings",
    "GuardSettings",
    "IngestSettings",
    "LatencySettings",
    "MachineSettings",
    "Margin",
    "MatchingSettings",
    "Params",
    "RetrainSettings",
    "SamplesSettings",
    "SamplingSettings",
    "Settings",
    "SettingsError",
    "ValidateSettings",
    "clips_pass",
    "load_group",
    "load_params",
    "merged",
    "nearest_frames",
    "nearest_side",
    "overrides",
    "parse_settings",
    "read_settings",
]


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

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """What one group asks for and another rules out: found here, not after hours of training."""
        yield from clips_pass(self.ingest, self.validate_)
        prompts, rows = self.samples.prompts, names.rows(self.samples.teacher)
        if self.gate.min_prompts > prompts:
            yield (
                "gate.min_prompts",
                f"is more than samples.prompts = {prompts}, so that nothing could be promoted; "
                f"the nearest legal value is {prompts}",
            )
        asked = [(f"gate.better_than.{place}", row) for place, row in enumerate(self.gate.better_than)]
        for key, row in [*asked, ("gate.reference", self.gate.reference)]:
            if row not in rows:
                meant = get_close_matches(row, rows, n=1)
                hint = f"did you mean {meant[0]}?" if meant else f"known are {', '.join(rows)}"
                yield key, f"is no row that is sampled (samples.teacher); {hint}"


def clips_pass(ingest: IngestSettings, validate: ValidateSettings) -> Iterator[tuple[str, str]]:
    """Limits of the check that no clip could meet which ingest lets through."""
    for name, least in (("brightness", ingest.min_brightness), ("movement", ingest.min_movement)):
        low, high = getattr(validate, name)
        if high < least:
            yield (
                f"validate.{name}",
                f"no clip could pass: ingest.min_{name} = {least:g} is above its upper end; "
                f"the nearest legal value is [{low:g}, {least:g}]",
            )
    if ingest.frames == 1 and validate.movement[0] > 0:
        yield (
            "validate.movement",
            f"no clip could pass: clips of one frame have no movement; the nearest legal value is [0, {validate.movement[1]:g}]",
        )


def load_params(path: Path) -> Params:
    """Read and check a `params.yaml`; raises `SettingsError`."""
    return read_settings(Params, path)


def overrides(profile: Path, params: Path) -> list[str]:
    """A profile's settings as `group.key=value` for `dvc exp run --set-param`; raises `SettingsError` as `load_params`."""
    return loader.overrides(Params, profile, params)
