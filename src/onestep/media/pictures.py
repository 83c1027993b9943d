"""Pictures of clips for people: contact sheets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from onestep.core.storage import replacing

MARGIN_PX = 14
GAP_PX = 4


def contact_sheet(
    rows: Sequence[tuple[str, np.ndarray]], path: Path, frames: int = 5, columns: int = 2, scale: int = 1
) -> None:
    """Write a PNG: each clip (uint8 `[T, H, W, 3]`) as a strip of evenly spaced frames under its caption."""
    strips = []
    for caption, clip in rows:
        picked = clip[np.linspace(0, len(clip) - 1, min(frames, len(clip))).round().astype(int)]
        strip = np.concatenate(list(picked), axis=1).repeat(scale, axis=0).repeat(scale, axis=1)
        tile = Image.new("RGB", (strip.shape[1], strip.shape[0] + MARGIN_PX), "white")
        tile.paste(Image.fromarray(strip), (0, MARGIN_PX))
        ImageDraw.Draw(tile).text((1, 1), caption, fill="black")
        strips.append(tile)
    width, height = max(s.width for s in strips), max(s.height for s in strips)
    lines = -(-len(strips) // columns)
    sheet = Image.new("RGB", (columns * (width + GAP_PX), lines * (height + GAP_PX)), "white")
    for number, tile in enumerate(strips):
        line, column = divmod(number, columns)
        sheet.paste(tile, (column * (width + GAP_PX), line * (height + GAP_PX)))
    with replacing(path) as partial:
        sheet.save(partial, format="PNG")
