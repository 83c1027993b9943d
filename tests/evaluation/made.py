"""Clips of the demo world and folders in the stages' layouts, small enough for tests."""

from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from onestep.core.storage import write_json
from onestep.data.clips import write_clips
from onestep.demo import world
from onestep.media.video import write_video

FRAMES, SIDE, FPS = 13, 64, 12.0
PROMPTS, REFERENCE = 24, 40


def drawn(count: int, seed: int, held_out: bool | None = None) -> tuple[np.ndarray, pd.DataFrame]:
    """Clips of the demo world, every scene about equally often, and their attributes and captions."""
    rng = np.random.default_rng(seed)
    scenes = world.scenes(held_out)
    chosen = [scenes[i] for i in rng.permutation(len(scenes))[np.arange(count) % len(scenes)]]
    frames = np.stack([world.draw(scene, FRAMES, SIDE, rng) for scene in chosen])
    rows = [{a: getattr(s, a) for a in world.ATTRIBUTES} | {"caption": s.caption} for s in chosen]
    return frames, pd.DataFrame(rows)


def write_clips_folder(folder: Path, with_attributes: bool) -> Path:
    frames, rows = drawn(PROMPTS + REFERENCE + 1, seed=3)
    return write_clips_of(folder, frames, rows if with_attributes else rows[["caption"]], dev=1)


def write_clips_of(folder: Path, frames: np.ndarray, rows: pd.DataFrame, dev: int = 0) -> Path:
    """A clips folder of these clips: a test split, the last `dev` of them a dev split."""
    length, height, width = frames.shape[1:4]
    videos, records = {}, []
    for number, clip in enumerate(frames):
        clip_id = f"clip-{number:03d}"
        videos[clip_id] = folder / f"{clip_id}.mp4"
        write_video(clip, videos[clip_id], FPS)
        record = dict.fromkeys(("source_sha256", "phash"), "0") | {
            "clip_id": clip_id, "source": f"{number}.mp4", "start_s": 0.0, "end_s": length / FPS, "held_out": True,
            "split": "test" if number < len(frames) - dev else "dev", "frames": length, "height": height, "width": width,
            "fps": FPS, "brightness": 0.5, "movement": 0.1,
        }  # fmt: skip
        records.append(record | rows.loc[number].to_dict())
    write_clips(folder, records, videos, shard_clips=50)
    return folder


def write_family(
    folder: Path, prompts: pd.DataFrame, sets: dict[str, np.ndarray], ways: dict[str, tuple[int, float]], seed: int = 9
) -> Path:
    """A family's folder as the samples stage writes it."""
    folder.mkdir(parents=True)
    for name, frames in sets.items():
        save_file({"frames": frames}, folder / f"{name}.safetensors")
    prompts.to_parquet(folder / "prompts.parquet", index=False)
    entries = [{"name": name, "steps": ways[name][0], "guidance": ways[name][1]} for name in sets]
    write_json(folder / "samples.json", {"samples": entries, "seed": seed, "fps": FPS})
    return folder
