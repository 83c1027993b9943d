"""Clips to latents: each clip's own, under the fingerprint of what made them, and back to pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from onestep.core.storage import read_json, sha256_folder, write_json
from onestep.data.clips import load_frames, read_index, write_clips
from onestep.data.encode import encode
from onestep.data.encode_settings import EncodeSettings
from onestep.data.latents import LatentsError, open_latents
from onestep.data.validation import ValidationRefused
from onestep.demo import world
from onestep.inference.generate import reconstruct
from onestep.media.video import write_video
from onestep.models.pipeline import fingerprint, load_pipeline
from tests.tiny import FRAMES, SIDE, TOKENS, save_pipeline

CLIPS, FPS = 8, 12.0
SPLITS = {0: "dev", 3: "test"}
SETTINGS = EncodeSettings(batch=3, text_tokens=TOKENS, shard_latents=4)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pipeline(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    rows, videos = [], {}
    for number, scene in enumerate(world.scenes()[: 5 * CLIPS : 5]):
        clip_id = f"clip-{number}"
        videos[clip_id] = folder / f"{clip_id}.mp4"
        write_video(world.draw(scene, FRAMES, SIDE, rng), videos[clip_id], FPS)
        rows.append({
            "clip_id": clip_id, "source": f"{number}.mp4", "source_sha256": "0", "start_s": 0.0, "end_s": FRAMES / FPS,
            "caption": scene.caption, "split": SPLITS.get(number, "train"), "held_out": False, "frames": FRAMES,
            "height": SIDE, "width": SIDE, "fps": FPS, "brightness": 0.5, "movement": 0.1, "phash": "0",
        })  # fmt: skip
    write_clips(folder, rows, videos, shard_clips=4)
    return folder


@pytest.fixture(scope="module")
def validation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reports") / "validation.json"
    write_json(path, {"passed": True, "checks": []})
    return path


@pytest.fixture(scope="module")
def latents(clips: Path, base: Path, validation: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("latents") / "latents"
    encode(clips, base, validation, out, SETTINGS)
    return out


def test_every_clip_has_its_own_latents_and_its_captions_text_states(latents: Path, clips: Path, base: Path) -> None:
    pipeline = load_pipeline(base)
    index = read_index(clips).set_index("clip_id")
    for split in ("train", "dev"):
        known = open_latents(latents, split, fingerprint(base))
        assert sorted(known.rows.clip_id) == sorted(index.index[index.split == split])
        positions = list(reversed(range(len(known))))
        found, text = known.batch(positions)
        for place, position in enumerate(positions):
            clip_id = known.rows.clip_id[position]
            expected = pipeline.encode_video(load_frames(clips, [clip_id]))[0]
            assert torch.allclose(found[place], expected, atol=1e-4)
            assert torch.allclose(text[place], pipeline.encode_text([index.caption[clip_id]], TOKENS)[0], atol=1e-5)
        assert torch.equal(known.text([known.rows.caption[0]])[0], known.batch([0])[1][0])


def test_the_empty_caption_is_encoded_too(latents: Path, base: Path) -> None:
    empty = load_pipeline(base).encode_text([""], TOKENS)
    assert torch.equal(open_latents(latents, "train").empty, empty)


def test_latents_say_what_made_them(latents: Path, base: Path) -> None:
    record = read_json(latents / "fingerprint.json")
    assert record["base"] == fingerprint(base)
    assert (record["frames"], record["height"], record["width"], record["text_tokens"]) == (FRAMES, SIDE, SIDE, TOKENS)
    assert record["latent_shape"] == list(load_pipeline(base).latent_shape(FRAMES, SIDE, SIDE))


def test_the_same_clips_and_base_give_the_same_bytes(
    latents: Path, clips: Path, base: Path, validation: Path, tmp_path: Path
) -> None:
    encode(clips, base, validation, tmp_path / "again", SETTINGS)
    assert sha256_folder(tmp_path / "again") == sha256_folder(latents)


def test_latents_of_another_base_are_refused(latents: Path, clips: Path, tmp_path: Path) -> None:
    other = save_pipeline(tmp_path / "other", "sample")
    with pytest.raises(LatentsError, match="run the encode stage again"):
        reconstruct(latents, clips, other, tmp_path / "sheet.png")


def test_test_clips_are_not_encoded(latents: Path) -> None:
    with pytest.raises(LatentsError, match="no clips of the split 'test'"):
        open_latents(latents, "test")


def test_clips_that_failed_validation_are_refused(clips: Path, base: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "validation.json", {"passed": False, "checks": [{"name": "no duplicates", "passed": False}]})
    with pytest.raises(ValidationRefused, match="no duplicates"):
        encode(clips, base, tmp_path / "validation.json", tmp_path / "latents", SETTINGS)
    assert not (tmp_path / "latents").exists()


def test_reconstruct_shows_clips_beside_their_decoded_latents(
    latents: Path, clips: Path, base: Path, tmp_path: Path
) -> None:
    psnr = reconstruct(latents, clips, base, tmp_path / "sheet.png", count=3)
    known = open_latents(latents, "train")
    originals = load_frames(clips, known.rows.clip_id.tolist()[:3]).astype(float)
    decoded = load_pipeline(base).decode_video(known.batch(range(3))[0]).astype(float)
    assert psnr == pytest.approx(10 * np.log10(255**2 / np.square(originals - decoded).mean()))
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width >= 2 * FRAMES * SIDE
