"""The sequence of candidates of `docs/gate.md`, in miniature: the same script, ledger, records and tags, a toy trainer."""

import json
from pathlib import Path

import pytest

import candidates
from candidates import SCRIPT, CandidatesError, read_profile
from onestep.core.yaml_files import dump_yaml
from onestep.provenance import ledger
from onestep.provenance.verify import PASSED
from onestep.registry.champion import champion
from onestep.vcs.git import Repository
from onestep.vcs.project import Project
from pages import END, mark
from tests.night_project import make_night_project
from tests.test_graph import ROOT
from tests.toy_project import run

PROFILE = {
    "settings": {"retrain": {"on_drift": False}},
    "candidates": {
        "good": {"title": "one that the gate promotes", "settings": {"learning_rate": 2}},
        "weak": {"title": "one that it does not", "settings": {"learning_rate": 3, "verdict": "hold"}},
        "better": {"title": "one more", "settings": {"learning_rate": 4}},
    },
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make_night_project(tmp_path)
    (tmp_path / "profile.yaml").write_text(dump_yaml(PROFILE))
    (tmp_path / "page.md").write_text(f"before\n{mark(SCRIPT)}\nof last time\n{END}\nafter\n")
    monkeypatch.chdir(root)
    return root


def go(folder: Path, *words: str) -> dict[str, object]:
    """Run the script; what it wrote."""
    paths = {"profile": "profile.yaml", "clone": "clone", "out": "candidates.json", "page": "page.md"}
    candidates.main([*words, *(word for name, file in paths.items() for word in (f"--{name}", str(folder / file)))])
    return json.loads((folder / "candidates.json").read_text())


@pytest.mark.slow
def test_candidates_go_through_the_gate_and_an_interrupted_night_is_taken_up(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run(project, "git", "for-each-ref")
    (first,) = go(tmp_path, "--nights", "1")["nights"]
    assert (first["night"], first["candidate"], first["verdict"]) == (1, "good", "promote")
    assert (first["against"], first["champion"], first["verified"]) == (None, "onestep@v1.0.0", PASSED)
    assert first["wealth"] == pytest.approx(
        0.05 - first["alpha"]
    )  # what was spent is gone, what a promotion brings came

    call = candidates.call

    def dies_before_the_record(clone: Path, *words: str) -> None:
        if words[:2] == ("onestep", "record"):
            raise KeyboardInterrupt
        call(clone, *words)

    monkeypatch.setattr(candidates, "call", dies_before_the_record)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path)
    clone = Repository(tmp_path / "clone")
    assert [entry.kind for entry in ledger.read(clone)] == ["attempt", "verdict", "promotion", "attempt"]
    offered = ledger.read(clone)[-1].content

    monkeypatch.setattr(candidates, "call", call)
    content = go(tmp_path)
    found = content["nights"]
    assert [(n["candidate"], n["verdict"], n["against"], n["champion"]) for n in found] == [
        ("good", "promote", None, "onestep@v1.0.0"),
        ("weak", "hold", "onestep@v1.0.0", "onestep@v1.0.0"),
        ("better", "promote", "onestep@v1.0.0", "onestep@v1.1.0"),
    ]
    assert (found[1]["alpha"], found[1]["seed"], found[1]["not_passed"]) == (
        offered.alpha,
        offered.seed,
        {"prompts": "held"},
    )
    assert [n["verified"] for n in found] == [PASSED] * 3
    assert content["commit"] == run(project, "git", "rev-parse", "HEAD").strip()
    text = (tmp_path / "candidates.ledger.jsonl").read_text()
    assert text == run(clone.root, "git", "show", "ledger:ledger.jsonl")
    assert content["ledger"] == ledger.head(clone)
    assert text.count('"kind":"attempt"') == 3  # the interrupted night spent no second alpha
    now = champion(Project(clone.root))
    assert now is not None
    assert now.version_tag == "onestep@v1.1.0"
    page = (tmp_path / "page.md").read_text()
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert "of last time" not in page
    assert "| 2 | `weak`: one that it does not |" in page
    assert run(project, "git", "for-each-ref") == before  # the project itself knows nothing of it

    assert go(tmp_path)["nights"] == found  # all done: nothing runs again
    assert len(ledger.read(clone)) == len(text.splitlines())


def test_shipped_candidates_are_legal_and_differ_in_the_adversarial_stage_alone() -> None:
    found = read_profile(ROOT / "profiles/candidates.yaml", ROOT / "params.yaml")
    assert len(found) >= 5
    assert all(set(candidate.changes) <= {"adversarial"} for candidate in found)
    assert len({json.dumps(candidate.params, sort_keys=True) for candidate in found}) == len(found)
    page = (ROOT / "docs/gate.md").read_text()
    assert page.index(mark(SCRIPT)) < page.index(END, page.index(mark(SCRIPT)))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"adversarial": {"update": 3}},
            "candidate x: adversarial: update is not a known setting; did you mean updates",
        ),
        ({"adversaries": {"updates": 3}}, "adversaries is not in params.yaml"),
    ],
)
def test_candidate_with_a_wrong_setting_is_named_before_anything_runs(
    tmp_path: Path, settings: dict[str, object], said: str
) -> None:
    profile = tmp_path / "profile.yaml"
    profile.write_text(dump_yaml({"candidates": {"x": {"title": "x", "settings": settings}}}))
    with pytest.raises(CandidatesError, match=said):
        read_profile(profile, ROOT / "params.yaml")
