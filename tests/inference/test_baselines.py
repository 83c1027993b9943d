import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from onestep.core.storage import read_json, sha256_folder, write_json
from onestep.evaluation.baselines import keep_baselines
from onestep.evaluation.evaluate import EvaluationError, evaluate
from onestep.evaluation.judge import load_judge
from onestep.evaluation.measurement import make_measurer, measure, measuring_code, read_measurement
from onestep.inference import baselines
from onestep.inference.baselines import sample_baselines
from onestep.inference.sampler import sample_student
from onestep.inference.samples import read_samples
from onestep.inference.settings import SamplesSettings
from tests.evaluation.made import drawn, write_clips_of
from tests.tiny import FRAMES, SIDE, TOKENS, save_pipeline

BUNDLED = Path(__file__).parents[2] / "data" / "bundled"
SETTINGS = SamplesSettings(prompts=8, seed=1, teacher=((1, 1.0), (2, 4.0)), batch=4)
MEASURING = measuring_code()
SETS = ["teacher-1", "teacher-2-g4", "real-vae"]


@pytest.fixture(scope="module")
def small_clips(tmp_path_factory):
    """Test clips of the tiny pipeline's size."""
    frames, rows = drawn(16, seed=4)
    return write_clips_of(tmp_path_factory.mktemp("small-clips"), frames[:, :FRAMES, :SIDE, :SIDE], rows)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_pipeline(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="module")
def sampled(tmp_path_factory, base, small_clips, judge_folder):
    out = tmp_path_factory.mktemp("sampled") / "teacher"
    sample_baselines(base, small_clips, judge_folder, out.parent / "none", out, TOKENS, SETTINGS, MEASURING)
    return out


@pytest.fixture(scope="module")
def shipped(tmp_path_factory, sampled, small_clips, judge_folder):
    out = tmp_path_factory.mktemp("shipped") / "baselines"
    keep_baselines(sampled, small_clips, judge_folder, out)
    return out


def again(tmp_path, base, clips, judge, shipped, settings=SETTINGS, tokens=TOKENS, measuring=None):
    """The names of the sets that a run with these inputs takes from `shipped`."""
    out = tmp_path / "teacher"
    sample_baselines(base, clips, judge, shipped, out, tokens, settings, measuring or MEASURING)
    names = [entry["name"] for entry in read_json(out / "samples.json")["samples"]]
    return [name for name in names if (out / f"{name}.measured.safetensors").is_file()], names


def test_what_ships_is_reused_when_nothing_changed(tmp_path, base, small_clips, judge_folder, shipped):
    assert again(tmp_path, base, small_clips, judge_folder, shipped) == (SETS, SETS)


def test_reports_from_shipped_and_from_sampled_baselines_are_the_same(
    tmp_path, base, small_clips, judge_folder, sampled, shipped, settings
):
    again(tmp_path, base, small_clips, judge_folder, shipped)
    for name, folder in {"sampled": sampled, "shipped": tmp_path / "teacher"}.items():
        evaluate([folder], small_clips, judge_folder, tmp_path / name, settings)
    for file in ("metrics.json", "per_prompt.parquet"):
        assert (tmp_path / "sampled" / file).read_bytes() == (tmp_path / "shipped" / file).read_bytes()


def test_a_setting_that_does_not_ship_is_sampled_beside_those_that_do(
    tmp_path, base, small_clips, judge_folder, shipped
):
    more = SETTINGS.model_copy(update={"teacher": ((1, 1.0), (4, 1.0))})
    assert again(tmp_path, base, small_clips, judge_folder, shipped, more) == (
        ["teacher-1", "real-vae"], ["teacher-1", "teacher-4", "real-vae"],
    )  # fmt: skip


@pytest.mark.parametrize("changed", ["noise", "prompts", "text", "base", "judge", "sampling code", "measuring code"])
def test_any_change_of_what_made_them_means_sampling_anew(
    changed, tmp_path, base, small_clips, judge_folder, shipped, monkeypatch
):
    settings, tokens, measuring = SETTINGS, TOKENS, MEASURING
    if changed == "noise":
        settings = SETTINGS.model_copy(update={"seed": 2})
    elif changed == "prompts":
        settings = SETTINGS.model_copy(update={"prompts": 7})
    elif changed == "text":
        tokens = TOKENS + 1
    elif changed == "base":
        base = shutil.copytree(base, tmp_path / "base")
        write_json(base / "onestep.json", read_json(base / "onestep.json") | {"name": "another"})
    elif changed == "judge":
        other = load_judge(judge_folder)
        other.probe.linear.bias.data += 1
        judge_folder = tmp_path / "judge"
        judge_folder.mkdir()
        other.save(judge_folder)
    elif changed == "sampling code":
        monkeypatch.setattr(baselines, "_CODE", baselines._CODE[:-1])
    else:
        measuring = MEASURING | {"evaluation/judge.py": "0" * 64}
    assert again(tmp_path, base, small_clips, judge_folder, shipped, settings, tokens, measuring)[0] == []


def test_other_pixels_of_the_real_clips_change_only_what_was_made_from_them(
    tmp_path, base, small_clips, judge_folder, shipped, monkeypatch
):
    real = baselines.load_frames
    monkeypatch.setattr(baselines, "load_frames", lambda *args: real(*args) ^ 1)
    assert again(tmp_path, base, small_clips, judge_folder, shipped)[0] == ["teacher-1", "teacher-2-g4"]


def test_the_bundled_baselines_fit_the_bundled_base_and_this_code():
    """Red after a change of the sampler, a metric or the base: `data/bundled/README.md` says how to measure again."""
    record = read_json(BUNDLED.parent / "baselines" / "samples.json")
    assert record["code"] == {**baselines.code(), **MEASURING}
    assert record["model_sha256"] == sha256_folder(BUNDLED / "tiny-wan")


def test_measurements_come_back_bit_for_bit(tmp_path, small_clips, judge_folder, sampled):
    found = read_samples([sampled])
    fresh = measure(found.sets[0].frames(), make_measurer(load_judge(judge_folder), found.prompts, None))
    fresh.save(tmp_path / "measured.safetensors")
    kept = read_measurement(tmp_path / "measured.safetensors")
    assert kept.clips.equals(fresh.clips)
    np.testing.assert_array_equal(kept.features, fresh.features)
    assert all((kept.attributes[name] == fresh.attributes[name]).all() for name in fresh.attributes)
    weights = np.random.default_rng(0).integers(0, 3, (2, len(fresh.clips))).astype(float)
    for ours, theirs in zip(kept.patches.fit(weights), fresh.patches.fit(weights), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_shipped_baselines_without_text_alignment_are_refused_where_it_is_asked_for(
    tmp_path, base, small_clips, judge_folder, shipped, settings, monkeypatch
):
    again(tmp_path, base, small_clips, judge_folder, shipped)
    monkeypatch.setattr("onestep.evaluation.measurement.TextAlignment", lambda url: object())
    with pytest.raises(EvaluationError, match=r"without evaluate\.text_model"):
        asked = settings.model_copy(update={"text_model": "somewhere"})
        evaluate([tmp_path / "teacher"], small_clips, judge_folder, tmp_path / "reports", asked)


def test_a_student_stands_beside_shipped_baselines(tmp_path, base, small_clips, judge_folder, shipped, settings):
    again(tmp_path, base, small_clips, judge_folder, shipped)
    sample_student(base, "onestep", small_clips, tmp_path / "onestep", TOKENS, SETTINGS)
    evaluate([tmp_path / "onestep", tmp_path / "teacher"], small_clips, judge_folder, tmp_path / "reports", settings)
    comparisons = json.loads((tmp_path / "reports" / "metrics.json").read_text())["comparisons"]
    same = comparisons["onestep vs teacher-1"]  # the same network from the same noise in one step
    assert all(abs(cell["difference"]) < 1e-9 for cell in same.values())
    assert set(comparisons) == {f"onestep vs {name}" for name in [*SETS, "real"]}
