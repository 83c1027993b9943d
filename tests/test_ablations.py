"""The ablations run as real DVC experiments, on a graph of one stage that takes no time."""

import itertools
import shutil
import sys
import time
from pathlib import Path

import pytest

import ablations
import ablations_page
import runs as rows
from ablation_sets import Ablation, AblationError, Run
from ablations_page import Value
from onestep.cli.params import Params
from onestep.core.params import merged, parse_settings
from onestep.core.yaml_files import read_yaml
from tests.toy_project import run, started

ROOT = Path(__file__).parents[1]

GRAPH = """
stages:
  evaluate:
    cmd: python make.py
    deps: [make.py, src/toy.py]
    params: [consistency, adversarial]
    outs:
      - reports/metrics.json: {cache: false}
      - reports/curves/adversarial
"""
MAKE = """
import json, sys
from pathlib import Path
from onestep.core.yaml_files import read_yaml
import toy

params = read_yaml(Path("params.yaml"))
settings = params["adversarial"]
if settings["r1"] == 0 and settings["r2"] == 0:
    sys.exit("onestep: the loss is not finite")
stopped = {"step": 40, "reason": "the discriminator is one-sided", "action": "stopped", "lr_scale": 0.25}
Path("reports/curves/adversarial").mkdir(parents=True)
Path("reports/curves/adversarial/run.json").write_text(json.dumps({"events": [] if settings["r1"] else [stopped]}))
value = toy.START + settings["seed"] + (4.0 if settings["loss"] == "non-saturating" else 0.0)
distance = {"value": value, "low": value - 1, "high": value + 1}
motion = {"value": 0.03, "low": 0.02, "high": 0.04}
models = {"onestep": {"frechet_video_distance": distance, "motion": motion}, "real": {"motion": motion | {"value": 0.06}}}
gsb = {"against": "teacher-25", "fidelity": {"value": 0.1, "low": -0.1, "high": 0.3}}
Path("reports/metrics.json").write_text(json.dumps({"models": models, "gsb": gsb}))
"""
PROFILE = """
seeds: [1, 2]
compare: default
sets:
  default: {title: the defaults, settings: {}}
  published: {title: non-saturating, settings: {adversarial: {loss: non-saturating, r2: 0.0, generator_lr: 1.0e-12}}}
  no-penalty: {title: no penalty, seeds: [1], settings: {adversarial: {r1: 0.0, r2: 0.0}}}
  no-r1: {title: no penalty on real clips, seeds: [1], settings: {adversarial: {r1: 0.0}}}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name, content in (("dvc.yaml", GRAPH), ("make.py", MAKE), ("src/toy.py", "START = 10.0\n")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    (tmp_path / "constraints.txt").touch()
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "ablations.yaml").write_text(PROFILE)
    (tmp_path / ".gitignore").write_text("__pycache__/\n")
    with started(tmp_path):
        pass
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ablations, "POLL_S", 1.0)
    return tmp_path


def ablate(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["ablations.py", *words])
    ablations.main()


@pytest.mark.slow
def test_every_set_and_seed_runs_once_and_the_page_says_what_came_of_it(project, monkeypatch, capsys):
    ablate(monkeypatch, "--jobs", "2")
    said = capsys.readouterr().out
    assert "6 of 6 experiments" in said
    page = (project / "docs" / "ablations.md").read_text()
    assert "| `default` | the defaults | 2 of 2 | 11.5 (5.15 … 17.9) |" in page
    assert "| `published` | non-saturating | 2 of 2 | 15.5 (" in page
    assert "| `published` | **+4 (4 … 4)** |" in page
    assert "`no-penalty`, seed 1, ended without a model: onestep: the loss is not finite" in page
    assert "1 of 1 stopped, last at update 40: the discriminator is one-sided |" in page and "| quiet |" in page
    assert (project / "docs" / "images" / "ablations.png").stat().st_size > 1000

    # A finished one is not queued again, a failed one neither; a page for people keeps their words.
    (project / "docs" / "ablations.md").write_text(
        page.replace("## What was learned\n", "## What was learned\n\nMuch.\n")
    )
    monkeypatch.setattr(ablations, "enqueue", lambda run: pytest.fail(f"{run} was queued again"))
    ablate(monkeypatch)
    assert (project / "docs" / "ablations.md").read_text().endswith("## What was learned\n\nMuch.\n")

    # A failure that the file keeps does not hide what came of a second try.
    results = project / rows.RUNS
    kept = rows.read_runs(results)
    origin = rows.origin_of(kept["ablation-default-1"])
    disk = rows.row(origin, "", f"{ablations.FAILED}onestep: the disk is full", {})
    rows.write_runs(results, kept | {"ablation-default-1": [disk]})
    ablate(monkeypatch)
    assert rows.read_runs(results)["ablation-default-1"] == kept["ablation-default-1"]
    capsys.readouterr()

    # What is finished is in a file that can be committed, so that another clone, without DVC's experiments, knows it too.
    published = kept["ablation-published-2"]
    assert rows.origin_of(published).command == "python benchmarks/ablations.py --sets published --seeds 2"
    assert run(project, "git", "rev-parse", "HEAD").startswith(rows.origin_of(published).commit)
    assert [row.metric for row in kept["ablation-no-penalty-1"]] == ["failed: onestep: the loss is not finite"]
    for ref in run(project, "git", "for-each-ref", "--format=%(refname)", "refs/exps").splitlines():
        run(project, "git", "update-ref", "-d", ref)
    ablate(monkeypatch)
    assert "6 of 6 experiments" in capsys.readouterr().out

    # Other code in the checkout is not the code of these experiments, and is not run unless it is committed.
    (project / "src" / "toy.py").write_text("START = 20.0\n")
    with pytest.raises(SystemExit, match=r"commit src/toy\.py first"):
        ablate(monkeypatch)
    run(project, "git", "commit", "--quiet", "--all", "--message", "Other code")
    again = list(ablations.runs([ablations.read_profile(ablations.PROFILE, ablations.PARAMS)[0]], None))
    assert [found.metrics for found in again] == [None, None]
    page = (project / "docs" / "ablations.md").read_text()
    ablate(monkeypatch, "--report")  # the page keeps what was measured, and says of which commit
    assert (
        project / "docs" / "ablations.md"
    ).read_text() == page and f"commit {rows.origin_of(published).commit}" in page


def test_a_change_that_is_not_a_setting_is_refused_with_the_nearest(project):
    (project / "profiles" / "ablations.yaml").write_text(PROFILE.replace("{r1: 0.0}", "{r11: 0.0}"))
    with pytest.raises(AblationError, match=r"set no-r1: .*adversarial\.r11 .*did you mean adversarial\.r1"):
        ablations.read_profile(ablations.PROFILE, ablations.PARAMS)


def test_a_daemon_that_a_command_leaves_behind_is_not_waited_for():
    began = time.monotonic()
    assert ablations.call("sh", "-c", "sleep 30 & echo started") == "started\n"
    assert time.monotonic() - began < 20


def test_a_set_held_against_one_that_is_not_there_is_refused(project):
    (project / "profiles" / "ablations.yaml").write_text(
        PROFILE.replace("{title: no penalty,", "{title: no penalty, compare: defalt,")
    )
    with pytest.raises(
        AblationError, match="set no-penalty: compare = defalt is not a set; known are default, published"
    ):
        ablations.read_profile(ablations.PROFILE, ablations.PARAMS)


def test_a_set_that_is_not_there_is_refused_with_those_that_are(project, monkeypatch):
    with pytest.raises(SystemExit, match="no set publishe; known are default, published, no-penalty, no-r1"):
        ablate(monkeypatch, "--sets", "publishe", "--report")


def test_the_shipped_sets_are_params_with_legal_changes_and_seeds_in_both_stages():
    sets = ablations.read_profile(ROOT / "profiles" / "ablations.yaml", ROOT / "params.yaml")
    assert "default" in {found.compare for found in sets} and len({found.name for found in sets}) == len(sets)
    changes = ablations.set_params(sets[1], 3, ROOT / "params.yaml")
    assert {"consistency.seed=3", "adversarial.seed=3"} <= set(changes)
    content = read_yaml(ROOT / "params.yaml")
    made = {found.name: parse_settings(Params, merged(content, found.changes(1)), found.name) for found in sets}
    for one, other in itertools.combinations(made, 2):
        assert made[one] != made[other], f"{one} and {other} are the same run"


def made_up(name, seed, distance, compare="default"):
    metrics = None
    if distance is not None:
        cell = {"value": distance, "low": distance - 1, "high": distance + 1}
        metrics = {"models": {"onestep": {"frechet_video_distance": cell}}}
    return Run(Ablation(name, name, (seed,), {}, compare), seed, metrics)


def test_means_have_a_t_interval_over_seeds_and_one_seed_keeps_its_own():
    each = [Value(value, value - 1, value + 1) for value in (1.0, 2.0, 3.0)]
    mean = ablations_page.mean_over_seeds(each)
    assert mean.value == 2.0 and mean.high - mean.value == pytest.approx(4.3027 / 3**0.5, rel=1e-4)
    assert ablations_page.mean_over_seeds(each[:1]) == each[0]


def test_differences_are_taken_seed_by_seed_and_one_seed_decides_nothing(tmp_path):
    runs = [made_up("default", seed, 10.0 * seed) for seed in (1, 2, 3)]
    runs += [made_up("other", seed, 10.0 * seed + 1) for seed in (1, 2, 3)] + [made_up("once", 2, 90.0)]
    ablations_page.write_page(runs, tmp_path / "page.md", tmp_path / "picture.png")
    page = (tmp_path / "page.md").read_text()
    assert "| `other` | **+1 (1 … 1)** |" in page
    assert "| `once` | +70 |" in page


def test_a_set_stands_in_the_table_of_what_it_is_held_against(tmp_path):
    runs = [made_up(name, 1, value) for name, value in (("default", 1.0), ("plain", 5.0))]
    runs += [made_up("other", 1, 6.0, compare="plain"), made_up("lonely", 1, 6.0, compare="not run")]
    ablations_page.write_page(runs, tmp_path / "page.md", tmp_path / "picture.png")
    _, default, plain = (tmp_path / "page.md").read_text().split("| less `")
    assert default.startswith("default`") and "| `plain` | +4 |" in default and "`other`" not in default
    assert plain.startswith("plain`") and "| `other` | +1 |" in plain and "`lonely`" not in plain


def test_a_stage_that_changed_its_start_stands_in_a_table_of_its_own(tmp_path):
    changed, idle = made_up("default", 1, 1.0), made_up("idle", 1, 5.0)
    for one, value in ((changed, 0.16), (idle, 0.0)):
        cell = {"value": value, "low": value - 0.125, "high": value + 0.125}
        one.metrics["gsb"] = {"onestep vs consistency": {"fidelity": cell}}
        one.metrics["models"]["consistency"] = {"frechet_video_distance": {"value": 4.0, "low": 3.0, "high": 5.0}}
    ablations_page.write_page([changed, idle], tmp_path / "page.md", tmp_path / "picture.png")
    _, table = (tmp_path / "page.md").read_text().split("| what the stage made of its start |")
    assert "| `default` | 4 (3 … 5) | 1 (0 … 2) | – | – | 16 (3.5 … 28.5) | – | – |" in table and "`idle`" not in table


def test_what_has_not_run_is_listed(tmp_path):
    runs = [made_up("default", 1, 10.0), made_up("default", 2, None)]
    ablations_page.write_page(runs, tmp_path / "page.md", tmp_path / "picture.png")
    assert "Not run yet: `default` 2." in (tmp_path / "page.md").read_text()
