"""The Wan family (Wan2.1 text to video, arXiv 2503.20314): `WanPipeline` of any size, in velocity or in sample form."""

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanPipeline
from torch import Tensor, nn
from typing_extensions import override

from onestep.models.families.base import Family, PipelineError

_PREDICTS: dict[str, Literal["flow", "sample"]] = {"flow_prediction": "flow", "sample": "sample"}


class Wan(Family):
    """Sizes, prediction and noise schedule are read from the folder."""

    stock = WanPipeline
    blocks = "blocks"
    largest_timestep = 999  # although σ is 1 there

    @override
    def check(self, stock: Any) -> None:
        if stock.scheduler.config.prediction_type not in _PREDICTS:
            raise PipelineError(
                f"scheduler prediction_type {stock.scheduler.config.prediction_type!r} is not supported; "
                f"legal are {', '.join(_PREDICTS)}"
            )
        if not stock.text_encoder.get_input_embeddings().weight.any():
            raise PipelineError("the text encoder's embedding is all zeros: its weights were not loaded")

    @override
    def predicts(self, stock: Any) -> Literal["flow", "sample"]:
        return _PREDICTS[stock.scheduler.config.prediction_type]

    @override
    def encode_text(self, stock: Any, captions: list[str], tokens: int) -> Tensor:
        return stock._get_t5_prompt_embeds(
            prompt=captions, max_sequence_length=tokens, device=stock.transformer.device, dtype=torch.float32
        )

    @override
    def encode_video(self, stock: Any, frames: np.ndarray) -> Tensor:
        return normalised_latents(stock.vae, frames)

    @override
    def decode_video(self, stock: Any, latents: Tensor) -> Tensor:
        mean, std = _statistics(stock.vae, latents)
        return stock.vae.decode(latents * std + mean).sample

    @override
    def strides(self, stock: Any) -> tuple[int, int]:
        config = stock.vae.config
        return config.scale_factor_temporal, config.scale_factor_spatial * stock.transformer.config.patch_size[1]

    @override
    def latent_shape(self, stock: Any, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        config = stock.vae.config
        scale = config.scale_factor_spatial
        return config.z_dim, (frames - 1) // config.scale_factor_temporal + 1, height // scale, width // scale

    @override
    def forward(self, network: nn.Module, x: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
        return network(x, timesteps, text, return_dict=False)[0]

    @override
    def token_frames(self, network: Any, latent_frames: int) -> int:
        return latent_frames // network.config.patch_size[0]

    @override
    def after_blocks(self, network: Any) -> Iterable[nn.Module | nn.Parameter]:
        return network.proj_out, network.scale_shift_table

    @override
    def branch_ends(self, block: Any) -> Iterable[nn.Linear]:
        return block.attn1.to_out[0], block.attn2.to_out[0], block.ffn.net[-1]


@torch.no_grad()
def normalised_latents(vae: AutoencoderKLWan, frames: np.ndarray) -> Tensor:
    """The posterior's mode, normalised per channel by the config's mean and spread: `[B, T, H, W, 3]` uint8 → latents."""
    pixels = torch.from_numpy(frames).to(vae.device).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    latents = vae.encode(pixels).latent_dist.mode()
    mean, std = _statistics(vae, latents)
    return (latents - mean) / std


def _statistics(vae: AutoencoderKLWan, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and spread of raw latents per channel, each `[1, C, 1, 1, 1]`, where and in the type that these latents are."""
    mean, std = (
        torch.tensor(v).view(1, -1, 1, 1, 1).to(latents) for v in (vae.config.latents_mean, vae.config.latents_std)
    )
    return mean, std
