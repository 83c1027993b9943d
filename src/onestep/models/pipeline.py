"""A `WanPipeline` folder seen as what training and evaluation need of it: latents, text states and denoised samples.

Nothing above this module knows which Wan it holds; sizes, prediction form and noise schedule are read from the folder.
"""

import copy
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from diffusers.utils import logging as diffusers_logging
from torch import Tensor
from transformers.utils import logging as transformers_logging

from onestep.core.storage import read_json, sha256_folder, write_json

Form = Literal["flow", "sample"]
MAX_TIMESTEP = 999  # what stock schedulers feed the network at pure noise, although σ is 1 there
RECORD = "onestep.json"
_FORMS: dict[str, Form] = {"flow_prediction": "flow", "sample": "sample"}


class PipelineError(RuntimeError):
    """A folder is not a usable video pipeline; the message names the folder and the reason."""


class VideoPipeline:
    """The parts of one Wan pipeline, all in evaluation mode and without gradients until a trainer asks for them.

    `x` clean latents `[B, C, T, H, W]` normalised per channel; `c` text states `[B, L, text_dim]`; `t` in [0, 1], 1 = noise.
    """

    def __init__(self, wan: WanPipeline, record: dict[str, Any]) -> None:
        self.wan = wan
        self.record = record
        self.vae = cast(AutoencoderKLWan, wan.vae).eval().requires_grad_(False)
        arrange_convolutions(self.vae, torch.channels_last_3d)
        self.transformer = cast(WanTransformer3DModel, wan.transformer).eval().requires_grad_(False)
        wan.text_encoder.eval().requires_grad_(False)
        self._mean = torch.tensor(self.vae.config.latents_mean).view(1, -1, 1, 1, 1)
        self._std = torch.tensor(self.vae.config.latents_std).view(1, -1, 1, 1, 1)

    @property
    def form(self) -> Form:
        """What the transformer predicts: the velocity (`flow`) or the clean sample (`sample`)."""
        return _FORMS[self.wan.scheduler.config.prediction_type]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.transformer.device

    def to(self, device: torch.device | str) -> "VideoPipeline":
        """Move every part."""
        self.wan.to(device)
        return self

    def noise_levels(self, steps: int) -> list[float]:
        """The scheduler's own noise levels for that many steps, highest first, in (0, 1]; the last step ends at 0."""
        scheduler = self._scheduler(steps)
        return [float(t) / scheduler.config.num_train_timesteps for t in scheduler.timesteps]

    def encode_text(self, captions: list[str], tokens: int) -> Tensor:
        """Text states `[B, tokens, text_dim]` as the stock pipeline makes them: zero beyond each caption's end."""
        with torch.no_grad():
            return self.wan._get_t5_prompt_embeds(
                prompt=captions, max_sequence_length=tokens, device=self.device, dtype=torch.float32
            )

    def encode_video(self, frames: np.ndarray) -> Tensor:
        """Normalised latents `[B, C, T', H', W']` (the posterior's mode) of uint8 clips `[B, T, H, W, 3]`."""
        return normalised_latents(self.vae, frames)

    def decode_video(self, latents: Tensor) -> np.ndarray:
        """uint8 clips `[B, T, H, W, 3]` of normalised latents `[B, C, T', H', W']`."""
        with torch.no_grad():
            latents = latents.to(self.device, torch.float32)
            pixels = self.vae.decode(latents * self._std.to(latents) + self._mean.to(latents)).sample
            levels = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
            return levels.permute(0, 2, 3, 4, 1).contiguous().cpu().numpy()

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """`(C, T', H', W')` of a clip's latents; raises `PipelineError` naming the nearest legal size."""
        config = self.vae.config
        side = config.scale_factor_spatial * self.transformer.config.patch_size[1]
        if frames % config.scale_factor_temporal != 1 % config.scale_factor_temporal:
            nearest = round((frames - 1) / config.scale_factor_temporal) * config.scale_factor_temporal + 1
            raise PipelineError(f"{frames} frames cannot be encoded; the nearest legal number is {nearest}")
        for name, pixels in (("height", height), ("width", width)):
            if pixels % side or pixels <= 0:
                raise PipelineError(
                    f"{name} {pixels} is not a multiple of {side}; the nearest is {max(round(pixels / side), 1) * side}"
                )
        scale = config.scale_factor_spatial
        return config.z_dim, (frames - 1) // config.scale_factor_temporal + 1, height // scale, width // scale

    def denoise(self, noise: Tensor, text: Tensor, steps: int, guidance: float, empty: Tensor | None = None) -> Tensor:
        """Clean latents by the folder's own scheduler, as stock diffusers runs it.

        noise, result: `[B, C, T', H', W']`; text: `[B, L, D]`; guidance 1 = none, else `empty` `[1, L, D]` is needed:
        `uncond + guidance · (cond − uncond)` (classifier-free guidance, arXiv 2207.12598).
        """
        scheduler = self._scheduler(steps)
        latents = noise
        with torch.no_grad():
            for step in scheduler.timesteps:
                t = step.expand(len(latents)).to(self.device)
                prediction = self.transformer(latents, t, text, return_dict=False)[0]
                if guidance != 1.0:
                    if empty is None:
                        raise PipelineError(f"guidance {guidance} needs the text states of the empty caption")
                    unconditional = self.transformer(latents, t, empty.expand_as(text), return_dict=False)[0]
                    prediction = unconditional + guidance * (prediction - unconditional)
                latents = scheduler.step(prediction, step, latents, return_dict=False)[0]
        return latents

    def save(self, folder: Path, **record: Any) -> None:
        """Write the folder in stock diffusers layout, with `onestep.json` beside."""
        arrange_convolutions(self.vae, torch.contiguous_format)  # what safetensors can write
        self.wan.save_pretrained(folder, safe_serialization=True)
        arrange_convolutions(self.vae, torch.channels_last_3d)
        index = read_json(folder / "model_index.json")
        index.pop("_name_or_path", None)
        write_json(folder / "model_index.json", index)
        write_json(folder / RECORD, {**self.record, **record})

    def _scheduler(self, steps: int) -> UniPCMultistepScheduler:
        scheduler = copy.deepcopy(self.wan.scheduler)
        scheduler.set_timesteps(steps)
        return scheduler


def predict_sample(transformer: torch.nn.Module, x_t: Tensor, t: Tensor, text: Tensor, form: Form) -> Tensor:
    """The clean sample `[B, C, T, H, W]` that the network sees behind `x_t` at noise levels `t` `[B]` in [0, 1].

    Flow form: `x̂ = x_t − t·v` (APT section 3.1, `G(z, c) = z − v(z, 1, c)` at t = 1); sample form: the output itself.
    """
    output = transformer(x_t, (t * 1000).clamp(max=MAX_TIMESTEP), text, return_dict=False)[0].float()
    return output if form == "sample" else x_t - _per_clip(t) * output


def arrange_convolutions(module: torch.nn.Module, layout: torch.memory_format) -> None:
    """Lay the weights of all 3-D convolutions out anew: on a CPU, channels last take about 0.6 of the time."""
    for part in module.modules():
        if isinstance(part, torch.nn.Conv3d):
            part.weight.data = part.weight.data.contiguous(memory_format=layout)


@torch.no_grad()
def normalised_latents(vae: AutoencoderKLWan, frames: np.ndarray) -> Tensor:
    """The posterior's mode, normalised per channel by the config's mean and spread: `[B, T, H, W, 3]` uint8 → latents."""
    pixels = torch.from_numpy(frames).to(vae.device).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    latents = vae.encode(pixels).latent_dist.mode()
    mean, std = (
        torch.tensor(v).view(1, -1, 1, 1, 1).to(latents) for v in (vae.config.latents_mean, vae.config.latents_std)
    )
    return (latents - mean) / std


def mix(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Flow matching's `x_t = (1 − t)·x + t·z`; x, noise `[B, C, T, H, W]`, t `[B]`."""
    level = _per_clip(t)
    return (1 - level) * x + level * noise


def _per_clip(t: Tensor) -> Tensor:
    return t.view(-1, 1, 1, 1, 1)


def load_pipeline(folder: Path) -> VideoPipeline:
    """Load a pipeline folder in float32; raises `PipelineError` with one sentence when it cannot be used."""
    if not (folder / "model_index.json").is_file():
        raise PipelineError(f"{folder} is not a diffusers pipeline: it has no model_index.json")
    for library in (diffusers_logging, transformers_logging):
        library.disable_progress_bar()  # two bars for every load would bury the stage's own
    try:
        wan = WanPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PipelineError(f"{folder} cannot be loaded as a WanPipeline: {error}") from error
    wan.set_progress_bar_config(disable=True)
    if wan.scheduler.config.prediction_type not in _FORMS:
        raise PipelineError(
            f"{folder}: scheduler prediction_type {wan.scheduler.config.prediction_type!r} is not supported; "
            f"legal are {', '.join(_FORMS)}"
        )
    if not wan.text_encoder.get_input_embeddings().weight.any():
        raise PipelineError(f"{folder}: the text encoder's embedding is all zeros: its weights were not loaded")
    record = read_json(folder / RECORD) if (folder / RECORD).is_file() else {}
    return VideoPipeline(wan, record)


def fingerprint(folder: Path) -> str:
    """The sha256 of a pipeline folder: names and contents of its files."""
    return sha256_folder(folder)
