"""The command line: it answers at once, and what goes wrong is one sentence."""

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from onestep.cli import entry
from onestep.cli import stages as stages_of_the_graph
from onestep.core.params import SettingsError
from onestep.core.storage import MachineFailed
from onestep.core.yaml_files import dump_yaml, read_yaml
from onestep.registry.change import PromotionRefused
from tests.tiny import save_latents, save_pipeline

ROOT = Path(__file__).parents[2]
ONESTEP = str(Path(sys.executable).with_name("onestep"))
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
HELP = "import sys; sys.argv = ['onestep', '--help']; from onestep.cli.entry import main; main()"
HEAVY = ("torch", "diffusers", "transformers", "pandas", "great_expectations", "evidently", "dvc", "prefect", "cv2")


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """What a shell would see as the exit code."""
    monkeypatch.setattr(sys, "argv", ["onestep", *arguments])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    return int(ended.value.code or 0)


def refused(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int = 1
) -> str:
    """The one sentence on standard error of a command that fails as expected."""
    capsys.readouterr()
    assert run(arguments, monkeypatch) == code
    said = capsys.readouterr()
    assert said.out == ""
    lines = [line for line in said.err.splitlines() if line.startswith("onestep: ")]
    assert len(lines) == 1
    assert said.err.splitlines()[-1] == lines[0]
    assert "Traceback" not in said.err
    return lines[0].removeprefix("onestep: ")


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        f"import atexit; atexit.register(lambda: print('LOADED', *sorted(set(sys.modules) & {set(HEAVY)!r}))); {HELP}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == ["LOADED"]
    for name in ("footage", "ingest", "encode", "adversarial", "gate", "generate", "reconstruct", "promote"):
        assert name in done.stdout


def test_help_takes_less_than_a_second_of_processor_time() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", HELP], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


def test_every_stage_of_the_graph_is_a_command_with_those_options() -> None:
    stages = read_yaml(ROOT / "dvc.yaml")["stages"]
    commands = typer.main.get_command(stages_of_the_graph.app).commands
    assert [*dict.fromkeys(stage["cmd"].split()[1] for stage in stages.values())] == [*commands]


def test_the_shipped_settings_pass(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["params", str(ROOT / "params.yaml")], monkeypatch) == 0
    assert capsys.readouterr().out == f"{ROOT / 'params.yaml'} is valid\n"


def test_a_wrong_setting_is_one_sentence(tmp_path, monkeypatch, capsys) -> None:
    content = read_yaml(ROOT / "params.yaml")
    content["ingest"]["frames"] = 16
    (tmp_path / "params.yaml").write_text(dump_yaml(content))
    said = refused(["params", str(tmp_path / "params.yaml")], monkeypatch, capsys, code=2)
    assert said.endswith("ingest.frames = 16: 16 frames are not 4k+1; the nearest legal value is 17")


def test_a_missing_settings_file_is_one_sentence(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (["footage", "--out", "footage"], ["pretrain", "footage", "--out", "footage"]):
        said = refused(arguments, monkeypatch, capsys, code=2)
        assert said == "params.yaml does not exist: run from the project's root or pass --params"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["ingest", "nowhere", "--out", "clips"], "nowhere is not a folder"),
        (["validate", "nowhere", "--out", "v.json"], "nowhere/clips.parquet does not exist"),
        (["encode", "nowhere", "base", "v.json", "--out", "latents"], "v.json does not exist"),
        (["production", "production.json", "--out", "production"], "production.json does not exist"),
        (
            ["gate", "m.json", "l.json", "v.json", "p.json", "seeds", "--machine", "machine.json", "--out", "verdict.json"],
            "p.json does not exist",
        ),
        (["samples", "nowhere", "clips", "p.json", "--name", "onestep", "--out", "s"], "p.json does not exist"),
        (
            ["report", "m.json", "s", "--clips", "c", "--latency", "l.json", "--verdict", "v.json", "--curves", "curves",
             "--per-prompt", "p.parquet", "--picture", "p.gif", "--out", "r.html"],
            "m.json does not exist",
        ),
        (["generate", "a red circle", "--model", "nowhere", "--out", "clip.mp4"], "nowhere is not a diffusers pipeline"),
        (["generate", "a red circle", "--model", "nowhere", "--out", "clip.avi"], "the ending must be one of .mp4, .gif"),
        (["promote"], ""),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)  # fmt: skip
def test_a_missing_input_is_one_sentence(arguments, reason, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    assert reason in refused(arguments, monkeypatch, capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_a_footage_folder_without_captions_is_one_sentence(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "footage").mkdir()
    monkeypatch.chdir(tmp_path)
    said = refused(["ingest", "footage", "--out", "clips"], monkeypatch, capsys)
    assert "metadata.csv does not exist: it must name every video and its caption" in said


def test_latents_of_another_base_are_one_sentence(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    made_by, other = save_pipeline(tmp_path / "base"), save_pipeline(tmp_path / "other", "sample")
    save_latents(tmp_path / "latents", made_by)
    arguments = ["consistency", "latents", other.name, "--out", "student", "--curves", "curves"]
    assert "latents was encoded by base" in refused(arguments, monkeypatch, capsys)
    assert not (tmp_path / "student").exists()


def test_weights_that_are_not_the_pinned_ones_are_one_sentence(tmp_path, monkeypatch, capsys) -> None:
    content = read_yaml(ROOT / "params.yaml")
    save_pipeline(tmp_path / "ours")
    content["base"] = {"url": "ours", "sha256": "0" * 64}
    (tmp_path / "params.yaml").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    assert "not the pinned" in refused(["base", "--out", "base"], monkeypatch, capsys)
    assert not (tmp_path / "base").exists()


def test_an_internal_error_is_one_sentence_and_its_traceback_is_in_a_file(tmp_path, monkeypatch, capsys) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a bug")

    (tmp_path / "dvc.yaml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("onestep.cli.params.load_params", broken)
    assert run(["params"], monkeypatch) == 70
    (line,) = capsys.readouterr().err.splitlines()
    found = re.search(r"internal error, KeyError: 'a bug'; the traceback is in (\S+):", line)
    report = Path(found[1]).read_text()
    assert found[1].startswith(".onestep/crashes/")
    for part in ("command   onestep params", "torch ", "Traceback (most recent call last)", "in broken"):
        assert part in report
    assert (tmp_path / ".onestep" / "crashes" / ".gitignore").read_text() == "*\n"


def test_an_internal_error_outside_a_project_is_kept_in_the_temporary_folder(tmp_path, monkeypatch, capsys) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    (tmp_path / "here").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr("onestep.cli.params.load_params", broken)
    assert run(["params"], monkeypatch) == 70
    assert str(next((tmp_path / "temporary").iterdir())) in capsys.readouterr().err
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(28, "No space left on device", "clips.tar"), 75, "clips.tar cannot be written: no space is left"),
        (PermissionError(13, "Permission denied", "/etc/shadow"), 1, "/etc/shadow: permission denied"),
        (MemoryError(), 75, "out of memory (MemoryError): ask for less at once, or for a smaller size"),
        (RuntimeError("CUDA out of memory. Tried to allocate 20 GiB"), 75, "out of memory (CUDA out of memory."),
        (SettingsError("gate.alpha = 2"), 2, "gate.alpha = 2"),
        (MachineFailed("the disk is full"), 75, "the disk is full"),
        (PromotionRefused("held"), 3, "held"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_every_kind_of_end_has_its_exit_code_and_one_line(error, code, said, monkeypatch, capsys) -> None:
    def ends(*_: object) -> None:
        raise error

    monkeypatch.setattr("onestep.cli.params.load_params", ends)
    assert run(["params"], monkeypatch) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"onestep: {said}")


def test_a_reader_that_closes_the_output_is_met_with_silence(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    command = f"{ONESTEP} params; echo $? >&2"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, stdout=write, stderr=subprocess.PIPE, text=True, check=False, env=BUFFERED
    )
    os.close(write)
    assert done.stderr == "141\n"


def test_a_full_standard_output_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [ONESTEP, "params"], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=BUFFERED
        )
    assert done.returncode == 75
    assert done.stderr.startswith("onestep: standard output cannot be written: no space is left on the disk")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seed", "99999999999999999999"], "the nearest legal value is 9223372036854775807"),
        (["--frames", "-3"], "-3 is not a whole number from 1 to 100001; the nearest legal value is 1"),
        (["--steps", "-1"], "the nearest legal value is 1"),
        (["--steps", "0"], "the nearest legal value is 1"),
        (["--text-tokens", "0"], "the nearest legal value is 1"),
        (["--guidance", "nan"], "nan is not a number from 1 to 100"),
        (["--guidance", "inf"], "the nearest legal value is 100"),
        (["--guidance", "0.5"], "the nearest legal value is 1"),
        (["--height", "yes"], "yes is not a whole number from 1 to 16384"),
        (["--out", "base"], "base is a folder: give a file"),
        (["--out", "params.yaml/clip.mp4"], "params.yaml is not a folder"),
        (["--out", "/dev/null"], "/dev/null is a pipe or a device"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_number_or_place_out_of_range_names_the_nearest(words, said, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "params.yaml").touch()
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert run(["generate", "a red circle", "--model", "base", "--out", "clip.mp4", *words], monkeypatch) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words[0] in line and said in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "params.yaml"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--frames", "6"], "6 frames cannot be encoded; the nearest legal number is 5"),
        (["--height", "33"], "height 33 is not a multiple of"),
        (["--frames", "100001", "--height", "16384", "--width", "16384"], "need more than"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_size_that_the_model_cannot_make_names_the_nearest(words, said, tmp_path, monkeypatch, capsys) -> None:
    save_pipeline(tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "clip.mp4"
    out.write_bytes(b"kept")
    assert said in refused(
        ["generate", "a red circle", "--model", "base", "--out", "clip.mp4", *words], monkeypatch, capsys
    )
    assert out.read_bytes() == b"kept"


@pytest.mark.parametrize("out", ["-dash.mp4", "clip.MP4", "new/deep/clip.gif"])
def test_a_clip_is_written_under_any_name(out, tmp_path, monkeypatch) -> None:
    save_pipeline(tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    assert run(["generate", "a red circle", "--model", "base", "--steps", "1", f"--out={out}"], monkeypatch) == 0
    assert (tmp_path / out).stat().st_size > 100


def test_an_output_in_the_place_of_an_input_is_refused(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "data" / "clips").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert run(["encode", "data/clips", "base", "v.json", "--out", "data"], monkeypatch) == 2
    assert "data would replace data/clips, which is read" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["transformer/diffusion_pytorch_model.safetensors", "vae/config.json"])
def test_a_model_that_is_cut_short_is_named_with_its_file(part, tmp_path, monkeypatch, capsys) -> None:
    save_pipeline(tmp_path / "base")
    broken = tmp_path / "base" / part
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    monkeypatch.chdir(tmp_path)
    said = refused(["generate", "a red circle", "--model", "base", "--out", "clip.mp4"], monkeypatch, capsys)
    assert said.startswith(f"base/{part} ")
