"""The shipped graph from footage to report, run by DVC on a handful of clips; and what people do with its model."""

import contextlib
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from onestep.cli.entry import app
from onestep.core.yaml_files import read_yaml
from onestep.data.clips import read_quarantine
from onestep.inference.generate import make_clip
from onestep.models.pipeline import load_pipeline
from onestep.vcs.graph import plan
from onestep.vcs.project import Project
from tests.small_project import command, make_project, read_params, run_here, write_params
from tests.tiny import FRAMES, SIDE, TOKENS

PROMPT = "a small red circle bouncing on teal"
TEACHERS = {"teacher-1", "teacher-2", "teacher-2-g4"}
ROWS = {"onestep", "consistency", "real", "real-vae"} | TEACHERS


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that a first `dvc repro` has run through, by a base that predicts samples as the bundled one does."""
    root = make_project(tmp_path_factory.mktemp("graph") / "project", "sample")
    command(root, "dvc", "repro")
    return root


@pytest.fixture(scope="module")
def with_a_flow_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same commands with a base that predicts velocities as the real Wan does, and images before video."""
    root = make_project(tmp_path_factory.mktemp("flow") / "project", "flow", adversarial={"image_updates": 2})
    run_here(root)
    return root


@pytest.fixture(params=["reproduced", "with_a_flow_base"])
def project(request: pytest.FixtureRequest) -> Path:
    """A finished project of each prediction form."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def params_kept(reproduced: Path) -> Iterator[dict[str, Any]]:
    """The project's settings, which a test may change for its own time."""
    before = (reproduced / "params.yaml").read_bytes()
    yield read_params(reproduced)
    (reproduced / "params.yaml").write_bytes(before)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_every_stage_ran_and_made_what_it_declares(reproduced: Path) -> None:
    stages = read_yaml(reproduced / "dvc.yaml")["stages"]
    lock = read_yaml(reproduced / "dvc.lock")["stages"]
    assert set(lock) == set(stages)
    for stage in stages.values():
        for out in stage["outs"]:
            assert (reproduced / (next(iter(out)) if isinstance(out, dict) else out)).exists()


def test_bad_footage_ended_in_quarantine_with_its_reason(project: Path) -> None:
    reasons = set(read_quarantine(project / "data" / "clips")["reason"])
    assert {"empty file", "not a video", "truncated", "black", "static", "no caption", "duplicate"} <= reasons


def test_the_verdict_is_one_of_three_and_names_its_rules(project: Path) -> None:
    verdict = read(project / "reports" / "verdict.json")
    assert verdict["verdict"] in ("promote", "hold", "reject")
    rules = {rule["name"]: rule for rule in verdict["rules"]}
    assert {"validation", "finite numbers", "prompts", "denoiser speed-up", "floor: motion"} <= set(rules)
    assert {"better than teacher-1: frechet_video_distance", "better than teacher-2: attribute_accuracy"} <= set(rules)
    assert rules["validation"]["passed"] and rules["finite numbers"]["passed"] and rules["prompts"]["passed"]
    outcomes = {rule["outcome"] for rule in verdict["rules"] if rule["name"] != "floor: text_alignment"}
    assert outcomes <= {"passed", "held", "failed"} and all(rule["reason"] for rule in verdict["rules"])
    assert rules["better than teacher-1: frechet_video_distance"]["alpha"] == 0.006


def test_metrics_hold_every_model_with_intervals_and_every_comparison(project: Path) -> None:
    metrics = read(project / "reports" / "metrics.json")
    assert set(metrics["models"]) == ROWS
    assert set(metrics["comparisons"]) == {f"onestep vs {other}" for other in ROWS - {"onestep"}}
    assert metrics["prompts"] == 6
    named = {"frechet_video_distance", "kernel_video_distance", "patch_frechet_distance", "attribute_accuracy",
             "attribute_accuracy_colour", "structural_stability", "motion", "diversity", "background_grain"}  # fmt: skip
    for cells in metrics["models"].values():
        assert named <= set(cells)
        assert all(
            np.isfinite([c["value"], c["low"], c["high"]]).all() and c["low"] <= c["high"] for c in cells.values()
        )
    for cells in metrics["comparisons"].values():
        assert all(set(cell) == {"difference", "low", "high"} for cell in cells.values())
    assert "evaluate.text_model" in metrics["unmeasured"]["text_alignment"]
    real, rebuilt = (metrics["models"][row]["frechet_video_distance"]["value"] for row in ("real", "real-vae"))
    assert real < rebuilt  # an untrained autoencoder loses nearly everything


def test_every_model_was_sampled_from_the_same_prompts_and_noise(project: Path) -> None:
    prompts = [
        pd.read_parquet(project / "samples" / f / "prompts.parquet") for f in ("onestep", "consistency", "teacher")
    ]
    assert prompts[0].equals(prompts[1]) and prompts[0].equals(prompts[2])
    test = pd.read_parquet(project / "data" / "clips" / "clips.parquet").query("split == 'test'")
    assert set(prompts[0].clip_id) <= set(test.clip_id)
    assert {read(project / "samples" / f / "samples.json")["seed"] for f in ("onestep", "consistency", "teacher")} == {
        99
    }


def test_training_changed_the_model_twice(project: Path) -> None:
    weights = [
        load_pipeline(project / "models" / name).transformer.state_dict() for name in ("base", "consistency", "onestep")
    ]
    for before, after in itertools.pairwise(weights):
        assert any(not torch.equal(before[key], after[key]) for key in before)


def test_the_report_is_one_page_that_needs_nothing_else(project: Path) -> None:
    page = (project / "reports" / "report.html").read_text()
    linked = re.findall(r"""(?:src|href)\s*=\s*["']([^"']{0,40})""", page) + re.findall(
        r"url\(['\"]?([^)]{0,40})", page
    )
    assert [link for link in linked if not link.startswith(("data:", "#"))] == []
    assert "@import" not in page
    assert page.count("data:image/") >= 2 * (len(ROWS) - 1)  # the teacher's best may be one of its few steps
    verdict = read(project / "reports" / "verdict.json")["verdict"]
    assert re.search(verdict, page, re.IGNORECASE)


def test_a_second_repro_has_nothing_to_do(reproduced: Path) -> None:
    assert "Data and pipelines are up to date." in command(reproduced, "dvc", "repro")


def test_another_training_setting_reruns_that_stage_and_what_follows(reproduced, params_kept) -> None:
    params_kept["adversarial"]["updates"] += 1
    write_params(reproduced, params_kept)
    planned = plan(Project(reproduced))
    assert {stage.name for stage in planned if stage.changed} == {"adversarial"}
    assert {stage.name for stage in planned if stage.affected} == {
        "adversarial", "samples-onestep", "latency", "evaluate", "gate", "report",
    }  # fmt: skip


def test_another_rule_of_the_gate_reruns_no_model(reproduced, params_kept) -> None:
    params_kept["gate"]["min_speedup"] = 2.0
    write_params(reproduced, params_kept)
    assert {stage.name for stage in plan(Project(reproduced)) if stage.affected} == {"gate", "report"}


def test_stock_diffusers_runs_the_model_in_one_step_and_gives_the_same_frames(project: Path) -> None:
    from diffusers import WanPipeline

    stock = WanPipeline.from_pretrained(project / "models" / "onestep")
    stock.set_progress_bar_config(disable=True)
    ours = load_pipeline(project / "models" / "onestep")
    noise = torch.randn((1, *ours.latent_shape(FRAMES, SIDE, SIDE)), generator=torch.Generator().manual_seed(7))
    frames = stock(
        PROMPT, num_inference_steps=1, guidance_scale=1.0, height=SIDE, width=SIDE, num_frames=FRAMES,
        max_sequence_length=TOKENS, latents=noise, output_type="np",
    ).frames[0]  # fmt: skip
    expected = (frames * 255).round().astype(int)
    made = make_clip(ours, PROMPT, seed=7).astype(int)
    assert made.shape == (FRAMES, SIDE, SIDE, 3)
    assert abs(made - expected).max() <= 1
    assert made.std() > 1


def test_generate_writes_an_mp4_and_a_gif_that_others_can_read(project: Path, tmp_path: Path) -> None:
    for name in ("clip.mp4", "clip.gif"):
        words = ["generate", PROMPT, "--model", str(project / "models" / "onestep"), "--out", str(tmp_path / name)]
        app([*words, "--seed", "7"], standalone_mode=False)
    made = make_clip(load_pipeline(project / "models" / "onestep"), PROMPT, seed=7).astype(int)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        video = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(int)
        assert container.streams.video[0].average_rate == 12
    assert video.shape == made.shape
    assert abs(video.mean((0, 1, 2)) - made.mean((0, 1, 2))).max() < 12
    with Image.open(tmp_path / "clip.gif") as gif:
        assert (gif.n_frames, gif.size) == (FRAMES, (SIDE, SIDE))


def test_the_base_generates_in_many_steps_with_guidance(project: Path, tmp_path: Path) -> None:
    words = ["generate", PROMPT, "--model", str(project / "models" / "base"), "--out", str(tmp_path / "clip.gif")]
    app([*words, "--steps", "3", "--guidance", "4"], standalone_mode=False)
    with Image.open(tmp_path / "clip.gif") as gif:
        assert gif.n_frames == FRAMES


def test_reconstruct_decodes_latents_beside_their_clips(project: Path, tmp_path: Path, capsys) -> None:
    with contextlib.chdir(project):
        app(
            ["reconstruct", "data/latents", "data/clips", "models/base", "--out", str(tmp_path / "sheet.png")],
            standalone_mode=False,
        )
    assert re.search(r"PSNR \d+\.\d\d dB", capsys.readouterr().out)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 2 * FRAMES * SIDE
