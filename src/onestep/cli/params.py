"""All of `params.yaml`: every stage's group, and what must fit between them.

Unknown keys and impossible values are refused with one sentence that names the key and the nearest legal value, before
any stage runs. How a file is read is in `core/params.py`; a group's settings lie in the room of its stage.
"""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

from pydantic import Field

from onestep.core import params as loader
from onestep.core.params import read_settings
from onestep.core.settings import MachineSettings, Settings
from onestep.data.drift_settings import DriftSettings
from onestep.data.encode_settings import EncodeSettings
from onestep.data.ingest_settings import IngestSettings
from onestep.data.validate_settings import ValidateSettings, clips_pass
from onestep.demo.settings import FootageSettings
from onestep.evaluation.names import rows as known_rows
from onestep.evaluation.settings import EvaluateSettings
from onestep.gate.settings import GateSettings
from onestep.inference.latency_settings import LatencySettings
from onestep.inference.settings import SamplingSettings
from onestep.models.settings import FetchSettings
from onestep.nightly.settings import RetrainSettings
from onestep.training.adversarial_settings import AdversarialSettings
from onestep.training.distillation_settings import ConsistencySettings


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
        prompts, rows = self.samples.prompts, known_rows(self.samples.teacher)
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


def load_params(path: Path) -> Params:
    """Read and check a `params.yaml`; raises `SettingsError`."""
    return read_settings(Params, path)


def overrides(profile: Path, params: Path) -> list[str]:
    """A profile's settings as `group.key=value` for `dvc exp run --set-param`; raises `SettingsError` as `load_params`."""
    return loader.overrides(Params, profile, params)


def pin_threads(machine: MachineSettings) -> None:
    """Let torch compute with as many threads as the settings say, on whatever machine: their number changes the last bits."""
    import torch

    torch.set_num_threads(machine.threads)
