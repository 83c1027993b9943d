"""Pages about data that open without a network: a template, its styles and its pictures in one HTML file."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onestep.core.storage import replacing
from onestep.data.clips import read_frames

_STRIP_FRAMES = 4
_STRIP_HEIGHT = 96  # pixels


def render_page(template: str, target: Path, **context: Any) -> None:
    """Fill a template of this folder and write the page atomically."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    text = environment.get_template(template).render(**context)
    with replacing(target) as partial:
        partial.write_text(text, encoding="utf-8")


def filmstrips(clips: Path, clip_ids: Sequence[str], captions: Mapping[str, str]) -> list[dict[str, str]]:
    """A strip of frames of each clip as a PNG data URI, with its id and caption."""
    if not clip_ids:
        return []
    strips = {clip_id: _strip(frames) for clip_id, frames in read_frames(clips, clip_ids)}
    return [{"clip_id": clip, "caption": captions[clip], "image": strips[clip]} for clip in clip_ids]


def _strip(frames: np.ndarray) -> str:
    from PIL import Image

    chosen = frames[np.linspace(0, len(frames) - 1, _STRIP_FRAMES).round().astype(int)]
    image = Image.fromarray(np.concatenate(list(chosen), axis=1))
    if image.height > _STRIP_HEIGHT:
        image = image.resize((round(image.width * _STRIP_HEIGHT / image.height), _STRIP_HEIGHT))
    file = io.BytesIO()
    image.save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
