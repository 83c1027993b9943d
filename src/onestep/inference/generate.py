"""Commands typed by hand: one clip from one sentence, and latents decoded again beside their clips."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from onestep.core.disk import megabytes
from onestep.data.clips import load_frames
from onestep.data.latents import open_latents
from onestep.media.pictures import contact_sheet
from onestep.media.video import write_gif, write_video
from onestep.models.pipeline import VideoPipeline, load_pipeline

MULTI_STEP_DEFAULT = 25
BYTES_OF_A_PIXEL = 3 * 4 * 2


class GenerateError(ValueError):
    """A clip cannot be made as asked; the message names what to change."""


def generate(
    prompt: str,
    model: Path,
    out: Path,
    steps: int | None = None,
    guidance: float = 1.0,
    seed: int = 0,
    size: tuple[int | None, int | None, int | None] = (None, None, None),
    text_tokens: int | None = None,
) -> None:
    """Write one clip as MP4 or GIF, by the ending of `out`: the frames of `make_clip` at the model's frame rate.

    Raises `GenerateError` for another ending, and as `make_clip` does.
    """
    writers = {".mp4": write_video, ".gif": write_gif}
    ending = out.suffix.lower()
    if ending not in writers:
        raise GenerateError(f"{out}: the ending must be one of {', '.join(writers)}")
    pipeline = load_pipeline(model)
    pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
    clip = make_clip(pipeline, prompt, steps, guidance, seed, size, text_tokens)
    writers[ending](clip, out, float(pipeline.record.get("fps", 16.0)))


def make_clip(
    pipeline: VideoPipeline,
    prompt: str,
    steps: int | None = None,
    guidance: float = 1.0,
    seed: int = 0,
    size: tuple[int | None, int | None, int | None] = (None, None, None),
    text_tokens: int | None = None,
) -> np.ndarray:
    """One clip, uint8 `[T, H, W, 3]`, from the noise that `torch.Generator().manual_seed(seed)` gives on the CPU.

    size: frames, height, width; what is None is read from the model's `onestep.json`. Raises `GenerateError` for an
    unknown size or one that this machine has no memory for, `PipelineError` for an impossible one.
    """
    record = pipeline.record
    frames, height, width = (
        _known(name, given, record) for name, given in zip(("frames", "height", "width"), size, strict=True)
    )
    tokens = _known("text_tokens", text_tokens, record)
    shape = pipeline.latent_shape(frames, height, width)
    _require_memory(frames, height, width, pipeline.device)
    noise = torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed)).to(pipeline.device)
    text, empty = pipeline.encode_text([prompt], tokens), pipeline.encode_text([""], tokens)
    taken = record.get("steps", MULTI_STEP_DEFAULT) if steps is None else steps
    return pipeline.decode_video(pipeline.denoise(noise, text, taken, guidance, empty))[0]


def _require_memory(frames: int, height: int, width: int, device: torch.device) -> None:
    """Refuse at once what could not end: any decoder holds at least its output, twice in float32."""
    needs = frames * height * width * BYTES_OF_A_PIXEL
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        import psutil

        free = psutil.virtual_memory().available
    if needs > free:
        raise GenerateError(
            f"{frames} frames of {height} x {width} need more than {megabytes(needs)} of memory, and {megabytes(free)} "
            f"are free: the most frames of that size are {max(free // (height * width * BYTES_OF_A_PIXEL), 1)}"
        )


def _known(name: str, given: int | None, record: dict) -> int:
    if given is None and name not in record:
        raise GenerateError(f"the model does not say its {name}: pass --{name.replace('_', '-')}")
    return int(record[name] if given is None else given)


def reconstruct(latents: Path, clips: Path, base: Path, out: Path, count: int = 6) -> float:
    """Decode the first latents of the training split, beside their clips, into a PNG; returns the PSNR in dB.

    Raises `LatentsError` when the latents were made by another base.
    """
    from onestep.models.pipeline import fingerprint

    known = open_latents(latents, "train", fingerprint(base))
    decoded = load_pipeline(base).decode_video(known.batch(range(min(count, len(known))))[0])
    rows = known.rows.head(len(decoded))
    originals = load_frames(clips, rows.clip_id.tolist())
    contact_sheet(_pairs(rows.caption.tolist(), originals, decoded), out, scale=2)
    error = np.square(originals.astype(np.float64) - decoded.astype(np.float64)).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-12)))


def _pairs(captions: Sequence[str], originals: np.ndarray, decoded: np.ndarray) -> list[tuple[str, np.ndarray]]:
    rows = []
    for caption, original, again in zip(captions, originals, decoded, strict=True):
        rows += [(f"clip: {caption}", original), ("its latents, decoded", again)]
    return rows
