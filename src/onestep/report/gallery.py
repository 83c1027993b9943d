"""Moving pictures of clips: inline for the report, and side by side in one GIF."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from onestep.core.storage import replacing

_LARGEST = 320  # pixels of an inline clip's longer side
_QUALITY = 92
_LABEL_PX = 14
_GAP_PX = 6


def inline_animation(frames: np.ndarray, fps: float) -> str:
    """A clip, uint8 `[T, H, W, 3]`, as the `data:` address of an endless WebP animation, at most 320 pixels a side."""
    factor = max(-(-max(frames.shape[1:3]) // _LARGEST), 1)
    size = (max(frames.shape[2] // factor, 1), max(frames.shape[1] // factor, 1))
    pictures = [Image.fromarray(frame).resize(size, Image.Resampling.BOX) for frame in frames]
    return _data_address(pictures, fps)


def side_by_side(
    columns: Sequence[str], rows: Sequence[tuple[str, Sequence[np.ndarray]]], path: Path, fps: float, scale: int = 1
) -> None:
    """Write one endless GIF: a column per model, a row per caption, clips uint8 `[T, H, W, 3]`; short ones hold their end.

    Raises `ValueError` where there is nothing to show.
    """
    if not columns or not rows:
        raise ValueError(f"{path}: no clip to show: pass at least one column and one row")
    length = max(len(clip) for _, clips in rows for clip in clips)
    at = [[(text, [clip[min(t, len(clip) - 1)] for clip in clips]) for text, clips in rows] for t in range(length)]
    pictures = [_sheet(columns, frames, scale) for frames in at]
    # One palette for all frames: a palette of each frame's own makes flat backgrounds flicker.
    strip = Image.new("RGB", (pictures[0].width, pictures[0].height * length))
    for number, picture in enumerate(pictures):
        strip.paste(picture, (0, number * picture.height))
    palette = strip.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    indexed = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    with replacing(path) as partial:
        indexed[0].save(
            partial, format="GIF", save_all=True, append_images=indexed[1:], duration=round(1000 / fps), loop=0
        )


def _sheet(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[np.ndarray]]], scale: int) -> Image.Image:
    """One moment of the GIF: the columns' names above, each row's caption above its frames `[H, W, 3]`."""
    height, width = (max(frame.shape[axis] for _, frames in rows for frame in frames) * scale for axis in (0, 1))
    across, down = width + _GAP_PX, height + _LABEL_PX + _GAP_PX
    picture = Image.new("RGB", (len(columns) * across + _GAP_PX, len(rows) * down + _LABEL_PX + _GAP_PX), "white")
    draw = ImageDraw.Draw(picture)
    for column, name in enumerate(columns):
        draw.text((_GAP_PX + column * across, 1), name, fill="black")
    for row, (text, frames) in enumerate(rows):
        top = _LABEL_PX + row * down
        draw.text((_GAP_PX, top + 1), text, fill="dimgrey")
        for column, frame in enumerate(frames):
            enlarged = Image.fromarray(frame.repeat(scale, axis=0).repeat(scale, axis=1))
            picture.paste(enlarged, (_GAP_PX + column * across, top + _LABEL_PX))
    return picture


def _data_address(pictures: Sequence[Image.Image], fps: float) -> str:
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        format="WEBP",
        save_all=True,
        append_images=list(pictures[1:]),
        duration=round(1000 / fps),
        loop=0,
        quality=_QUALITY,
        method=4,
    )
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
