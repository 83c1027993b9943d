"""The discriminator of adversarial post-training: the whole diffusion transformer plus cross-attention heads.

APT (arXiv 2501.08316) section 3.3: every layer of the backbone from the original diffusion weights, all of it trained;
after some layers one learnable query cross-attends to all visual tokens; the query tokens are joined into one logit.
The paper's layers 16, 26 and 36 of 36 are given here as fractions of depth, since other backbones have other depths.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from onestep.models.families.base import Family
from onestep.models.norms import RMSNorm


def head_layers(depth: int, fractions: Sequence[float]) -> tuple[int, ...]:
    """Zero-based block numbers after which heads sit: the block that ends each fraction of the depth, without repeats."""
    return tuple(sorted({max(round(fraction * depth), 1) - 1 for fraction in fractions}))


class Head(nn.Module):
    """One learnable query that cross-attends to a layer's visual tokens: `[B, L, D]` → `[B, D]`.

    Pre-RMSNorm, QK-RMSNorm, output projection and residual, then an MLP with residual (APT section 3.3, figure 2).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Parameter(torch.randn(1, 1, width) * width**-0.5)
        self.norm_query, self.norm_tokens, self.norm_mlp = (RMSNorm(width, eps=1e-6) for _ in range(3))
        self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(width, width) for _ in range(4))
        self.norm_q, self.norm_k = (RMSNorm(width // heads, eps=1e-6) for _ in range(2))
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens `[B, L, D]` of one layer → the query's token `[B, D]`."""
        query = self.query.expand(len(tokens), -1, -1)
        normed = self.norm_tokens(tokens)
        q = self.norm_q(self._split(self.to_q(self.norm_query(query))))
        k = self.norm_k(self._split(self.to_k(normed)))
        attended = nn.functional.scaled_dot_product_attention(q, k, self._split(self.to_v(normed)))
        query = query + self.to_out(attended.transpose(1, 2).flatten(2))
        return (query + self.mlp(self.norm_mlp(query))).squeeze(1)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class Discriminator(nn.Module):
    """Backbone with heads: clean latents, timesteps and text → one logit per clip.

    `backbone`, a transformer of the family, is taken over, cut after its last head and trained whole; forward hooks read
    the layers, so no forward of the backbone is copied. What stands after the blocks is unused and stays frozen.

    frame_logits: the same heads also read the tokens of each latent frame alone, for one logit per frame beside the
    clip's (AAPT, arXiv 2506.09350). train_backbone: false freezes the backbone, an ablation (it gives artefacts in APT).
    """

    def __init__(
        self,
        backbone: Any,
        family: Family,
        fractions: Sequence[float],
        frame_logits: bool = False,
        train_backbone: bool = True,
    ) -> None:
        super().__init__()
        blocks = getattr(backbone, family.blocks)
        layers = head_layers(len(blocks), fractions)
        width, heads = family.width(backbone)
        setattr(backbone, family.blocks, blocks[: layers[-1] + 1])
        self.layers, self.frame_logits, self.train_backbone = layers, frame_logits, train_backbone
        self.backbone, self.family = backbone, family
        self.heads = nn.ModuleList(Head(width, heads) for _ in layers)
        self.logit = nn.Sequential(nn.LayerNorm(width * len(layers)), nn.Linear(width * len(layers), 1))
        self._tokens: dict[int, Tensor] = {}
        self.set_trained(True)
        for layer in layers:
            blocks[layer].register_forward_hook(self._keeper(layer))

    def _keeper(self, layer: int):
        def keep(_module: nn.Module, _inputs: object, output: Any) -> None:
            self._tokens[layer] = self.family.tokens(output)

        return keep

    def set_trained(self, trained: bool) -> None:
        """Let its weights have gradients, or none of them; what never trains has none either way."""
        self.requires_grad_(trained)
        self.backbone.requires_grad_(trained and self.train_backbone)
        for part in self.family.after_blocks(self.backbone):
            part.requires_grad_(False)

    def forward(self, latents: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """Clean latents `[B, C, T, H, W]`, timesteps `[B]` in [0, 1], text states `[B, L, D]` → logits `[B]` or `[B, 1 + T]`."""
        self.family.forward(self.backbone, latents, t * 1000, text)
        tokens = [self._tokens[layer] for layer in self.layers]
        self._tokens.clear()
        logits = self._logits(tokens)
        if not self.frame_logits:
            return logits
        frames = self.family.token_frames(self.backbone, latents.shape[2])
        each = self._logits([layer.unflatten(1, (frames, -1)).flatten(0, 1) for layer in tokens])
        return torch.cat([logits[:, None], each.unflatten(0, (-1, frames))], dim=1)

    def _logits(self, tokens: Sequence[Tensor]) -> Tensor:
        read = [head(layer) for head, layer in zip(self.heads, tokens, strict=True)]
        return self.logit(torch.cat(read, dim=1)).squeeze(1)
