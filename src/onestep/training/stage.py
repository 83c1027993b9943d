"""What the training stages share around their loop: inputs checked, a plan made, the EMA written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from onestep.core.storage import replacing_folder, sha256_folder
from onestep.data.latents import LatentSet, open_latents
from onestep.models.depth import untie
from onestep.models.ema import EMA
from onestep.models.norms import adapt_norms
from onestep.models.pipeline import VideoPipeline, fingerprint, load_pipeline
from onestep.training.plan import Plan, finish

if TYPE_CHECKING:  # a stage depends on its own settings alone
    from onestep.training.adversarial_settings import AdversarialSettings
    from onestep.training.distillation_settings import ConsistencySettings

PREVIEWS = 12


@dataclass(frozen=True)
class Stage:
    """One training stage's checked inputs."""

    name: str
    settings: "ConsistencySettings | AdversarialSettings"
    training: LatentSet
    dev: LatentSet
    fingerprints: Mapping[str, str]
    curves: Path
    updates: int

    def preview(self, pipeline: VideoPipeline, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Fixed noise `[N, C, T, H, W]` and text states `[N, L, D]` of the first dev captions."""
        captions = self.preview_captions
        noise = torch.randn((len(captions), *self.training.record["latent_shape"]), generator=random)
        return noise.to(pipeline.device), self.dev.text(captions).to(pipeline.device)

    @property
    def preview_captions(self) -> list[str]:
        """Captions of the sample sheets: the first distinct ones of the dev split."""
        return list(dict.fromkeys(self.dev.rows.caption))[:PREVIEWS]

    def plan(self, decode: Callable[[Tensor], np.ndarray]) -> Plan:
        """The plan of its run."""
        return Plan(
            stage=self.name,
            request={"settings": self.settings.model_dump(mode="json"), **self.fingerprints},
            updates=self.updates,
            samples_every=self.settings.samples_every,
            checkpoint_every=self.settings.checkpoint_every,
            curves=self.curves,
            decode=decode,
            captions=self.preview_captions,
        )


def open_stage(
    name: str,
    latents: Path,
    models: Mapping[str, Path],
    settings: "ConsistencySettings | AdversarialSettings",
    curves: Path,
) -> Stage:
    """Check that the latents were made by `models["base"]` and open them; raises `LatentsError`."""
    prints = {role: fingerprint(folder) for role, folder in models.items()} | {"latents": sha256_folder(latents)}
    return Stage(
        name=name,
        settings=settings,
        training=open_latents(latents, "train", prints["base"]),
        dev=open_latents(latents, "dev", prints["base"]),
        fingerprints=prints,
        curves=curves,
        updates=settings.total_updates,
    )


def load_for_training(folder: Path, accelerator: Accelerator) -> VideoPipeline:
    """A pipeline on the accelerator's device, whose transformer is fit for autocast; raises `PipelineError`."""
    pipeline = load_pipeline(folder).to(accelerator.device)
    adapt_norms(pipeline.transformer)
    return pipeline


def save_model(
    pipeline: VideoPipeline,
    ema: EMA,
    network: torch.nn.Module,
    plan: Plan,
    accelerator: Accelerator,
    out: Path,
    stage: Stage,
) -> None:
    """Write the network's EMA as a pipeline folder in stock layout, then forget the resume point."""
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        return
    ema.copy_to(network)
    untie(pipeline.transformer, pipeline.family)
    record: dict[str, Any] = {
        key: stage.training.record[key] for key in ("frames", "height", "width", "fps", "text_tokens")
    }
    with replacing_folder(out) as partial:
        pipeline.save(partial, name=stage.name, steps=1, base_sha256=stage.fingerprints["base"], **record)
    finish(plan)
