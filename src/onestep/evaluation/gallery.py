"""Moving pictures of clips: inline for the report, and side by side in one GIF."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from onestep.storage import replacing

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


def side_by_side(columns: Sequence[tuple[str, np.ndarray]], path: Path, fps: float, scale: int = 1) -> None:
    """Write one endless GIF of several clips, uint8 `[T, H, W, 3]`, each under its label; short ones hold their end.

    Raises `ValueError` where there is nothing to show.
    """
    if not columns:
        raise ValueError(f"{path}: no clip to show: pass at least one")
    length = max(len(clip) for _, clip in columns)
    pictures = [_line([(label, clip[min(t, len(clip) - 1)]) for label, clip in columns], scale) for t in range(length)]
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


def _line(clips: Sequence[tuple[str, np.ndarray]], scale: int) -> Image.Image:
    height, width = (max(frame.shape[axis] for _, frame in clips) * scale for axis in (0, 1))
    picture = Image.new("RGB", (len(clips) * (width + _GAP_PX) + _GAP_PX, height + _LABEL_PX + _GAP_PX), "white")
    for column, (label, frame) in enumerate(clips):
        left = _GAP_PX + column * (width + _GAP_PX)
        ImageDraw.Draw(picture).text((left, 1), label, fill="black")
        picture.paste(Image.fromarray(frame.repeat(scale, axis=0).repeat(scale, axis=1)), (left, _LABEL_PX))
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
