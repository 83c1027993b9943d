"""What is wrong in a settings file is one sentence before any stage runs: its file and line, key, reason, nearest legal value."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from candidates import read_profile
from onestep.cli.params import Params, load_params, overrides
from onestep.core.params import SettingsError, load_group, merged, parse_settings
from onestep.core.yaml_files import read_yaml
from onestep.evaluation import names
from onestep.gate.settings import GateSettings
from onestep.pretraining.settings import load_pretraining

ROOT = Path(__file__).parents[2]
SHIPPED = (ROOT / "params.yaml").read_text()
GROUPS = ["machine", "footage", "ingest", "validate", "drift", "base", "judge", "encode", "consistency", "adversarial",
          "samples", "evaluate", "latency", "gate", "retrain"]  # fmt: skip


@pytest.fixture
def content() -> dict[str, Any]:
    return read_yaml(ROOT / "params.yaml")


def edited(key: str, value: str) -> str:
    """The shipped text with the value of a dotted key replaced, or the key added to its group."""
    group, _, name = key.partition(".")
    start = SHIPPED.index(f"\n{group}:")
    pattern = re.compile(rf"^(\s+){re.escape(name)}: *[^#\n]*", re.MULTILINE)
    found = pattern.search(SHIPPED, start)
    assert found, key
    return f"{SHIPPED[: found.start()]}{found[1]}{name}: {value} {SHIPPED[found.end() :]}"


def refusal(path: Path, load: Callable[[Path], Any] = load_params) -> str:
    with pytest.raises(SettingsError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value).replace(str(path), "FILE")


@pytest.fixture
def said(tmp_path: Path) -> Callable[[str | bytes], str]:
    """What is said of a settings file with this text."""

    def of(text: str | bytes) -> str:
        (tmp_path / "params.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return refusal(tmp_path / "params.yaml")

    return of


def line_of(text: str) -> int:
    return SHIPPED[: SHIPPED.index(text)].count("\n") + 1


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("adversarial.r1", ".inf", "must be a finite number"),
        ("adversarial.sigma", ".nan", "must be a finite number"),
        ("adversarial.generator_lr", "1e300", "the nearest legal value is 10"),
        ("adversarial.generator_lr", "0", "the nearest legal value is 1e-12"),
        ("adversarial.batch", "true", "must be a whole number, not true"),
        ("adversarial.updates", '"yes"', "must be a whole number, not a text"),
        ("adversarial.updates", "yes", "must be a whole number, not a text"),
        ("adversarial.updates", '"60"', "not a text; the nearest legal value is 60"),
        ("adversarial.updates", "null", "must be a whole number, not null"),
        ("adversarial.updates", "-3", "the nearest legal value is 1"),
        ("adversarial.seed", "-1", "NumPy takes no negative seed"),
        ("adversarial.seed", "9" * 400, "the nearest legal value is 9223372036854775806"),
        ("adversarial.seed", "2026-01-31", "is a date, which no setting is"),
        ("adversarial.heads", "[]", "is empty: give at least one"),
        ("adversarial.heads", "[0.5, 0.5]", "has 0.5 twice"),
        ("adversarial.heads", "0.5", "must be a list, not a number with a point"),
        ("adversarial.ema", "[0.9, 0.9000000001]", "has 0.9 twice"),
        ("adversarial.ema", "[1.0]", "the nearest legal value is 0.9999999"),
        ("adversarial.loss", "relativstic", "the nearest legal value is relativistic"),
        ("adversarial.frame_logits", "1", "must be true or false, not a whole number"),
        ("adversarial.discriminator_warmup", "61", "is longer than the run of 60 updates; the nearest legal value is 60"),
        ("adversarial.end_game", "60", "leaves none of 60 updates before it; the nearest legal value is 59"),
        ("consistency.warmup", "301", "is longer than the run of 300 updates; the nearest legal value is 300"),
        ("validate.brightness", "[0.9, 0.1]", "is reversed, its lower end comes first: the nearest legal value is [0.1, 0.9]"),
        ("validate.movement", "[0.1]", "1 is missing"),
        ("validate.brightness", "[0.0, 0.01]", "no clip could pass: ingest.min_brightness = 0.02 is above its upper end"),
        ("ingest.frames", "16", "16 frames are not 4k+1; the nearest legal value is 17"),
        ("ingest.frames", "1", "clips of one frame have no movement; the nearest legal value is 0"),
        ("ingest.height", "60.0", "must be a whole number, not a number with a point; the nearest legal value is 60"),
        ("ingest.test_share", "0.95", "keep the sum below 1"),
        ("machine.threads", "100000", "the nearest legal value is 1024"),
        ("base.url", "foo://somewhere", "has a scheme that fsspec does not know, foo://"),
        ("base.url", "htps://example.org/base", "did you mean https://?"),
        ("base.url", '""', "is empty"),
        ("base.sha256", "abc", "has 64 hexadecimal digits"),
        ("evaluate.text_model", "foo://somewhere", "has a scheme that fsspec does not know, foo://"),
        ("samples.teacher", "[[1, 1.0], [1, 1]]", "has teacher-1 twice"),
        ("samples.teacher", "[[1, 1.0, 1.0]]", "must have 2 values, not 3"),
        ("samples.prompts", "3", "fewer prompts give no intervals"),
        ("gate.min_prompts", "129", "is more than samples.prompts = 128, so that nothing could be promoted"),
        ("gate.better_than", "[]", "is empty: give at least one"),
        ("gate.better_than", "[teacher-1, teacher-3]", "is no row that is sampled (samples.teacher)"),
        ("gate.reference", "teacher-25-g2", "did you mean teacher-25-g4?"),
        ("gate.reference", "champion", "known are teacher-1, "),
        ("gate.better_metrics", "[motion, motion]", "has motion twice"),
        ("gate.better_metrics", "[frechet_video_distanc]", "is not a metric; did you mean frechet_video_distance?"),
        ("gate.margins", "{motion: {absolute: .inf}}", "must be a finite number"),
        ("gate.margins", "{motion: {absolut: 1.0}}", "did you mean gate.margins.motion.absolute?"),
        ("gate.margins", "{motion: {absolute: 1.0, relative: 0.1}}", "not both and not none"),
        ("gate.margins", "{motion: 0.1}", "must be settings by name, not a number with a point"),
        ("gate.initial_wealth", "0.06", "the nearest legal value is 0.05"),
    ],
)  # fmt: skip
def test_a_value_that_no_run_could_use_is_named_with_its_line(said, key: str, value: str, reason: str) -> None:
    group, text = key.partition(".")[0], edited(key, value)
    if key == "gate.margins":  # without the shipped lines below it
        text = re.sub(r"^    (frechet_video_distance|attribute_accuracy): \{.*\n", "", text, flags=re.MULTILINE)
    sentence = said(text)
    assert reason in sentence
    blamed = re.match(r"FILE, line (\d+): ([\w.]+)", sentence)
    assert blamed, sentence
    line = text.splitlines()[int(blamed[1]) - 1]
    assert blamed[2].startswith(f"{group}.")
    assert any(part in line for part in blamed[2].split(".")[1:])
    assert blamed[2].startswith(key) or "keep the sum" in reason or "one frame" in reason


def test_a_metric_or_a_typo_in_a_group_of_free_names_is_named(said) -> None:
    typo = SHIPPED.replace("    fidelity: -1.0", "    fidelty: -1.0")
    line = line_of("    fidelity: -1.0")
    reason = "is not a metric that is measured while training; did you mean fidelity?"
    assert said(typo) == f"FILE, line {line}: adversarial.select.fidelty: {reason}"
    floor = SHIPPED.replace("    diversity: 0.7", "    diversty: 0.7")
    assert said(floor).endswith("gate.floors.diversty: is not a metric; did you mean diversity?")


def test_weights_that_choose_nothing_are_refused(said) -> None:
    none = re.sub(r"  select:.*\n(    .*\n)+", "  select: {}\n", SHIPPED)
    assert "adversarial.select = {}: names no metric with a weight" in said(none)


def test_levels_that_do_not_come_down_to_one_step_are_refused(content: dict[str, Any]) -> None:
    content["consistency"] |= {"target": "progressive", "levels": 12}
    with pytest.raises(SettingsError, match=r"consistency\.levels = 12: cannot be halved .* value is 16"):
        parse_settings(Params, content, "params.yaml")
    content["consistency"] |= {"levels": 1024, "updates": 9, "warmup": 0}
    with pytest.raises(SettingsError, match=r"consistency\.updates = 9: are fewer than the 10 halvings"):
        parse_settings(Params, content, "params.yaml")


def test_a_value_in_a_groups_place_is_refused(content: dict[str, Any]) -> None:
    content["consistency"]["dmd"] = [1]
    with pytest.raises(SettingsError, match=r"^x: consistency\.dmd = \[1\]: must be settings by name, not a list$"):
        parse_settings(Params, content, "x")


def test_a_whole_number_may_stand_for_a_number(content: dict[str, Any]) -> None:
    content["adversarial"]["r1"] = 1
    content["samples"]["teacher"] = [[1, 1], [2, 1], [4, 1], [25, 1]]
    found = parse_settings(Params, content, "params.yaml")
    assert (found.adversarial.r1, found.samples.teacher[0]) == (1.0, (1, 1.0))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "FILE: it is empty"),
        ("# nothing\n", "FILE: it is empty"),
        ("- 1\n", "FILE: it holds a list where settings by name are due"),
        ("just words\n", "FILE: it holds a text where settings by name are due"),
        ("5\n", "FILE: it holds a whole number where settings by name are due"),
        (SHIPPED.replace("machine:\n  threads: 2", "machine:"), "line 3: machine = null: must be settings by name, not null"),
        (SHIPPED + "\nmachine: {threads: 3}\n", "machine stands twice, first on line 3: keep one"),
        (SHIPPED.replace("  threads: 2", "  threads: 2\n  threads: 3"), "line 5: machine.threads stands twice, first on line 4"),
        (SHIPPED + "5: 3\n", "FILE: has the key 5, which is no name"),
        (SHIPPED.replace("  threads", "\tthreads"), "line 4 is not valid YAML: a tab; indent with spaces"),
        (SHIPPED + "---\na: 1\n", "is not valid YAML: expected a single document"),
        (SHIPPED.replace("seed: 7", "seed: !!python/object:os.system x"), "could not determine a constructor for the tag"),
        (SHIPPED.replace("seed: 7", "seed: &a [*a]"), "a value that holds itself by an alias"),
        (SHIPPED.replace("seed: 7", "seed: " + "[" * 5000), "values within values more than 100 deep"),
        (SHIPPED.encode().replace(b"footage:", b"foot\xe4ge:", 1), "byte 0xe4 is not UTF-8"),
        (SHIPPED.encode("utf-16"), "is not UTF-8"),
        (SHIPPED + "more: 1\n", "more is not a known setting; known are machine, "),
    ],
)  # fmt: skip
def test_a_file_that_is_no_settings_is_one_sentence(said, text: str | bytes, words: str) -> None:
    assert words in said(text)


def test_what_is_no_file_is_one_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path) == "FILE is a folder: give a YAML file"
    assert refusal(tmp_path / "pipe") == "FILE is not a regular file: give a YAML file"
    assert refusal(tmp_path / "none") == "FILE does not exist: run from the project's root or pass --params"


def test_every_group_of_a_file_is_read_as_strictly_alone(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"

    def gate(file: Path) -> GateSettings:
        return load_group(GateSettings, file, "gate")

    path.write_text("gate: 3\n")
    assert refusal(path, gate) == "FILE: gate: it holds a whole number where settings by name are due"
    path.write_text("machine: {threads: 2}\n")
    assert refusal(path, gate) == "FILE: gate is missing"
    path.write_text(edited("gate.alpha", "true"))
    assert refusal(path, gate) == f"FILE, line {line_of('  alpha:')}: gate.alpha = true: must be a number, not true"
    path.write_text(edited("machine.threads", ".inf"))  # another group's, and no number at all
    assert "machine.threads = inf: must be a finite number" in refusal(path, gate)
    path.write_text(SHIPPED + "machine: {}\n")
    assert "machine stands twice" in refusal(path, gate)
    path.write_text(SHIPPED)
    assert gate(path) == load_params(path).gate


def test_the_bundled_projects_settings_are_as_strict(tmp_path: Path) -> None:
    text, path = (ROOT / "data/bundled/params.yaml").read_text(), tmp_path / "params.yaml"
    for there, instead, words in (
        ("muon_lr: 0.02 ", "muon_lr: yes ", "vae.muon_lr = 'yes': must be a number"),
        ("warmup: 100 ", "warmup: 4001 ", "teacher.warmup = 4001: is longer than the run of 4000 updates"),
        ("  patch: 2 ", "  patch: 4 ", "ingest.height = 64"),
        ("brightness: [0.03, 0.97]", "brightness: [0.97, 0.03]", "validate.brightness = [0.97, 0.03]: is reversed"),
    ):
        path.write_text(text.replace(there, instead))
        if words.startswith("ingest"):
            load_pretraining(path)  # 64 is whole tokens of that autoencoder as well
        else:
            assert words in refusal(path, load_pretraining)
    path.write_text(text.replace("patch: 2 ", "patch: 3 "))
    assert "ingest.height = 64: is not a multiple of 24 (8 x vae.patch)" in refusal(path, load_pretraining)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "FILE: it is empty"),
        ("[1]", "FILE: it holds a list"),
        ("samples: 3\n", "line 1: samples = 3: must be settings by name"),
        ("samples: {prompt: 3}\n", "did you mean samples.prompts?"),
        ("gate:\n  margins: {motion: {absolut: 3}}\n", "line 2: gate.margins.motion.absolut is not a known setting"),
        ("samples:\n  prompts: 8\n  prompts: 9\n", "line 3: samples.prompts stands twice"),
        ("samples: {teacher: [[1, 1.0]]}\n", "gate.better_than.1 = 'teacher-2': is no row that is sampled"),
        ("adversarial: {updates: 10}\n", "adversarial.discriminator_warmup = 20: is longer than the run of 10 updates"),
        ("adversarial: {r1: .nan}\n", "adversarial.r1 = nan: must be a finite number"),
    ],
)
def test_a_wrong_profile_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "profile.yaml").write_text(text)
    assert words in refusal(tmp_path / "profile.yaml", lambda path: overrides(path, ROOT / "params.yaml"))


def test_a_profile_over_broken_settings_names_the_settings(tmp_path: Path) -> None:
    (tmp_path / "profile.yaml").write_text("samples: {prompts: 512}\n")
    (tmp_path / "params.yaml").write_text(edited("samples.batch", "0"))
    sentence = refusal(tmp_path / "params.yaml", lambda path: overrides(tmp_path / "profile.yaml", path))
    assert sentence.startswith(
        f"FILE, line {line_of('  batch: 16                   # clips denoised')}: samples.batch = 0"
    )


@pytest.mark.parametrize("name", ["full", "long"])
def test_every_profile_that_is_shipped_loads(name: str) -> None:
    assert overrides(ROOT / f"profiles/{name}.yaml", ROOT / "params.yaml")


def test_every_candidate_and_every_ablation_that_is_shipped_loads(content: dict[str, Any]) -> None:
    for candidate in read_profile(ROOT / "profiles/candidates.yaml", ROOT / "params.yaml"):
        parse_settings(Params, candidate.params, candidate.name)
    ablations = read_yaml(ROOT / "profiles/ablations.yaml")
    for name, entry in ablations["sets"].items():
        changed = merged(merged(content, ablations["settings"]), entry["settings"])
        assert parse_settings(Params, changed, name)
    assert len(ablations["sets"]) > 20


def test_names_are_those_of_the_evaluation() -> None:
    from onestep.cli.params import load_params
    from onestep.inference.rows import REAL_VAE
    from onestep.inference.sampler import teacher_settings

    samples = load_params(ROOT / "params.yaml").samples
    sampled = [way.name for way in teacher_settings(samples.with_seed(0))]
    assert names.rows(samples.teacher) == [*sampled, *names.OTHER_ROWS]
    assert REAL_VAE in names.OTHER_ROWS
    report = json.loads((ROOT / "reports/metrics.json").read_text())
    assert set(names.OTHER_ROWS) | set(sampled) == set(report["models"]) - {"onestep", "champion"}
    measured = {metric for cells in report["models"].values() for metric in cells} | set(report["unmeasured"])
    assert {metric for metric in measured if not names.attribute_of(metric)} == set(names.METRICS)
