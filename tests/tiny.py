"""A complete Wan pipeline of a few thousand weights, from the same classes as the real ones, and latents for it."""

from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import save_file

from onestep.core.storage import write_json
from onestep.models.families.base import Form
from onestep.models.families.wan import Wan
from onestep.models.pipeline import VideoPipeline, fingerprint
from onestep.pretraining.settings import TeacherTraining, VaeTraining
from onestep.pretraining.teacher import assemble, build_teacher, build_tokenizer
from onestep.pretraining.vae import build_vae

FRAMES, SIDE, TOKENS = 5, 32, 16
CAPTIONS = ("a small red circle rising on teal", "a large blue cross falling on sand")

SAMPLE = Form("sample", Wan())  # of networks that are called as a Wan transformer is

VAE = VaeTraining(
    seed=0, base_dim=8, z_dim=4, dim_mult=(1, 1, 1), residual_blocks=1, patch=2, shortcut_updates=1, updates=2, batch=2,
    frames=FRAMES, muon_lr=0.01, adam_lr=0.001, latent_penalty=1e-5, latent_noise=0.1, checkpoint_every=1,
)  # fmt: skip


def teacher_settings(form: str, layers: int = 2) -> TeacherTraining:
    return TeacherTraining(
        seed=0, form=form, layers=layers, heads=2, head_dim=12, text_dim=16, text_layers=1, text_tokens=TOKENS, updates=2,
        batch=2, muon_lr=0.01, adam_lr=0.001, warmup=1, caption_dropout=0.1, ema=0.9, checkpoint_every=1, samples_every=1,
        compile=False,
    )  # fmt: skip


def tiny_pipeline(form: str = "flow", layers: int = 2) -> VideoPipeline:
    networks = build_teacher(teacher_settings(form, layers), VAE.z_dim, len(build_tokenizer()))
    torch.manual_seed(1)
    torch.nn.init.normal_(networks["transformer"].proj_out.weight, std=0.1)
    record = {"frames": FRAMES, "height": SIDE, "width": SIDE, "fps": 12.0, "text_tokens": TOKENS}
    return VideoPipeline(assemble(networks, build_vae(VAE), form), record)


def save_pipeline(folder: Path, form: str = "flow") -> Path:
    tiny_pipeline(form).save(folder)
    return folder


def save_latents(folder: Path, base: Path, clips: int = 12) -> Path:
    """Latents of made-up clips in the encode stage's layout, made by the tiny pipeline in `base`."""
    from onestep.models.pipeline import load_pipeline

    pipeline = load_pipeline(base)
    shape = pipeline.latent_shape(FRAMES, SIDE, SIDE)
    folder.mkdir(parents=True)
    torch.manual_seed(2)
    save_file({"latents": torch.randn(clips, *shape)}, folder / "latents-00000.safetensors")
    states, empty = pipeline.encode_text(list(CAPTIONS), TOKENS), pipeline.encode_text([""], TOKENS)
    save_file({"states": states.contiguous(), "empty": empty.contiguous()}, folder / "text.safetensors")
    rows = [
        {
            "clip_id": f"clip-{number:03d}",
            "shard": "latents-00000.safetensors",
            "row": number,
            "caption": CAPTIONS[number % 2],
            "caption_number": number % 2,
            "split": "dev" if number < 2 else "train",
        }
        for number in range(clips)
    ]
    pd.DataFrame(rows).to_parquet(folder / "latents.parquet", index=False)
    write_json(
        folder / "fingerprint.json",
        {
            "base": fingerprint(base), "text_tokens": TOKENS, "frames": FRAMES, "height": SIDE, "width": SIDE, "fps": 12.0,
            "latent_shape": list(shape), "dtype": "float32",
        },
    )  # fmt: skip
    return folder
