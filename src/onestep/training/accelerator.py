"""Where a training runs: device, autocast type and attention kernel."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator


def autocast_dtype(precision: str, device: torch.device) -> str:
    """Accelerate's name for the autocast type; `auto` is bf16 only where the hardware multiplies it natively.

    A CPU without AVX512-BF16 or AMX emulates bf16 hundreds of times slower than float32.
    """
    if precision != "auto":
        return {"fp32": "no", "bf16": "bf16"}[precision]
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported()
    else:
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "no"


def make_accelerator(precision: str, accumulate: int) -> Accelerator:
    """An accelerator on whatever `accelerate launch` or `torchrun` set up, one process otherwise."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Accelerator(
        mixed_precision=autocast_dtype(precision, device),
        gradient_accumulation_steps=accumulate,
        cpu=device.type == "cpu",
        step_scheduler_with_optimizer=False,
    )


def attention(device: torch.device) -> AbstractContextManager[Any]:
    """The attention kernel for steps with gradients: on a CPU the plain one (0.7 of the time on the bundled model)."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
