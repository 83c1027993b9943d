"""The command line: it answers at once, and what goes wrong is one sentence."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from onestep import cli
from onestep.yaml_files import dump_yaml, read_yaml
from tests.tiny import save_latents, save_pipeline

ROOT = Path(__file__).parents[1]
HELP = "import sys; sys.argv = ['onestep', '--help']; from onestep.cli import main; main()"
HEAVY = ("torch", "diffusers", "transformers", "pandas", "great_expectations", "evidently", "dvc", "prefect", "cv2")


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """What a shell would see as the exit code."""
    monkeypatch.setattr(sys, "argv", ["onestep", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
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
    for name in ("footage", "ingest", "encode", "adversarial", "gate", "generate", "look-back", "promote"):
        assert name in done.stdout


def test_help_takes_less_than_a_second_of_processor_time() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", HELP], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


def test_every_stage_of_the_graph_is_a_command_with_those_options() -> None:
    stages = read_yaml(ROOT / "dvc.yaml")["stages"]
    commands = {c.name or c.callback.__name__.replace("_", "-") for c in cli.app.registered_commands if c.callback}
    assert {stage["cmd"].split()[1] for stage in stages.values()} <= commands


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
        (["validate", "nowhere", "--out", "v.json", "--page", "v.html"], "nowhere/clips.parquet does not exist"),
        (["encode", "nowhere", "base", "v.json", "--out", "latents"], "v.json does not exist"),
        (["production", "production.json", "--out", "production"], "production.json does not exist"),
        (["gate", "m.json", "l.json", "v.json", "p.json", "seeds", "--out", "verdict.json"], "p.json does not exist"),
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


def test_a_programming_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("onestep.config.load_params", broken)
    monkeypatch.setattr(sys, "argv", ["onestep", "params"])
    with pytest.raises(KeyError, match="a bug"):
        cli.main()
