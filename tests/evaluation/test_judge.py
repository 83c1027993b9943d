import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from onestep.core.storage import read_json, write_json
from onestep.demo import world
from onestep.evaluation.judge import Judge, JudgeConfig, JudgeError, convolutional_judge, load_judge
from onestep.evaluation.network import Depths
from onestep.pretraining.judge import ClassError, LabelledClips, _varied, class_numbers, train_judge
from onestep.pretraining.settings import JudgeTraining
from tests.evaluation.conftest import BUNDLED
from tests.evaluation.made import drawn, write_clips_folder


@pytest.fixture(scope="module")
def real():
    return drawn(24, seed=31)


def test_probabilities_and_features_have_a_row_per_clip(judge, real):
    frames, _ = real
    for name, found in judge.attributes(frames).items():
        assert found.shape == (24, len(judge.vocabulary[name]))
        assert found.sum(1) == pytest.approx(np.ones(24), abs=1e-5)
    assert judge.features(frames).shape == (24, judge.config["features"])
    assert judge.patch_features(frames).shape == (24 * 4 * 4 * 4, judge.config["patch_features"])


def test_clips_of_any_size_are_judged(judge):
    for shape in ((2, 5, 32, 48, 3), (1, 17, 96, 64, 3), (1, 1, 16, 16, 3)):
        frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        assert judge.features(frames).shape == (shape[0], judge.config["features"])
        assert len(judge.patch_features(frames)) % shape[0] == 0
        assert np.isfinite(judge.patch_features(frames)).all()


def test_a_clips_features_do_not_depend_on_its_neighbours(judge, real):
    frames, _ = real
    assert judge.features(frames[:1]) == pytest.approx(judge.features(frames)[:1], abs=1e-4)


def test_a_saved_judge_judges_the_same(judge, real, tmp_path):
    judge.save(tmp_path)
    before, after = judge.assess(real[0]), load_judge(tmp_path).assess(real[0])
    assert list(after.attributes) == list(before.attributes)
    assert all(np.array_equal(after.attributes[name], found) for name, found in before.attributes.items())
    assert np.array_equal(after.features, before.features)


@pytest.mark.skipif(not (BUNDLED / "config.json").is_file(), reason="no judge is bundled yet")
def test_the_bundled_judge_gives_the_numbers_that_it_always_gave(tmp_path):
    """Its folder is older than the sizes in `config.json`; what it says of clips and what is saved of it stay the same."""
    judge = load_judge(BUNDLED)
    frames = np.random.default_rng(0).integers(0, 256, (2, 5, 32, 48, 3), dtype=np.uint8)
    found = judge.assess(frames)
    assert found.features[0, :3] == pytest.approx([-1.0711030960, 2.5156946182, -3.1508531570], rel=1e-5)
    assert found.features.sum() == pytest.approx(-13.05983, rel=1e-4)
    assert found.patches[1, 2, :3] == pytest.approx([-0.6213181018, 0.1039844229, -0.0572089031], rel=1e-4)
    assert found.attributes["colour"][0, :2] == pytest.approx([0.0830974429, 0.6094865798], rel=1e-4)
    judge.save(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == (BUNDLED / "model.safetensors").read_bytes()


def test_sizes_of_a_judge_are_settings(real, tmp_path):
    sizes = {"features": 20, "patch_features": 7, "patch_pixels": 32, "patch_frames": 13}
    config = JudgeConfig(vocabulary=(), faults=("grain",), width=2, seed=0, **sizes)
    judge = convolutional_judge(config)
    judge.save(tmp_path)
    found = load_judge(tmp_path).assess(real[0][:3])
    assert found.attributes == {} and found.features.shape == (3, 20) and found.patches.shape == (3, 4, 7)


def test_a_part_can_be_replaced(judge, real):
    """Another extractor of features stands beside the same probe and texture."""

    class MeanColour(nn.Module):
        def forward(self, depths: Depths) -> torch.Tensor:
            return depths.clips.mean((2, 3, 4))

    other = Judge(judge.config, judge.network, judge.probe, MeanColour(), judge.texture)
    ours, theirs = other.assess(real[0]), judge.assess(real[0])
    assert ours.features == pytest.approx(real[0].mean((1, 2, 3)) / 127.5 - 1, abs=1e-5)
    assert np.array_equal(ours.patches, theirs.patches)
    assert all(np.array_equal(ours.attributes[name], found) for name, found in theirs.attributes.items())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"kind": "oracle"}, "'oracle' is unknown; known are convolutional"),
        ({"width": "wide"}, "width"),
        ({"eyes": 2}, "eyes"),
    ],
)
def test_a_config_that_is_no_judges_is_refused_by_its_key(judge, tmp_path, change, sentence):
    judge.save(tmp_path)
    write_json(tmp_path / "config.json", read_json(tmp_path / "config.json") | change)
    with pytest.raises(JudgeError, match=sentence):
        load_judge(tmp_path)


def test_a_folder_without_weights_is_refused_by_name(judge, tmp_path):
    judge.save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(JudgeError, match=str(tmp_path)):
        load_judge(tmp_path)


def test_something_that_is_not_a_clip_is_refused(judge):
    with pytest.raises(JudgeError, match="uint8"):
        judge.features(np.zeros((1, 3, 16, 16, 3), np.float32))


def test_an_unknown_word_is_named():
    rows = drawn(3, seed=1)[1]
    with pytest.raises(ClassError, match="'mauve'"):
        class_numbers(rows.assign(colour=["red", "mauve", "red"]))
    with pytest.raises(ClassError, match="no column 'colour'"):
        class_numbers(rows.drop(columns="colour"))


def test_training_writes_a_judge_and_its_accuracy_on_held_out_clips(tmp_path):
    clips = write_clips_folder(tmp_path, with_attributes=True)
    index = pd.read_parquet(clips / "clips.parquet")
    index.loc[:40, "split"] = "train"
    index.to_parquet(clips / "clips.parquet", index=False)
    settings = JudgeTraining(seed=0, updates=2, batch=8, learning_rate=1e-3, width=4)
    train_judge(clips, tmp_path / "judge", settings)
    metrics = read_json(tmp_path / "judge" / "metrics.json")
    assert metrics["test"]["clips"] == (index["split"] == "test").sum()
    assert 0 <= metrics["test"]["shape"] <= 1
    first = (tmp_path / "judge" / "model.safetensors").read_bytes()
    train_judge(clips, tmp_path / "again", settings)
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == first


@pytest.mark.skipif(not (BUNDLED / "config.json").is_file(), reason="no judge is bundled yet")
def test_the_bundled_judge_names_held_out_clips():
    frames, rows = drawn(160, seed=41, held_out=True)
    judge = load_judge(BUNDLED)
    right = {
        name: (np.array(judge.vocabulary[name])[found.argmax(1)] == rows[name]).mean()
        for name, found in judge.attributes(frames).items()
    }
    assert np.mean(list(right.values())) >= 0.97 and min(right.values()) >= 0.93, right
    assert sum(file.stat().st_size for file in BUNDLED.iterdir()) < 4_000_000


def test_a_varied_clip_keeps_its_labels_true():
    frames, rows = drawn(48, seed=61)
    classes = class_numbers(rows)
    varied = _varied(LabelledClips(frames, classes), np.random.default_rng(0))
    words = world.vocabulary()["motion"]
    for number in range(len(frames)):
        centre = [
            np.argwhere(abs(frame.astype(int) - frame[0, 0]).sum(-1) > 60).mean(0) for frame in varied.frames[number]
        ]
        path = centre[-1] - centre[0]
        word = words[varied.classes["motion"][number]]
        axis, sign = {"sliding left": (1, -1), "sliding right": (1, 1), "rising": (0, -1), "falling": (0, 1)}.get(
            word, (0, 0)
        )
        assert sign == 0 or sign * path[axis] > 3, (word, path)
    assert np.array_equal(varied.classes["shape"], classes["shape"])
    counted = varied.classes["colour"] >= 0
    assert 0 < counted.sum() < len(frames)
    assert np.array_equal(varied.classes["colour"][counted], classes["colour"][counted])
