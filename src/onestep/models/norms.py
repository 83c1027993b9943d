"""RMS norms under autocast."""

from torch import Tensor, nn


class RMSNorm(nn.RMSNorm):
    """`nn.RMSNorm` in its weight's type, with the result in the input's.

    Autocast casts the input of other norms to float32 and leaves this one alone: a bfloat16 input would meet a float32
    weight, for which PyTorch has no fused kernel, and it would warn. The result is the same, bit for bit.
    """

    def forward(self, x: Tensor) -> Tensor:
        """`[..., D]` → `[..., D]`."""
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


def adapt_norms(network: nn.Module) -> None:
    """Make every `nn.RMSNorm` with a weight a `RMSNorm`, in place; the weights stay the same parameters."""
    for parent in list(network.modules()):
        for name, norm in parent.named_children():
            if type(norm) is nn.RMSNorm and norm.elementwise_affine:
                adapted = RMSNorm(norm.normalized_shape, norm.eps, device="meta")
                adapted.weight = norm.weight
                setattr(parent, name, adapted.train(norm.training))
