"""The shipped graph on a handful of clips: a git and DVC project with a tiny pipeline and a tiny judge, made in seconds."""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onestep.cli.entry import app
from onestep.core.params import merged
from onestep.core.yaml_files import dump_yaml, read_yaml
from onestep.demo import world
from onestep.evaluation.faults import FAULTS
from onestep.evaluation.judge import JudgeConfig, Words, convolutional_judge
from tests.tiny import FRAMES, SIDE, save_pipeline
from tests.toy_project import started

ROOT = Path(__file__).parents[1]
SMALL: dict[str, dict[str, Any]] = {
    "machine": {"threads": 1},
    "footage": {"shots": 24, "evaluation_shots": 12, "side": SIDE},
    "ingest": {"frames": FRAMES, "height": SIDE, "width": SIDE, "dev_share": 0.3, "shard_clips": 16, "workers": 1},
    "validate": {"min_train_clips": 8, "min_test_clips": 8, "max_quarantine_rate": 0.6},
    "base": {"url": "pretrained/base", "sha256": None},
    "judge": {"url": "pretrained/judge", "sha256": None},
    "encode": {"batch": 8, "shard_latents": 16},
    "consistency": {
        "updates": 3,
        "warmup": 2,
        "batch": 4,
        "pairs": 8,
        "dmd": {
            "updates": 2,
            "warmup": 1,
            "guidance_scale": 2.0,
            "token_exchange": 0.25,
            "token_dropout": 0.25,
            "optimizer": "muon",
            "student_lr": 1e-3,
            "score_lr": 4e-3,
        },
        "teacher_steps": 2,
        "samples_every": 2,
        "checkpoint_every": 2,
    },
    "adversarial": {
        "updates": 3,
        "batch": 4,
        "discriminator_warmup": 1,
        "evaluate_every": 2,
        "evaluate_clips": 8,
        # keep what was trained, although three updates make nothing better and an untrained model's samples hardly move
        "certainty": 0.0,
        "guard": {"floor": 0.0},
        "samples_every": 2,
        "checkpoint_every": 2,
    },
    "samples": {"prompts": 6, "teacher": [[1, 1.0], [2, 1.0], [2, 4.0]], "batch": 4},
    "evaluate": {"resamples": 40, "gallery": 2},
    "latency": {"repeats": 1},
    "gate": {"min_prompts": 6, "better_than": ["teacher-1", "teacher-2"], "reference": "teacher-2"},
}


def make_project(root: Path, form: str, **changes: dict[str, Any]) -> Path:
    """A project at `root` with the shipped `dvc.yaml`, code and lock, and small settings; nothing has run yet."""
    root.mkdir(parents=True)
    for name in ("dvc.yaml", "constraints.txt", ".dvcignore"):
        shutil.copyfile(ROOT / name, root / name)
    shutil.copytree(ROOT / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (root / "data" / "baselines").mkdir(parents=True)
    (root / "data" / "baselines" / "none").touch()
    shutil.copyfile(ROOT / "data" / "margins.json", root / "data" / "margins.json")
    shutil.copytree(ROOT / "data" / "seeds", root / "data" / "seeds")
    (root / ".gitignore").write_text("/pretrained/\n/.onestep/\n")
    params = read_yaml(ROOT / "params.yaml")
    write_params(root, merged(merged(params, SMALL), changes))
    save_pipeline(root / "pretrained" / "base", form)
    save_judge(root / "pretrained" / "judge")
    with started(root):
        pass
    return root


def save_judge(folder: Path) -> None:
    """An untrained judge that is calibrated on drawn clips: it measures, and it knows nothing."""
    rng = np.random.default_rng(0)
    scenes = world.scenes()
    clips = np.stack([world.draw(scenes[i], FRAMES, SIDE, rng) for i in rng.permutation(len(scenes))[:64]])
    torch.manual_seed(0)
    words = tuple(Words(attribute=name, words=known) for name, known in world.vocabulary().items())
    judge = convolutional_judge(JudgeConfig(vocabulary=words, faults=tuple(FAULTS), width=4, seed=0)).eval()
    judge.calibrate(clips)
    folder.mkdir(parents=True)
    judge.save(folder)


def read_params(root: Path) -> dict[str, Any]:
    return read_yaml(root / "params.yaml")


def write_params(root: Path, params: dict[str, Any]) -> None:
    (root / "params.yaml").write_text(dump_yaml(params))


def command(root: Path, *words: str) -> str:
    """Run a command at the project's root with this environment's tools; what it printed."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    done = subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def forget_accelerator() -> None:
    """Accelerate keeps a process's first precision for ever; stages have a process each, these tests do not."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)


def run_here(root: Path, target: str | None = None) -> None:
    """The stages' commands in the order of `dvc.yaml`, up to `target`, in this process: no start-up to pay per stage."""
    stages = read_yaml(root / "dvc.yaml")["stages"]
    with contextlib.chdir(root):
        for name, stage in stages.items():
            program, *words = shlex.split(stage["cmd"])
            assert program == "onestep"
            forget_accelerator()
            app(words, standalone_mode=False)
            if name == target:
                break
    forget_accelerator()
