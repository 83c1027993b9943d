"""A second family, LTX-Video, from stock classes of diffusers at a size of a few thousand weights.

Beside another scheduler it has what Wan has not: latents that are packed into tokens, and a mask of the caption.
"""

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import torch
from diffusers import AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler, LTXPipeline, LTXVideoTransformer3DModel
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel
from typing_extensions import override

from onestep.models.families.base import Family
from onestep.pretraining.teacher import build_tokenizer

FRAMES, SIDE = 5, 32
ROPE_SCALE = (2 / 25, 8, 8)  # the strides of the autoencoder below, in seconds and pixels; LTX-Video has 8 and 32


class Ltx(Family):
    stock = LTXPipeline
    blocks = "transformer_blocks"
    largest_timestep = 1000

    @override
    def check(self, stock: Any) -> None:
        pass

    @override
    def predicts(self, stock: Any) -> Literal["flow", "sample"]:
        return "flow"

    @override
    def encode_text(self, stock: Any, captions: list[str], tokens: int) -> Tensor:
        states, mask = stock._get_t5_prompt_embeds(captions, max_sequence_length=tokens, dtype=torch.float32)
        return states * mask.unsqueeze(2)

    @override
    def encode_video(self, stock: Any, frames: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(frames).to(stock.vae.device).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        latents = stock.vae.encode(pixels).latent_dist.mode()
        return stock._normalize_latents(latents, stock.vae.latents_mean, stock.vae.latents_std)

    @override
    def decode_video(self, stock: Any, latents: Tensor) -> Tensor:
        raw = stock._denormalize_latents(latents, stock.vae.latents_mean, stock.vae.latents_std)
        return stock.vae.decode(raw).sample

    @override
    def strides(self, stock: Any) -> tuple[int, int]:
        return stock.vae.temporal_compression_ratio, stock.vae.spatial_compression_ratio

    @override
    def latent_shape(self, stock: Any, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        temporal, side = self.strides(stock)
        return stock.vae.config.latent_channels, (frames - 1) // temporal + 1, height // side, width // side

    @override
    def scheduler(self, stock: Any, steps: int) -> Any:
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(stock.scheduler.config)
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps))
        return scheduler

    @override
    def forward(self, network: nn.Module, x: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
        frames, height, width = x.shape[2:]
        mask = text.abs().sum(2) > 0  # text states are zero beyond a caption's end, and nowhere else
        packed = LTXPipeline._pack_latents(x)
        tokens = network(
            packed, text, timesteps, mask, frames, height, width,
            rope_interpolation_scale=ROPE_SCALE, return_dict=False,
        )[0]  # fmt: skip
        return LTXPipeline._unpack_latents(tokens, frames, height, width)

    @override
    def token_frames(self, network: Any, latent_frames: int) -> int:
        return latent_frames

    @override
    def after_blocks(self, network: Any) -> Iterable[nn.Module | nn.Parameter]:
        return network.proj_out, network.scale_shift_table

    @override
    def branch_ends(self, block: Any) -> Iterable[nn.Linear]:
        return block.attn1.to_out[0], block.attn2.to_out[0], block.ff.net[-1]


def tiny_ltx() -> LTXPipeline:
    """Clips of 5 frames of 32 x 32 are latents of 2 frames of 4 x 4."""
    torch.manual_seed(0)
    vae = AutoencoderKLLTXVideo(
        latent_channels=4, block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1), spatio_temporal_scaling=(True, False),
        decoder_spatio_temporal_scaling=(True, False), down_block_types=("LTXVideoDownBlock3D",) * 2,
        decoder_inject_noise=(False,) * 3, upsample_residual=(False,) * 2, upsample_factor=(1, 1), patch_size=4, patch_size_t=1,
    )  # fmt: skip
    transformer = LTXVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=12, cross_attention_dim=24, num_layers=2,
        caption_channels=16,
    )  # fmt: skip
    tokenizer = build_tokenizer()
    encoder = T5EncoderModel(
        T5Config(vocab_size=len(tokenizer), d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=4)
    )
    return LTXPipeline(FlowMatchEulerDiscreteScheduler(), vae, encoder, tokenizer, transformer)
