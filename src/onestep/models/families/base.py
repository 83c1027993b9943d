"""What differs between families of video diffusion models; everything else in the project is the same for all of them.

A family is one subclass of `Family` in a module of its own, and one line in `models/pipeline.py`. It must be a flow
matching model (`x_t = (1 − t)·x + t·z`) that knows its caption by one tensor of text states.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn


class PipelineError(RuntimeError):
    """A folder is not a usable video pipeline; the message names the folder and the reason."""


class Family(ABC):
    """One family, without state: `stock` is a loaded pipeline of diffusers, `network` its transformer or one made of it.

    Clips are uint8 `[B, T, H, W, 3]`, latents `[B, C, T', H', W']` with mean 0 and spread 1 per channel, text states
    `[B, L, D]`. `network` may be wrapped by accelerate where it is called, and never where its parts are asked for.
    """

    stock: type[DiffusionPipeline]  # the class that `model_index.json` names
    blocks: str  # attribute of the transformer that holds its blocks, an `nn.ModuleList`
    largest_timestep: float  # what the stock scheduler gives the network at pure noise

    def load(self, folder: Path) -> DiffusionPipeline:
        """The folder's pipeline in float32, from safetensors on this disk; raises as `from_pretrained` does."""
        return self.stock.from_pretrained(folder, dtype=torch.float32, local_files_only=True)

    @abstractmethod
    def check(self, stock: Any) -> None:
        """Raise `PipelineError` for a pipeline that loads and cannot be used; the caller puts the folder before it."""

    @abstractmethod
    def predicts(self, stock: Any) -> Literal["flow", "sample"]:
        """What the transformer's output is: the velocity `z − x`, or the clean sample."""

    @abstractmethod
    def encode_text(self, stock: Any, captions: list[str], tokens: int) -> Tensor:
        """Text states `[B, tokens, D]` as the stock pipeline makes them, with zeros beyond each caption's end."""

    @abstractmethod
    def encode_video(self, stock: Any, frames: np.ndarray) -> Tensor:
        """Latents of clips: the posterior's mode."""

    @abstractmethod
    def decode_video(self, stock: Any, latents: Tensor) -> Tensor:
        """Pixels `[B, 3, T, H, W]` in [−1, 1] of latents."""

    @abstractmethod
    def strides(self, stock: Any) -> tuple[int, int]:
        """Frames that one latent frame stands for, after the first; pixels of one token's side."""

    @abstractmethod
    def latent_shape(self, stock: Any, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """`(C, T', H', W')` of a clip's latents, for a size that the strides divide."""

    def scheduler(self, stock: Any, steps: int) -> Any:
        """The pipeline's own scheduler, set to that many steps as the stock pipeline sets it."""
        scheduler = copy.deepcopy(stock.scheduler)
        scheduler.set_timesteps(steps)
        return scheduler

    @abstractmethod
    def forward(self, network: nn.Module, x: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
        """The network's output, in the shape of the latents `x`; timesteps: `[B]`, a thousandfold noise level."""

    def tokens(self, output: Any) -> Tensor:
        """Visual tokens `[B, L, D]`, frame after frame, of what one block returns."""
        return output

    def width(self, network: Any) -> tuple[int, int]:
        """Channels D of a token, and attention heads."""
        return (
            network.config.num_attention_heads * network.config.attention_head_dim,
            network.config.num_attention_heads,
        )

    @abstractmethod
    def token_frames(self, network: Any, latent_frames: int) -> int:
        """Frames of the tokens of so many latent frames."""

    @abstractmethod
    def after_blocks(self, network: Any) -> Iterable[nn.Module | nn.Parameter]:
        """The trained parts after the last block, which a discriminator's forward runs and does not use."""

    @abstractmethod
    def branch_ends(self, block: Any) -> Iterable[nn.Linear]:
        """The last projection of each residual branch of a block: at zero, the block is the identity."""


class Form(NamedTuple):
    """How a network is called and what its output means."""

    predicts: Literal["flow", "sample"]
    family: Family
