"""Samples of every model from the same prompts and the same noise.

Each family (student, consistency model, teacher) is sampled by its own folder's scheduler, exactly as stock diffusers
runs it. With `flow_shift` 1 UniPC spaces 2 or 4 steps evenly over the noise levels, so that none of them is wasted.
"""

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor

from onestep.core.storage import replacing_folder, sha256_file, write_json
from onestep.data.clips import load_frames, read_index
from onestep.data.schema import attribute_columns
from onestep.inference.rows import teacher_row
from onestep.inference.samples import PROMPTS, RECORD, SampleSet
from onestep.inference.settings import SamplesSettings
from onestep.models.pipeline import VideoPipeline, fingerprint, load_pipeline


class SamplingError(RuntimeError):
    """Samples cannot be made; the message says what is missing."""


class Setting(NamedTuple):
    """One way to sample a model."""

    name: str
    steps: int
    guidance: float


def teacher_settings(settings: SamplesSettings) -> list[Setting]:
    """The teacher's settings under the names of their rows."""
    return [Setting(teacher_row(steps, guidance), steps, guidance) for steps, guidance in settings.teacher]


def choose_prompts(clips: Path, count: int, seed: int) -> pd.DataFrame:
    """Test clips whose captions are the prompts, in an order that depends on the seed and the clips' ids alone.

    Columns prompt_id, caption, clip_id and the attributes where the footage has them; raises `SamplingError`.
    """
    index = read_index(clips)
    test = index[index.split == "test"]
    if len(test) < count:
        raise SamplingError(
            f"{clips} has {len(test)} test clips for samples.prompts = {count}: the nearest legal value is {len(test)}"
        )
    key = test.clip_id.map(lambda clip_id: hashlib.sha256(f"{seed}/{clip_id}".encode()).hexdigest())
    chosen = test.loc[key.sort_values().index].head(count).reset_index(drop=True)
    chosen["prompt_id"] = range(count)
    return chosen[["prompt_id", "caption", "clip_id", *attribute_columns(test)]]


def noise_for(prompts: pd.DataFrame, shape: Sequence[int], seed: int) -> Tensor:
    """The noise `[N, C, T', H', W']` of each prompt: its own generator, so that batches and subsets do not change it."""
    parts = []
    for clip_id in prompts.clip_id:
        key = hashlib.sha256(f"{seed}/{clip_id}".encode()).digest()
        parts.append(torch.randn(tuple(shape), generator=torch.Generator().manual_seed(int.from_bytes(key[:7]))))
    return torch.stack(parts)


def sample_student(model: Path, name: str, clips: Path, out: Path, text_tokens: int, settings: SamplesSettings) -> None:
    """One-step samples of a student folder (`onestep`, `consistency`, `champion`)."""
    sample(model, [Setting(name, 1, 1.0)], clips, out, text_tokens, settings)


def sample(
    model: Path,
    ways: Sequence[Setting],
    clips: Path,
    out: Path,
    text_tokens: int,
    settings: SamplesSettings,
    reused: Mapping[str, SampleSet] | None = None,
    **record: Any,
) -> None:
    """Write the family folder `out`: the model's clips in each of these ways, for the prompts of the settings.

    A way of no steps is the prompts' own clips through the autoencoder. `reused` sets are copied instead of sampled;
    `record` is added to the folder's record.
    """
    from rich.progress import track

    reused = reused or {}
    prompts = choose_prompts(clips, settings.prompts, settings.seed)
    made = _make([way for way in ways if way.name not in reused], model, clips, prompts, text_tokens, settings)
    with replacing_folder(out) as partial:
        for way in track(ways, description=f"sampling {out.name}"):
            if way.name in reused:
                for path in (reused[way.name].path, reused[way.name].measured):
                    if path is not None:
                        shutil.copyfile(path, partial / path.name)
            else:
                save_file({"frames": torch.from_numpy(next(made))}, partial / f"{way.name}.safetensors")
        prompts.to_parquet(partial / PROMPTS, index=False)
        write_json(
            partial / RECORD,
            {
                "samples": [{"name": way.name, "steps": way.steps, "guidance": way.guidance} for way in ways],
                "model_sha256": fingerprint(model),
                "prompts_sha256": sha256_file(partial / PROMPTS),
                "seed": settings.seed,
                "fps": float(read_index(clips).iloc[0].fps),
                **record,
            },
        )


def _make(
    ways: Sequence[Setting],
    model: Path,
    clips: Path,
    prompts: pd.DataFrame,
    text_tokens: int,
    settings: SamplesSettings,
) -> Iterator[np.ndarray]:
    """The clips of each way, uint8 `[N, T, H, W, 3]`; the model is loaded when the first is asked for."""
    pipeline = load_pipeline(model)
    pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
    first = read_index(clips).iloc[0]
    shape = pipeline.latent_shape(int(first.frames), int(first.height), int(first.width))
    noise = noise_for(prompts, shape, settings.seed)
    text = pipeline.encode_text(prompts.caption.tolist(), text_tokens)
    empty = pipeline.encode_text([""], text_tokens)
    for way in ways:
        if way.steps:
            yield np.concatenate(list(_denoised(pipeline, noise, text, empty, way, settings.batch)))
        else:
            real = load_frames(clips, prompts.clip_id.tolist())
            batches = (real[i : i + settings.batch] for i in range(0, len(real), settings.batch))
            yield np.concatenate([pipeline.decode_video(pipeline.encode_video(batch)) for batch in batches])


def _denoised(
    pipeline: VideoPipeline, noise: Tensor, text: Tensor, empty: Tensor, way: Setting, batch: int
) -> Iterator[np.ndarray]:
    for start in range(0, len(noise), batch):
        part = slice(start, start + batch)
        latents = pipeline.denoise(noise[part].to(pipeline.device), text[part], way.steps, way.guidance, empty)
        yield pipeline.decode_video(latents)
