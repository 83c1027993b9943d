"""The judge's features: one vector per clip, for the Fréchet video distance and the other distances between sets.

They stand in for the I3D network of the Fréchet video distance (Unterthiner et al., arXiv 1812.01717). They mix depths, so
that grain, blur and flicker, which the attribute probe may overlook, still move them.
"""

import torch
from torch import Tensor, nn

from onestep.evaluation.network import Depths, Projection, spread


class ClipFeatures(nn.Module):
    """Projected statistics of every depth, and the grades of rendering faults that an auxiliary head was taught."""

    def __init__(
        self, widths: tuple[int, int, int, int], size: int, faults: tuple[str, ...], fault_units: float, seed: int
    ) -> None:
        """widths: channels of the four depths; size: of a vector; fault_units: length of a fault of full strength in it."""
        super().__init__()
        sizes = (3 * widths[0], 3 * widths[1], 2 * widths[2], 2 * widths[3])
        self.fault_units = fault_units
        self.fault_head = nn.Linear(sum(sizes), len(faults))
        self.projection = Projection(sizes, size - len(faults), seed)

    def forward(self, depths: Depths) -> Tensor:
        """`[N, size]`."""
        statistics = clip_statistics(depths)
        return torch.cat([self.projection(statistics), self.fault_units * self.fault_head(statistics)], dim=1)

    def grades(self, depths: Depths) -> Tensor:
        """How strong each fault is, `[N, faults]`: 0 is none, 1 the square root of full strength."""
        return self.fault_head(clip_statistics(depths))


def clip_statistics(depths: Depths) -> Tensor:
    """Mean and spread of each channel at each depth; at the early ones also how much its mean changes between frames."""
    found = []
    for depth, layer in enumerate(depths.maps):
        found += [layer.mean((2, 3, 4)), spread(layer, (2, 3, 4))]
        if depth < 2:
            series = layer.mean((3, 4))
            steps = series[:, :, 1:] - series[:, :, :-1] if series.shape[2] > 1 else torch.zeros_like(series)
            found.append((steps.square().mean(2) + 1e-6).sqrt())
    return torch.cat(found, dim=1)
