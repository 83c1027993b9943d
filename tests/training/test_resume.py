import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from safetensors.torch import load_file

from onestep.core.storage import StorageError, read_json, sha256_folder, write_json
from onestep.training.adversarial import train_adversarial
from onestep.training.callbacks.resume import ROOT, ResumePoint, ResumeRefused
from onestep.training.distillation import train_consistency
from tests.training.conftest import ADVERSARIAL, CONSISTENCY

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


class Killed(Exception):
    pass


def as_dvc_leaves_it(out: Path) -> None:
    """DVC removes what a stage made before it runs the stage again."""
    shutil.rmtree(out)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, dot-files too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def interrupted(monkeypatch: pytest.MonkeyPatch, method: str, at: int) -> None:
    """Make the named method's update raise once it reaches this step."""
    module, name = method.rsplit(".", 1)
    kind = getattr(sys.modules[module], name)
    original = kind.update

    def update(self, step, batches):
        if step == at:
            raise Killed
        return original(self, step, batches)

    monkeypatch.setattr(kind, "update", update)


@pytest.mark.parametrize(
    ("target", "dmd_updates", "killed_at"),
    [("consistency", 0, 5), ("progressive", 0, 5), ("trajectory", 0, 5), ("trajectory", 4, 5), ("trajectory", 4, 9)],
)
def test_resumed_consistency_run_equals_uninterrupted_run(
    base: Path, latents: Path, tmp_path: Path, monkeypatch, target: str, dmd_updates: int, killed_at: int
) -> None:
    optimizer = "muon" if target == "trajectory" else "adamw"
    changes = {"dmd": CONSISTENCY.dmd.model_copy(update={"updates": dmd_updates})}
    settings = CONSISTENCY.model_copy(update={"target": target, "optimizer": optimizer, "depth_repeats": 2} | changes)
    train_consistency(latents, base, tmp_path / "whole", tmp_path / "curves-whole", settings)
    with monkeypatch.context() as patch:
        interrupted(patch, "onestep.training.distillation.Distillation", killed_at)
        with pytest.raises(Killed):
            train_consistency(latents, base, tmp_path / "resumed", tmp_path / "curves-resumed", settings)
    assert not (tmp_path / "resumed").exists()
    as_dvc_leaves_it(tmp_path / "curves-resumed")
    train_consistency(latents, base, tmp_path / "resumed", tmp_path / "curves-resumed", settings)
    assert sha256_folder(tmp_path / "whole") == sha256_folder(tmp_path / "resumed")
    assert contents(tmp_path / "curves-whole") == contents(tmp_path / "curves-resumed")
    assert "samples-00003.png" in contents(tmp_path / "curves-resumed"), "a sheet of before the kill"
    assert not any((tmp_path / ROOT / "consistency").iterdir())


@pytest.mark.parametrize("image_updates", [0, 3])
def test_resumed_adversarial_run_equals_uninterrupted_run(
    base: Path, latents: Path, tmp_path: Path, monkeypatch, image_updates: int
) -> None:
    settings = ADVERSARIAL.model_copy(update={"image_updates": image_updates, "updates": 6 - image_updates})

    def train(name: str) -> None:
        train_adversarial(
            latents,
            base,
            base,
            tmp_path / name,
            tmp_path / f"{name}-discriminator",
            tmp_path / f"curves-{name}",
            settings,
        )

    train("whole")
    with monkeypatch.context() as patch:
        interrupted(patch, "onestep.training.adversarial.Adversarial", 5)
        with pytest.raises(Killed):
            train("resumed")
    as_dvc_leaves_it(tmp_path / "curves-resumed")
    train("resumed")
    for name in ("", "-discriminator"):
        assert sha256_folder(tmp_path / f"whole{name}") == sha256_folder(tmp_path / f"resumed{name}")
    assert contents(tmp_path / "curves-whole") == contents(tmp_path / "curves-resumed")
    assert "samples-00003.png" in contents(tmp_path / "curves-resumed"), "a sheet of before the kill"


def test_sheets_of_another_run_do_not_stay_in_the_folder(latents: Path, base: Path, tmp_path: Path) -> None:
    curves = tmp_path / "curves"
    train_consistency(latents, base, tmp_path / "long", curves, CONSISTENCY)
    train_consistency(latents, base, tmp_path / "short", curves, CONSISTENCY.model_copy(update={"updates": 2}))
    assert [path.name for path in sorted(curves.glob("samples-*"))] == ["samples-00002.png"]


def test_a_run_killed_outright_ends_with_the_same_weights(latents: Path, base: Path, tmp_path: Path) -> None:
    script = (
        "from pathlib import Path; import sys, torch; torch.set_num_threads(1);"
        "from onestep.training.distillation import train_consistency; from tests.training.conftest import CONSISTENCY;"
        "train_consistency(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), Path('curves'),"
        "CONSISTENCY.model_copy(update={'updates': 60, 'checkpoint_every': 5, 'samples_every': 60}))"
    )
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}

    def command(out: str) -> list[str]:
        return [sys.executable, "-c", script, str(latents), str(base), out]

    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    subprocess.run(command("out"), cwd=tmp_path / "whole", env=environment, check=True, capture_output=True)
    child = subprocess.Popen(
        command("out"), cwd=tmp_path / "killed", env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    points = tmp_path / "killed" / ROOT
    deadline = time.monotonic() + 60
    while not list(points.rglob("state.json")) and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (tmp_path / "killed" / "out").exists(), "the run ended before it could be killed"
    subprocess.run(command("out"), cwd=tmp_path / "killed", env=environment, check=True, capture_output=True)
    whole, resumed = (load_file(tmp_path / name / "out" / WEIGHTS) for name in ("whole", "killed"))
    assert all((whole[key] == resumed[key]).all() for key in whole)


def test_other_settings_start_anew_and_a_foreign_resume_point_is_refused(tmp_path: Path) -> None:
    point = ResumePoint("stage", {"lr": 1}, tmp_path)
    point.save({"history": []}, {})
    assert ResumePoint("stage", {"lr": 2}, tmp_path).load() is None
    content = read_json(point.folder / "state.json")
    write_json(point.folder / "state.json", content | {"request": {"lr": 2}})
    with pytest.raises(ResumeRefused, match="different: lr"):
        point.load()


def test_latents_of_another_base_are_refused(base: Path, latents: Path, tmp_path: Path) -> None:
    from onestep.data.latents import LatentsError
    from tests.tiny import save_pipeline

    other = save_pipeline(tmp_path / "other", "flow" if base.name == "sample" else "sample")
    with pytest.raises(LatentsError, match="run the encode stage again"):
        train_consistency(latents, other, tmp_path / "out", tmp_path / "curves", CONSISTENCY)


@pytest.mark.slow
def test_a_run_killed_at_ten_random_moments_ends_with_the_same_weights(
    latents: Path, base: Path, tmp_path: Path
) -> None:
    """Adversarial training with its evaluations, killed outright ten times, wherever it happens to be."""
    script = (
        "from pathlib import Path; import sys, torch; torch.set_num_threads(1);"
        "from onestep.training.adversarial import train_adversarial;"
        "from tests.training.conftest import ADVERSARIAL; from tests.training.test_callbacks import by_samples;"
        "settings = ADVERSARIAL.model_copy(update={'updates': 150, 'end_game': 30, 'evaluate_every': 10,"
        "'checkpoint_every': 5, 'samples_every': 10});"
        "latents, base, out = map(Path, sys.argv[1:]);"
        "train_adversarial(latents, base, base, out, Path('d'), Path('curves'), settings, lambda *_: by_samples())"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", script, str(latents), str(base), "out"]
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    subprocess.run(command, cwd=tmp_path / "whole", env=environment, check=True, capture_output=True)
    random, killed = Random(0), 0
    points = tmp_path / "killed" / ROOT
    while killed < 10:
        before = progress_of(points)
        child = subprocess.Popen(
            command, cwd=tmp_path / "killed", env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while child.poll() is None and progress_of(points) <= before:
            time.sleep(0.02)
        time.sleep(random.uniform(0, 0.3))
        child.kill()
        assert child.wait() == -signal.SIGKILL, "the run ended before it could be killed ten times"
        killed += 1
        shutil.rmtree(tmp_path / "killed" / "curves", ignore_errors=True)
    subprocess.run(command, cwd=tmp_path / "killed", env=environment, check=True, capture_output=True)
    assert contents(tmp_path / "whole" / "curves") == contents(tmp_path / "killed" / "curves")
    for folder in ("out", "d"):
        assert sha256_folder(tmp_path / "whole" / folder) == sha256_folder(tmp_path / "killed" / folder), folder


def progress_of(points: Path) -> int:
    """Updates in the newest resume point; 0 without one."""
    try:
        return max(len(read_json(path)["progress"]["history"]) for path in points.rglob("state.json"))
    except (ValueError, OSError, StorageError):
        return 0
