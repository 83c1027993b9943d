"""What the discriminator is shown instead of the clips themselves, so that it cannot learn few clips by heart."""

import torch
from torch import Tensor

CUTOUTS = 3
_SHARE = 4  # a cutout's side and the largest shift are the clip's side over this


def augment(clips: list[Tensor], probability: float, random: torch.Generator) -> list[Tensor]:
    """Shift and cut out parts of latents `[B, C, T, H, W]`, each clip with this probability (AFM, arXiv 2511.22475).

    Row `b` of every tensor in `clips` gets the same draw, and so do all of its frames: a real clip and the generated
    clip of its caption stay comparable, and motion stays as it was. What is shifted in and cut out is zero, the mean of
    normalised latents. Differentiable.
    """
    batch, _, _, height, width = clips[0].shape
    device = clips[0].device

    def draw(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high + 1, shape, generator=random).to(device)

    chosen = (torch.rand(batch, generator=random) < probability).to(device)
    down, right = (draw(-(side // _SHARE), side // _SHARE, batch) * chosen for side in (height, width))
    rows = torch.arange(height, device=device) - down[:, None]
    columns = torch.arange(width, device=device) - right[:, None]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    kept = inside.clone()
    for _ in range(CUTOUTS):
        top, left = draw(0, height - 1, batch), draw(0, width - 1, batch)
        down_from, right_from = (torch.arange(side, device=device) for side in (height, width))
        tall = (down_from >= top[:, None]) & (down_from < top[:, None] + height // _SHARE)
        wide = (right_from >= left[:, None]) & (right_from < left[:, None] + width // _SHARE)
        kept &= ~(tall[:, :, None] & wide[:, None, :] & chosen[:, None, None])
    index = (rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]).flatten(1)
    index = index[:, None, None]
    return [
        x.flatten(3).gather(3, index.expand(*x.shape[:3], -1)).view_as(x) * kept[:, None, None].to(x.dtype)
        for x in clips
    ]
