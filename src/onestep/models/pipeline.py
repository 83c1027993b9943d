"""A diffusers pipeline folder seen as what training and evaluation need of it: latents, text states and denoised samples.

Nothing above this module knows which model it holds. What differs between families of models is in `families/`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.utils import logging as diffusers_logging
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from onestep.core.storage import read_json, read_mapping, sha256_folder, write_json
from onestep.models.families.base import Family, Form, PipelineError
from onestep.models.families.wan import Wan

FAMILIES: dict[str, Family] = {family.stock.__name__: family for family in (Wan(),)}
RECORD = "onestep.json"


class VideoPipeline:
    """The parts of one pipeline, all in evaluation mode and without gradients until a trainer asks for them.

    `x` clean latents `[B, C, T, H, W]` normalised per channel; `c` text states `[B, L, text_dim]`; `t` in [0, 1], 1 = noise.
    """

    def __init__(self, stock: Any, record: dict[str, Any]) -> None:
        """stock: a loaded pipeline of a class in `FAMILIES`; record: what its `onestep.json` says."""
        self.stock, self.record = stock, record
        self.family = FAMILIES[type(stock).__name__]
        self.vae = stock.vae.eval().requires_grad_(False)
        arrange_convolutions(self.vae, torch.channels_last_3d)
        self.transformer = stock.transformer.eval().requires_grad_(False)
        stock.text_encoder.eval().requires_grad_(False)

    @property
    def form(self) -> Form:
        """How the transformer, and any network made of it, is called, and what it predicts."""
        return Form(self.family.predicts(self.stock), self.family)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.transformer.device

    def to(self, device: torch.device | str) -> "VideoPipeline":
        """Move every part."""
        self.stock.to(device)
        return self

    def noise_levels(self, steps: int) -> list[float]:
        """The scheduler's own noise levels for that many steps, highest first, in (0, 1]; the last step ends at 0."""
        scheduler = self.family.scheduler(self.stock, steps)
        return [float(t) / scheduler.config.num_train_timesteps for t in scheduler.timesteps]

    @torch.no_grad()
    def encode_text(self, captions: list[str], tokens: int) -> Tensor:
        """Text states `[B, tokens, text_dim]` as the stock pipeline makes them: zero beyond each caption's end."""
        return self.family.encode_text(self.stock, captions, tokens)

    @torch.no_grad()
    def encode_video(self, frames: np.ndarray) -> Tensor:
        """Normalised latents `[B, C, T', H', W']` (the posterior's mode) of uint8 clips `[B, T, H, W, 3]`."""
        return self.family.encode_video(self.stock, frames)

    @torch.no_grad()
    def decode_video(self, latents: Tensor) -> np.ndarray:
        """uint8 clips `[B, T, H, W, 3]` of normalised latents `[B, C, T', H', W']`."""
        pixels = self.family.decode_video(self.stock, latents.to(self.device, torch.float32))
        levels = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        return levels.permute(0, 2, 3, 4, 1).contiguous().cpu().numpy()

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """`(C, T', H', W')` of a clip's latents; raises `PipelineError` naming the nearest legal size."""
        temporal, side = self.family.strides(self.stock)
        if frames % temporal != 1 % temporal:
            nearest = round((frames - 1) / temporal) * temporal + 1
            raise PipelineError(f"{frames} frames cannot be encoded; the nearest legal number is {nearest}")
        for name, pixels in (("height", height), ("width", width)):
            if pixels % side or pixels <= 0:
                raise PipelineError(
                    f"{name} {pixels} is not a multiple of {side}; the nearest is {max(round(pixels / side), 1) * side}"
                )
        return self.family.latent_shape(self.stock, frames, height, width)

    @torch.no_grad()
    def denoise(self, noise: Tensor, text: Tensor, steps: int, guidance: float, empty: Tensor | None = None) -> Tensor:
        """Clean latents by the folder's own scheduler, as stock diffusers runs it.

        noise, result: `[B, C, T', H', W']`; text: `[B, L, D]`; guidance 1 = none, else `empty` `[1, L, D]` is needed:
        `uncond + guidance · (cond − uncond)` (classifier-free guidance, arXiv 2207.12598).
        """
        scheduler = self.family.scheduler(self.stock, steps)
        latents = noise
        for step in scheduler.timesteps:
            t = step.expand(len(latents)).to(self.device)
            prediction = self.family.forward(self.transformer, latents, t, text)
            if guidance != 1.0:
                if empty is None:
                    raise PipelineError(f"guidance {guidance} needs the text states of the empty caption")
                unconditional = self.family.forward(self.transformer, latents, t, empty.expand_as(text))
                prediction = unconditional + guidance * (prediction - unconditional)
            latents = scheduler.step(prediction, step, latents, return_dict=False)[0]
        return latents

    def save(self, folder: Path, **record: Any) -> None:
        """Write the folder in stock diffusers layout, with `onestep.json` beside."""
        arrange_convolutions(self.vae, torch.contiguous_format)  # what safetensors can write
        self.stock.save_pretrained(folder, safe_serialization=True)
        arrange_convolutions(self.vae, torch.channels_last_3d)
        index = read_json(folder / "model_index.json")
        index.pop("_name_or_path", None)
        write_json(folder / "model_index.json", index)
        write_json(folder / RECORD, {**self.record, **record})


def predict_sample(network: nn.Module, x_t: Tensor, t: Tensor, text: Tensor, form: Form) -> Tensor:
    """The clean sample `[B, C, T, H, W]` that the network sees behind `x_t` at noise levels `t` `[B]` in [0, 1].

    Flow form: `x̂ = x_t − t·v` (APT section 3.1, `G(z, c) = z − v(z, 1, c)` at t = 1); sample form: the output itself.
    """
    timesteps = (t * 1000).clamp(max=form.family.largest_timestep)
    output = form.family.forward(network, x_t, timesteps, text).float()
    return output if form.predicts == "sample" else x_t - _per_clip(t) * output


def arrange_convolutions(module: nn.Module, layout: torch.memory_format) -> None:
    """Lay the weights of all 3-D convolutions out anew: on a CPU, channels last take about 0.6 of the time."""
    for part in module.modules():
        if isinstance(part, nn.Conv3d):
            part.weight.data = part.weight.data.contiguous(memory_format=layout)


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
    family = _family(folder)
    try:
        stock = family.load(folder)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PipelineError(f"{folder} cannot be loaded as a {family.stock.__name__}: {error}") from error
    stock.set_progress_bar_config(disable=True)
    try:
        family.check(stock)
    except PipelineError as error:
        raise PipelineError(f"{folder}: {error}") from error
    return VideoPipeline(stock, read_json(folder / RECORD) if (folder / RECORD).is_file() else {})


def _family(folder: Path) -> Family:
    """The family that a folder's `model_index.json` names."""
    name = read_mapping(folder / "model_index.json", _class_name=str)["_class_name"]
    if name not in FAMILIES:
        raise PipelineError(f"{folder} is a pipeline of the class {name}; known are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def fingerprint(folder: Path) -> str:
    """The sha256 of a pipeline folder: names and contents of its files."""
    return sha256_folder(folder)
