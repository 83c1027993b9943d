"""The judge's texture statistics: one vector per patch of a clip, for the patch Fréchet distance and for fidelity."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from onestep.evaluation.network import Depths, Projection


class PatchFeatures(nn.Module):
    """Projected mean and spread of the two earliest depths within each patch."""

    def __init__(self, widths: tuple[int, int, int, int], size: int, pixels: int, frames: int, seed: int) -> None:
        """widths: channels of the four depths; size: of a vector; pixels, frames: side and length of a patch."""
        super().__init__()
        self.pixels, self.frames = pixels, frames
        self.projection = Projection((2 * widths[0], 2 * widths[1]), size, seed)

    def forward(self, depths: Depths) -> Tensor:
        """`[N, P, size]`, P patches of each clip."""
        return self.projection(self.statistics(depths))

    def statistics(self, depths: Depths) -> Tensor:
        """Before the projection: `[N, P, S]`."""
        frames, height, width = depths.clips.shape[2:]
        cells = (max(frames // self.frames, 1), max(height // self.pixels, 1), max(width // self.pixels, 1))
        pooled = [statistic for layer in depths.maps[:2] for statistic in _mean_and_spread(layer, cells)]
        return torch.cat(pooled, dim=1).flatten(2).transpose(1, 2)


def _mean_and_spread(layer: Tensor, cells: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    grid = (min(cells[0], layer.shape[2]), min(cells[1], layer.shape[3]), min(cells[2], layer.shape[4]))
    pooled = [functional.adaptive_avg_pool3d(values, grid) for values in (layer, layer.square())]
    deviation = ((pooled[1] - pooled[0].square()).clamp_min(0) + 1e-6).sqrt()
    mean = pooled[0]
    if grid != cells:  # a short clip has fewer deep frames than patches: repeat them, so that depths line up
        mean, deviation = (functional.interpolate(values, cells) for values in (mean, deviation))
    return mean, deviation
