"""The judge's network: what a clip looks like at four depths, from which the judge's parts read."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn


class Depths(NamedTuple):
    """A batch of clips `[N, 3, T, H, W]` in [-1, 1], and the network's maps `[N, C, T', H', W']`, the earliest first."""

    clips: Tensor
    maps: list[Tensor]


class Network(nn.Module):
    """Four convolutions in space and time; each but the first halves the frames or the pixels, or both."""

    def __init__(self, width: int) -> None:
        """width: channels of the first depth; each later depth has twice as many as the one before."""
        super().__init__()
        self.widths = (width, 2 * width, 4 * width, 8 * width)
        self.stages = nn.ModuleList(
            [
                _stage(3, self.widths[0], (1, 5, 5), (1, 2, 2)),
                _stage(self.widths[0], self.widths[1], (3, 3, 3), (2, 2, 2)),
                _stage(self.widths[1], self.widths[2], (3, 3, 3), (1, 2, 2)),
                _stage(self.widths[2], self.widths[3], (3, 3, 3), (2, 2, 2)),
            ]
        )

    def forward(self, clips: Tensor) -> Depths:
        """The maps of clips `[N, 3, T, H, W]` in [-1, 1] at every depth."""
        maps = [clips]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return Depths(clips, maps[1:])


def to_input(frames: np.ndarray) -> Tensor:
    """uint8 clips `[N, T, H, W, 3]` as the network reads them: `[N, 3, T, H, W]` in [-1, 1]."""
    return torch.from_numpy(frames).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def spread(layer: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The standard deviation over some dimensions, with a gradient where nothing varies."""
    return (layer.var(dims, correction=0) + 1e-6).sqrt()


class Projection(nn.Module):
    """Statistics in units of their spread over real clips, by a fixed random map with orthonormal columns."""

    def __init__(self, sizes: tuple[int, ...], outputs: int, seed: int) -> None:
        """sizes: of the groups of statistics, each weighted alike whatever its size."""
        super().__init__()
        self.mean: Tensor
        self.scale: Tensor
        self.matrix: Tensor
        self.register_buffer("mean", torch.zeros(sum(sizes)))
        self.register_buffer("scale", torch.ones(sum(sizes)))
        generator = torch.Generator().manual_seed(seed)
        columns = torch.linalg.qr(torch.randn(sum(sizes), outputs, generator=generator, dtype=torch.float64)).Q
        weights = torch.cat([torch.full((size,), (sum(sizes) / size / len(sizes)) ** 0.5) for size in sizes])
        self.register_buffer("matrix", (columns * weights[:, None]).float())

    def forward(self, statistics: Tensor) -> Tensor:
        """`[..., S]` to `[..., outputs]`."""
        return (statistics - self.mean) / self.scale @ self.matrix

    def calibrate(self, statistics: Tensor) -> None:
        """Set mean and scale from the statistics `[N, S]` of real clips, so that a distance of 1 is one spread of them.

        A statistic that hardly varies among real clips is scaled by a quarter of the median spread instead of its own, or
        an invisible difference would dominate the distance.
        """
        deviation = statistics.std(0)
        self.mean.copy_(statistics.mean(0))
        self.scale.copy_(deviation.clamp_min(0.25 * deviation.median().item() + 1e-6))


def _stage(inputs: int, outputs: int, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> nn.Sequential:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    convolution = nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=False)
    # Batch statistics, not a clip's own: normalising each clip by itself would hide how much grain it has.
    return nn.Sequential(convolution, nn.BatchNorm3d(outputs), nn.LeakyReLU(0.1))
