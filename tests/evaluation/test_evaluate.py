import json
import math
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from onestep.core.rounding import rounded
from onestep.core.storage import read_json, sha256_folder, write_json
from onestep.data.clips import load_frames, read_index
from onestep.evaluation import clip_metrics, names
from onestep.evaluation.evaluate import EvaluationError, as_reported, evaluate
from onestep.evaluation.faults import grain
from onestep.evaluation.statistics import Comparison
from onestep.gate.evidence import Evidence
from onestep.gate.pin import Pin
from onestep.gate.rules import floors
from onestep.gate.settings import GateSettings
from onestep.inference.samples import SamplesError, read_samples
from onestep.report.metric_definitions import DEFINITIONS, Definition, definition_of
from onestep.report.report import write_report
from tests.evaluation.made import PROMPTS, write_clips_folder, write_family
from tests.pins import FIRST

WAYS = {
    "onestep": (1, 1.0), "consistency": (1, 1.0), "teacher-1": (1, 1.0), "teacher-4": (4, 1.0), "teacher-4-g4": (4, 4.0),
    "real-vae": (0, 1.0),
}  # fmt: skip


def families(root, clips):
    """Sample folders whose models are the real clips under ever more grain."""
    index = read_index(clips)
    prompts = index[index["split"] == "test"].head(PROMPTS).reset_index(drop=True).assign(prompt_id=range(PROMPTS))
    known = [c for c in ("size", "colour", "shape", "motion", "background") if c in prompts.columns]
    prompts = prompts[["prompt_id", "caption", "clip_id", *known]]
    real = load_frames(clips, prompts["clip_id"].tolist())
    strength = {
        "onestep": 0.1,
        "consistency": 0.3,
        "teacher-1": 0.8,
        "teacher-4": 0.4,
        "teacher-4-g4": 0.2,
        "real-vae": 0.02,
    }
    made = {name: grain(real, np.full(PROMPTS, s), np.random.default_rng(1)) for name, s in strength.items()}
    names = {"onestep": ["onestep"], "consistency": ["consistency"], "teacher": list(strength)[2:]}
    return [write_family(root / f, prompts, {n: made[n] for n in members}, WAYS) for f, members in names.items()]


@pytest.fixture(scope="module")
def samples(tmp_path_factory, clips):
    return families(tmp_path_factory.mktemp("samples"), clips)


@pytest.fixture(scope="module")
def margins(tmp_path_factory, judge, judge_folder):
    path = tmp_path_factory.mktemp("margins") / "margins.json"
    within = {"fidelity": 0.05, "structural_stability": 0.05, "attribute_accuracy": 0.2}
    whitening = [" ".join(map(str, row)) for row in np.eye(2 * judge.config["patch_features"])]
    content = {"judge": sha256_folder(judge_folder), "shape": [13, 64, 64], "margins": within, "whitening": whitening}
    write_json(path, content)
    return path


@pytest.fixture(scope="module")
def reports(tmp_path_factory, samples, clips, judge_folder, settings, margins):
    out = tmp_path_factory.mktemp("reports")
    evaluate(samples, clips, judge_folder, out, settings, margins=margins)
    return out


@pytest.fixture(scope="module")
def numbers(reports):
    return read_json(reports / "metrics.json")


def test_every_model_and_both_ceilings_have_every_metric_with_an_interval_around_it(numbers):
    assert set(numbers["models"]) == {*WAYS, "real"}
    for cells in numbers["models"].values():
        assert set(cells) == set(numbers["metrics"])
        for cell in cells.values():
            assert set(cell) == {"value", "low", "high"}
            assert all(map(math.isfinite, cell.values()))
            assert cell["low"] <= cell["value"] + 1e-9 and cell["value"] <= cell["high"] + 1e-9


def test_numbers_have_the_digits_that_machines_agree_on(numbers):
    for table in ("models", "comparisons", "gsb"):
        assert rounded(numbers[table], 4, 6) == numbers[table] != rounded(numbers[table], 3, 6)


def test_a_p_value_keeps_its_digits_however_small_and_what_was_offered_stays_exact():
    test = {"p_value": 1.23456789e-7, "difference": 1.23456789e-7, "permutations": 9_999_999}
    report = {"tests": {"onestep vs teacher-4": {"motion": test}}, "comparison": {"alpha": 0.006123456789}}
    found = as_reported(report)
    assert found["tests"]["onestep vs teacher-4"]["motion"] == test | {"p_value": 1.235e-7, "difference": 0.0}
    assert found["comparison"] == report["comparison"]


def test_the_candidate_is_compared_with_every_other_row(numbers):
    assert set(numbers["comparisons"]) == {f"onestep vs {name}" for name in {*WAYS, "real"} - {"onestep"}}
    difference = numbers["comparisons"]["onestep vs teacher-1"]["background_grain"]
    assert difference["difference"] < 0 and difference["high"] < 0
    values = [numbers["models"][name]["background_grain"]["value"] for name in ("onestep", "teacher-1")]
    assert difference["difference"] == pytest.approx(values[0] - values[1], rel=1e-3)


def test_more_grain_is_further_from_real(numbers):
    def values(metric, *names):
        return [numbers["models"][name][metric]["value"] for name in names]

    grain = values("background_grain", "real", "onestep", "teacher-4", "teacher-1")
    assert grain == sorted(grain)
    # 24 clips cannot tell the candidate's faint grain from none by the distance of their features
    for clean in ("real", "onestep"):
        distances = values("frechet_video_distance", clean, "teacher-4", "teacher-1")
        assert distances == sorted(distances)


def test_sizes_of_the_sets_and_what_was_not_measured_are_stated(numbers):
    assert numbers["prompts"] == PROMPTS
    assert numbers["reference"] == {"clips": 40, "splits": {"test": 40}}
    assert numbers["bootstrap"]["resamples"] == 60
    assert "evaluate.text_model" in numbers["unmeasured"]["text_alignment"]
    assert not set(numbers["unmeasured"]) & set(numbers["metrics"])


def test_the_table_has_one_row_per_model_and_prompt_and_agrees_with_the_report(reports, numbers):
    table = pd.read_parquet(reports / "per_prompt.parquet")
    assert table.groupby("model").size().to_dict() == dict.fromkeys([*WAYS, "real"], PROMPTS)
    means = table.groupby("model")["attribute_accuracy"].mean()
    assert means["onestep"] == pytest.approx(numbers["models"]["onestep"]["attribute_accuracy"]["value"], rel=1e-3)
    right = (table["asked_colour"] == table["seen_colour"]).astype(float)
    assert (right == table["attribute_accuracy_colour"]).all()


def test_plots_hold_the_steps_of_every_sampled_model(reports):
    steps = pd.read_csv(reports / "plots" / "steps.csv")
    assert set(steps["model"]) == set(WAYS) - {"real-vae"}
    assert set(steps.loc[steps["model"] == "teacher-4-g4", "guidance"]) == {4.0}


def test_the_candidate_is_preferred_where_it_has_less_grain(numbers):
    found = numbers["gsb"]
    assert {name for name in found if " vs " in name} == {
        f"onestep vs {name}" for name in {*WAYS, "real"} - {"onestep"}
    }
    assert found["onestep vs teacher-1"]["fidelity"]["low"] > 0
    assert found["onestep vs real"]["fidelity"]["value"] < found["onestep vs teacher-1"]["fidelity"]["value"]
    assert found["against"] in ("teacher-4", "teacher-4-g4")
    assert found["fidelity"] == found[f"onestep vs {found['against']}"]["fidelity"]


def test_margins_of_another_judge_are_not_used(samples, clips, judge_folder, settings, margins, tmp_path):
    write_json(tmp_path / "margins.json", read_json(margins) | {"judge": "b" * 64})
    evaluate(samples, clips, judge_folder, tmp_path, settings, margins=tmp_path / "margins.json")
    found = read_json(tmp_path / "metrics.json")["gsb"]
    assert set(found["unmeasured"]) == {"fidelity", "structure", "text"} and "fidelity" not in found
    assert all("onestep margins" in reason for reason in found["unmeasured"].values())
    write_report(tmp_path / "metrics.json", samples, clips, tmp_path / "report.html", settings)
    assert "fixed with another judge" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_same_inputs_give_the_same_bytes(reports, samples, clips, judge_folder, settings, margins, tmp_path):
    evaluate(samples, clips, judge_folder, tmp_path, settings, margins=margins)
    assert sha256_folder(tmp_path) == sha256_folder(reports)


def test_footage_without_attributes_is_evaluated_and_says_what_is_missing(tmp_path, judge_folder, settings):
    clips = write_clips_folder(tmp_path, with_attributes=False)
    evaluate(families(tmp_path / "samples", clips), clips, judge_folder, tmp_path / "out", settings)
    numbers = read_json(tmp_path / "out" / "metrics.json")
    assert "attribute" in numbers["unmeasured"]["attribute_accuracy"]
    assert "colour" in numbers["unmeasured"]["attribute_accuracy_colour"]
    assert {"frechet_video_distance", "structural_stability"} <= set(numbers["models"]["onestep"])
    assert "mode_coverage" not in numbers["models"]["onestep"]


def test_families_of_other_prompts_or_noise_are_refused(samples, tmp_path, clips):
    prompts = pd.read_parquet(samples[0] / "prompts.parquet")
    frames = load_frames(clips, prompts["clip_id"].tolist())
    other = write_family(tmp_path / "a", prompts.iloc[::-1], {"champion": frames}, {"champion": (1, 1.0)})
    with pytest.raises(SamplesError, match="other prompts"):
        read_samples([samples[0], other])
    noisy = write_family(tmp_path / "b", prompts, {"champion": frames}, {"champion": (1, 1.0)}, seed=10)
    with pytest.raises(SamplesError, match="other noise"):
        read_samples([samples[0], noisy])


def test_an_empty_family_is_passed_over_and_no_family_is_refused(samples, tmp_path):
    assert [s.name for s in read_samples([samples[0], tmp_path]).sets] == ["onestep"]
    with pytest.raises(SamplesError, match="none of"):
        read_samples([tmp_path])


def test_too_few_clips_beside_the_prompts_are_refused(tmp_path, samples, judge, settings):
    from onestep.evaluation.evaluate import make_measurer, read_reference

    clips = write_clips_folder(tmp_path, with_attributes=True)
    prompts = read_index(clips)[["clip_id", "caption"]]
    with pytest.raises(EvaluationError, match="nearest legal"):
        read_reference(clips, make_measurer(judge, prompts, None))


class Links(HTMLParser):
    """Every address that a page would load or lead to."""

    def __init__(self):
        super().__init__()
        self.found = []
        self.pictures = []

    def handle_starttag(self, tag, attrs):
        self.found += [
            value for name, value in attrs if name in ("src", "href", "srcset", "poster", "data", "xlink:href")
        ]
        self.pictures += [dict(attrs)["src"] for _ in [0] if tag == "img"]


def test_another_metric_is_a_function_a_direction_and_a_definition(
    tmp_path, samples, clips, judge_folder, settings, monkeypatch
):
    """As CONTRIBUTING.md says it is added; it is then compared, tested, shown, and a floor of the gate can name it."""
    monkeypatch.setitem(clip_metrics.METRICS, "contrast", lambda frames: frames.std((1, 2, 3, 4)) / 255)
    monkeypatch.setitem(names.BETTER, "contrast", "higher")
    said = Definition("contrast", "Contrast", "per clip", "share of full scale", "Spread of a clip's grey levels.")
    monkeypatch.setitem(DEFINITIONS, "contrast", said)
    evaluate(samples, clips, judge_folder, tmp_path, settings, Comparison(0.01, 9, None))
    numbers = read_json(tmp_path / "metrics.json")
    assert 0 < numbers["models"]["onestep"]["contrast"]["value"] < 1
    assert (
        "contrast" in numbers["comparisons"]["onestep vs real"]
        and "contrast" in numbers["tests"]["onestep vs teacher-1"]
    )
    write_report(tmp_path / "metrics.json", samples, clips, tmp_path / "report.html", settings)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("Contrast") == 2 and "<h3>Other</h3>" in page  # a column and a definition
    evidence = Evidence(numbers, {}, {}, Pin.model_validate(FIRST), {})
    rules = {"floors": {"contrast": 0.5}, "min_speedup": 1.0}
    (floor,) = floors(evidence, GateSettings.model_construct(**rules))
    assert floor.outcome == "passed"


@pytest.fixture(scope="module")
def page(reports, samples, clips, settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    time = {"value": 0.02, "low": 0.019, "high": 0.022}
    write_json(
        folder / "latency.json", {"models": {name: {"denoiser_s": time} for name in ("onestep", "teacher-4-g4")}}
    )
    rule = {"name": "prompts", "outcome": "held", "reason": "24 test prompts, 128 needed", "observed": 24.0}
    verdict = {"candidate": "onestep", "verdict": "hold", "reason": "Not proven: <few> prompts.", "rules": [rule]}
    write_json(folder / "verdict.json", verdict)
    curve = folder / "curves" / "plots" / "metrics" / "loss.tsv"
    curve.parent.mkdir(parents=True)
    curve.write_text("step\tloss\n0\t2.5\n1\t1.25\n2\t1.0\n")
    out = folder / "report.html"
    latency, verdict = folder / "latency.json", folder / "verdict.json"
    stages = {"adversarial": folder / "curves"}
    clips_of = pd.read_parquet(reports / "per_prompt.parquet")
    clips_of.loc[clips_of["model"] == "onestep", "attribute_accuracy_motion"] = 0.0
    clips_of.to_parquet(folder / "per_prompt.parquet")
    every = folder / "per_prompt.parquet"
    write_report(reports / "metrics.json", samples, clips, out, settings, latency, verdict, stages, every)
    return out.read_text(encoding="utf-8")


def test_the_page_loads_nothing_from_outside(page):
    links = Links()
    links.feed(page)
    assert links.found and all(address.startswith("data:") for address in links.found)
    assert "@import" not in page and "url(" not in page and "<script" not in page


def test_the_page_shows_every_prompts_clips_side_by_side(page, settings, samples):
    links = Links()
    links.feed(page)
    columns = len({*WAYS, "real"})
    assert len(links.pictures) == settings.gallery * columns
    prompts = pd.read_parquet(samples[0] / "prompts.parquet")
    assert all(caption in page for caption in prompts["caption"].head(settings.gallery))


def test_the_page_holds_verdict_latency_curves_and_what_was_not_measured(page):
    for part in (
        "Not proven: &lt;few&gt; prompts.",
        "Latency",
        "adversarial",
        "evaluate.text_model",
        "Quality over steps",
        "<h2>Preference</h2>",
        "Attribute errors",
        "−38.5",
    ):
        assert part in page


def test_the_page_does_without_what_does_not_exist_yet(reports, samples, clips, settings, tmp_path):
    write_report(reports / "metrics.json", samples, clips, tmp_path / "report.html", settings)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h2>Verdict</h2>" not in page and "<h2>Latency</h2>" not in page and "<h2>Training</h2>" not in page
    assert json.dumps(str(tmp_path)) not in page


def test_the_candidate_is_tested_against_every_model_before_there_is_a_champion(
    tmp_path, samples, clips, judge_folder, settings
):
    evaluate(samples, clips, judge_folder, tmp_path, settings, Comparison(0.01, 9, sha256_folder(judge_folder)))
    numbers = read_json(tmp_path / "metrics.json")
    assert set(numbers["tests"]) == {f"onestep vs {name}" for name in set(WAYS) - {"onestep", "real-vae"}}
    assert numbers["comparison"] == {"alpha": 0.01, "seed": 9, "candidate": None}
    for name, cells in numbers["tests"].items():
        assert {"frechet_video_distance", "attribute_accuracy", "background_grain", "diversity"} <= set(cells)
        for metric, cell in cells.items():
            assert set(cell) == {"p_value", "difference", "permutations"}
            if definition_of(metric).unit.startswith(("share", "grey")):
                expected = numbers["comparisons"][name][metric]["difference"]
                assert cell["difference"] == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert numbers["tests"]["onestep vs teacher-1"]["background_grain"]["p_value"] == pytest.approx(0.001)
    assert numbers["tests"]["onestep vs teacher-1"]["diversity"]["p_value"] > 0.001


def test_with_a_champion_it_alone_is_tested_against(tmp_path, samples, clips, judge_folder, settings):
    folder = tmp_path / "champion"
    shutil.copytree(samples[1], folder)
    (folder / "consistency.safetensors").rename(folder / "champion.safetensors")
    record = read_json(folder / "samples.json")
    write_json(folder / "samples.json", record | {"samples": [record["samples"][0] | {"name": "champion"}]})
    first, second = (tmp_path / name for name in ("first", "second"))
    for out in (first, second):
        evaluate([*samples, folder], clips, judge_folder, out, settings, Comparison(0.01, 9, None))
    tests = read_json(first / "metrics.json")["tests"]
    assert set(tests) == {"onestep vs champion"}
    assert tests["onestep vs champion"]["background_grain"]["p_value"] == pytest.approx(0.001)
    assert (first / "metrics.json").read_bytes() == (second / "metrics.json").read_bytes()


@pytest.mark.parametrize(
    ("comparison", "sentence"),
    [
        (Comparison(0.01, 9, "0" * 64), "the judge must not change"),
        (Comparison(0.01, 10, None), r"sampled with another seed than the 10 of data/production\.json"),
    ],
)
def test_another_judge_or_noise_than_was_offered_is_refused(
    tmp_path, samples, clips, judge_folder, settings, comparison, sentence
):
    with pytest.raises(EvaluationError, match=sentence):
        evaluate(samples, clips, judge_folder, tmp_path / "out", settings, comparison)
    assert not (tmp_path / "out").exists()
