import json

import numpy as np
import pandas as pd
import pytest

from onestep.core.storage import read_json, sha256_folder, write_json
from onestep.data.clips import load_frames, read_index
from onestep.demo import world
from onestep.evaluation.distances import Moments, make_draws
from onestep.evaluation.faults import FAULTS
from onestep.evaluation.fidelity import Margins, MarginsError, fidelity, read_margins, texture, whitening_within
from onestep.evaluation.gsb import gsb, preference, preferred
from onestep.evaluation.margins import fix_margins, margin
from onestep.evaluation.measurement import Measurement, make_measurer, measure
from onestep.evaluation.names import QUESTIONS
from onestep.evaluation.teacher import best_of_many_steps
from tests.evaluation.made import drawn, write_clips_of

CLIPS, CONFIDENCE = 24, 0.95
FAULTY = [
    ("grain", 0.5, "fidelity"),
    ("blur", 1.0, "fidelity"),
    ("flicker", 0.5, "structure"),
    ("shuffle", 0.5, "structure"),
]


@pytest.fixture(scope="module")
def draws():
    return make_draws(CLIPS, 96 - CLIPS, resamples=100, seed=0)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Eight real clips of each of 12 captions."""
    rows = drawn(12, seed=23)[1]
    frames = np.concatenate([drawn_of(rows, seed) for seed in range(8)])
    return write_clips_of(tmp_path_factory.mktemp("clips"), frames, pd.concat([rows] * 8, ignore_index=True))


@pytest.fixture(scope="module")
def clean(clips, judge):
    """The first real clips: frames, what their captions ask for, and what was measured."""
    rows = read_index(clips).head(CLIPS)
    frames = load_frames(clips, rows["clip_id"].tolist())
    return frames, rows, measure(frames, make_measurer(judge, rows, None))


@pytest.fixture(scope="module")
def reference(clips, judge):
    """Textures of the other real clips."""
    others = read_index(clips)["clip_id"].tolist()[CLIPS:]
    return texture(Moments(judge.assess(load_frames(clips, others)).patches))


@pytest.fixture(scope="module")
def margins_file(clips, judge_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("margins") / "margins.json"
    fix_margins(clips, judge_folder, path)
    return path


@pytest.fixture(scope="module")
def margins(margins_file):
    return read_margins(margins_file)


def drawn_of(rows, seed):
    rng = np.random.default_rng(seed)
    scenes = [world.Scene(*row) for row in rows[list(world.ATTRIBUTES)].itertuples(index=False)]
    return np.stack([world.draw(scene, 13, 64, rng) for scene in scenes])


def test_a_model_against_itself_is_the_same_on_every_prompt(clean, reference, margins, draws):
    cells = gsb(clean[2], clean[2], reference, margins, draws, CONFIDENCE)
    assert set(cells) == set(QUESTIONS)
    for cell in cells.values():
        assert cell == {"value": 0.0, "low": 0.0, "high": 0.0, "good": 0.0, "same": 1.0, "bad": 0.0}


@pytest.mark.parametrize(("fault", "strength", "question"), FAULTY)
def test_an_injected_fault_loses_the_question_it_belongs_to(
    judge, clean, reference, margins, draws, fault, strength, question
):
    frames, rows, measured = clean
    faulty = FAULTS[fault](frames, np.full(CLIPS, strength), np.random.default_rng(3))
    cell = gsb(measure(faulty, make_measurer(judge, rows, None)), measured, reference, margins, draws, CONFIDENCE)[
        question
    ]
    assert cell["value"] < -0.5 and cell["high"] < 0


def test_wrong_words_lose_on_text_and_on_nothing_else(judge, clean, reference, margins, draws):
    frames, rows, measured = clean
    other = rows.iloc[np.roll(np.arange(CLIPS), 1)].reset_index(drop=True)
    cells = gsb(measure(frames, make_measurer(judge, other, None)), measured, reference, margins, draws, CONFIDENCE)
    assert cells["text"]["high"] < 0
    assert cells["fidelity"]["same"] == cells["structure"]["same"] == 1.0


def test_exchanging_the_models_turns_every_sign(judge, clean, reference, margins, draws):
    frames, rows, measured = clean
    strength = np.linspace(0, 0.4, CLIPS)
    faulty = measure(FAULTS["grain"](frames, strength, np.random.default_rng(4)), make_measurer(judge, rows, None))
    there = gsb(faulty, measured, reference, margins, draws, CONFIDENCE)
    back = gsb(measured, faulty, reference, margins, draws, CONFIDENCE)
    assert there["fidelity"]["bad"] > 0
    for question in QUESTIONS:
        assert there[question]["value"] == -back[question]["value"]
        assert (there[question]["good"], there[question]["bad"]) == (back[question]["bad"], back[question]["good"])
        assert there[question]["low"] == pytest.approx(-back[question]["high"])


def test_a_difference_as_large_as_the_margin_is_still_the_same():
    steps = np.array([1.0, 0.8, 0.6, 0.4])
    assert preferred(steps - 0.8, 0.2).tolist() == [0.0, 0.0, 0.0, -1.0]
    assert preferred(0.8 - steps, 0.2).tolist() == [0.0, 0.0, 0.0, 1.0]


def test_a_margin_is_exceeded_by_at_most_one_in_twenty():
    rng = np.random.default_rng(0)
    for differences in (rng.standard_normal(1000), rng.choice([0.0, 0.2, -0.2], 1000, p=[0.9, 0.05, 0.05])):
        found = margin(differences)
        assert (abs(differences) > found).mean() <= 0.05
        assert (abs(differences) >= found).mean() > 0.05


def test_a_blend_of_two_kinds_of_real_clips_is_less_faithful_than_either():
    rng = np.random.default_rng(1)
    kinds = np.concatenate([rng.normal(-5, 1, (50, 4)), rng.normal(5, 1, (50, 4))])
    own, blend = fidelity(kinds, kinds, itself=True), fidelity(np.zeros((1, 4)), kinds)
    assert blend[0] < own.min()


def test_captions_without_attributes_leave_text_unmeasured(reference, draws, clean):
    measured = clean[2]
    bare = Measurement(measured.clips[["structural_stability"]], {}, measured.features, measured.patches)
    margins = Margins("judge", (13, 64, 64), {"fidelity": 1.0, "structural_stability": 0.1}, np.eye(48))
    found = preference({"onestep": bare, "teacher-25": bare}, "onestep", reference, margins, draws, 0.9, "teacher-25")
    assert set(found["onestep vs teacher-25"]) == {"fidelity", "structure"}
    assert "attribute columns" in found["unmeasured"]["text"]


def test_the_short_form_is_against_the_teachers_best_setting_of_25_steps_and_more(reference, draws, clean, margins):
    distance = {"teacher-4": 0.1, "teacher-25": 3.0, "teacher-25-g4": 1.0, "teacher-50": 2.0, "onestep": 0.0}
    models = {name: {"frechet_video_distance": {"value": value}} for name, value in distance.items()}
    settings = {name: {"steps": int(name.split("-")[1]) if "-" in name else 1} for name in models}
    best = best_of_many_steps(models, settings)
    assert best == "teacher-25-g4"
    measured = dict.fromkeys(models, clean[2])
    found = preference(measured, "onestep", reference, margins, draws, CONFIDENCE, best)
    assert found["against"] == best
    assert {q: found[q] for q in QUESTIONS} == found[f"onestep vs {best}"]
    assert best_of_many_steps({"teacher-4": models["teacher-4"]}, settings) == "teacher-4"
    assert best_of_many_steps({"onestep": models["onestep"]}, settings) is None


def test_margins_come_from_real_clips_of_one_caption(clips, margins_file, margins, judge_folder, tmp_path):
    assert read_json(margins_file)["real"] == {"split": "test", "clips": 96, "captions": 12, "pairs": 12 * 28}
    assert set(margins.margins) == {"fidelity", "structural_stability", "attribute_accuracy"}
    assert margins.margins["fidelity"] > 0 and margins.margins["structural_stability"] > 0
    assert margins.misfit(sha256_folder(judge_folder), (13, 64, 64)) is None
    assert "another judge" in margins.misfit("b" * 64, (13, 64, 64))
    assert "13 frames of 64 x 64" in margins.misfit(sha256_folder(judge_folder), (17, 64, 64))
    with pytest.raises(MarginsError, match=r"0 pairs of dev clips.*--split"):
        fix_margins(clips, judge_folder, tmp_path / "none.json", split="dev")
    assert not (tmp_path / "none.json").exists()


def test_whitening_is_by_what_differs_within_a_caption():
    rng = np.random.default_rng(2)
    captions = pd.Series(np.repeat(np.arange(50), 20).astype(str))
    content, own = np.repeat(rng.normal(0, 10, 50), 20), rng.normal(0, 1, 1000)
    vectors = np.stack([content + own, 0.1 * own + rng.normal(0, 0.2, 1000), np.zeros(1000)], axis=1)
    whitened = vectors @ whitening_within(vectors, captions)
    apart = whitened - pd.DataFrame(whitened).groupby(captions.to_numpy()).transform("mean").to_numpy()
    covariance = apart.T @ apart / 950
    assert covariance == pytest.approx(np.diag([0, 1, 1]), abs=1e-6)


def test_a_file_without_margins_is_refused_with_the_command_that_makes_it(tmp_path):
    write_json(tmp_path / "margins.json", {"judge": "a"})
    with pytest.raises(MarginsError, match="onestep margins data/clips"):
        read_margins(tmp_path / "margins.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("margins", {"fidelity": float("nan")}),
        ("margins", {"fidelity": -1.0}),
        ("margins", {"fidelity": "much"}),
        ("margins", {}),
        ("margins", []),
        ("shape", [5, 64]),
        ("shape", [5, float("inf"), 64]),
        ("shape", None),
        ("whitening", ["1 0", "0"]),
        ("whitening", ["1 nan", "0 1"]),
        ("whitening", ["1 0"]),
        ("judge", 5),
    ],
)
def test_margins_that_were_edited_wrongly_are_refused(tmp_path, key, value):
    good = {"judge": "a", "shape": [5, 64, 64], "margins": {"fidelity": 0.1}, "whitening": ["1 0", "0 1"]}
    path = tmp_path / "margins.json"
    path.write_text(json.dumps(good))
    assert read_margins(path).margins == {"fidelity": 0.1}
    path.write_text(json.dumps(good | {key: value}))
    with pytest.raises(MarginsError, match=r"margins\.json holds no margins"):
        read_margins(path)
    path.write_text(json.dumps(good)[:40])
    with pytest.raises(MarginsError, match="is not valid JSON"):
        read_margins(path)
