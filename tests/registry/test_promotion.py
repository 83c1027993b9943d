import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread

import pytest

from onestep.core.paths import PIN
from onestep.core.storage import sha256_folder
from onestep.gate.pin import read_pin
from onestep.provenance import ledger
from onestep.registry import change, promotion
from onestep.registry.champion import champion
from onestep.registry.change import AlreadyChampion, PromotionRace, PromotionRefused
from onestep.registry.merge import MergeDelayed, merge
from onestep.registry.promotion import promote
from onestep.registry.recording import NotReproduced
from onestep.vcs.git import RefUpdate, Repository
from onestep.vcs.graph import changes
from onestep.vcs.project import GraphError, Project
from tests.pins import FIRST
from tests.processes import promote_at_once
from tests.toy_project import run

Retrain = Callable[..., None]


def state(root: Path) -> dict[str, str | bytes]:
    """Everything of the user's that a promotion must leave alone."""
    return {
        "status": run(root, "git", "status", "--porcelain", "--untracked-files=all"),
        "head": run(root, "git", "rev-parse", "HEAD"),
        "branch": run(root, "git", "symbolic-ref", "HEAD"),
        "reflog": run(root, "git", "reflog", "HEAD"),
        "index": (root / ".git" / "index").read_bytes(),
        "diff": run(root, "git", "diff"),
        "staged": run(root, "git", "diff", "--cached"),
    }


def refs(root: Path) -> str:
    return run(root, "git", "for-each-ref", "--format=%(refname) %(objectname)")


def test_promotion_leaves_branch_index_and_working_tree_untouched(project: Path) -> None:
    (project / "notes.txt").write_text("staged\n")
    run(project, "git", "add", "notes.txt")
    (project / "notes.txt").write_text("staged, then changed\n")
    (project / "scratch.txt").write_text("untracked\n")
    run(project, "git", "status")
    before = state(project)
    done = promote(Project(project))
    assert state(project) == before
    assert run(project, "git", "show", f"{done.commit}:notes.txt") == "mine\n"
    assert "scratch.txt" not in run(project, "git", "ls-tree", "-r", "--name-only", done.branch)


def test_promoted_commit_holds_the_run_and_the_pin_it_was_judged_against(project: Path) -> None:
    done = promote(Project(project))
    files = run(project, "git", "ls-tree", "-r", "--name-only", done.commit).split()
    assert {
        "dvc.yaml",
        "dvc.lock",
        "params.yaml",
        "make.py",
        "reports/verdict.json",
        "reports/metrics.json",
        ".dvc/config",
        "models/.gitignore",
    } <= set(files)
    assert not [path for path in files if path.startswith(("models/onestep", "data/clips"))]
    assert run(project, "git", "show", f"{done.commit}:dvc.lock") == (project / "dvc.lock").read_text()
    assert json.loads(run(project, "git", "show", f"{done.commit}:data/production.json")) == FIRST
    assert json.loads(run(project, "git", "show", f"{done.branch}:data/production.json")) == FIRST | {
        "champion": {"tag": "onestep@v1.0.0", "sha256": sha256_folder(project / "models/onestep")}
    }
    assert run(project, "git", "rev-parse", f"{done.branch}^").strip() == done.commit


def test_run_id_is_the_same_for_the_same_content(project: Path, finished_project: Path, tmp_path: Path) -> None:
    clone = tmp_path / "second"
    subprocess.run(["cp", "-a", str(finished_project), str(clone)], check=True)
    assert promote(Project(project)).run == promote(Project(clone)).run


def test_second_promotion_takes_the_next_version_and_number(project: Path, retrain: Retrain) -> None:
    first = promote(Project(project))
    merge(Project(project), first.branch)
    retrain(2, offered=True)
    second = promote(Project(project))
    assert (first.version_tag, first.stage_tag) == ("onestep@v1.0.0", "onestep#prod#1")
    assert (second.version_tag, second.stage_tag) == ("onestep@v1.1.0", "onestep#prod#2")
    assert second.previous is not None
    assert second.previous.version_tag == first.version_tag
    now = champion(Project(project))
    assert now is not None
    assert (now.number, now.version, now.commit, now.sha256) == (2, "v1.1.0", second.commit, second.sha256)


def test_gto_reads_the_promotion(project: Path) -> None:
    promote(Project(project))
    shown = json.loads(run(project, "gto", "show", "--json"))
    assert shown["onestep"]["version"] == "v1.0.0"
    assert shown["onestep"]["stage"] == {"prod": "v1.0.0"}


def test_champion_is_the_highest_number_and_none_before_the_first(project: Path) -> None:
    assert champion(Project(project)) is None
    done = promote(Project(project))
    for number in (2, 10):
        run(project, "git", "tag", f"onestep#prod#{number}", done.commit)
    now = champion(Project(project))
    assert now is not None
    assert now.number == 10
    run(project, "git", "tag", "onestep#prod!#11", done.commit)
    assert champion(Project(project)) is None


@pytest.mark.parametrize("verdict", ["hold", "reject"])
def test_verdict_other_than_promote_is_refused_with_its_rules(project: Path, retrain: Retrain, verdict: str) -> None:
    retrain(1, verdict=verdict)
    before = refs(project)
    with pytest.raises(PromotionRefused, match=f"'{verdict}', not 'promote' because of prompts") as refusal:
        promote(Project(project))
    assert refusal.value.exit_code == 3
    assert refs(project) == before


def test_verdict_written_by_hand_is_refused(project: Path, retrain: Retrain) -> None:
    retrain(1, verdict="reject")
    verdict = json.loads((project / "reports/verdict.json").read_text())
    (project / "reports/verdict.json").write_text(json.dumps(verdict | {"verdict": "promote"}))
    with pytest.raises(NotReproduced, match=r"modified reports/verdict\.json"):
        promote(Project(project))


@pytest.mark.parametrize(
    ("path", "content"), [("params.yaml", "learning_rate: 5\nverdict: promote\n"), ("models/onestep/unet/weights", "9")]
)
def test_working_copy_that_does_not_match_the_lock_is_refused(project: Path, path: str, content: str) -> None:
    (project / path).unlink()
    (project / path).write_text(content)
    before = refs(project)
    with pytest.raises(NotReproduced, match=r"dvc\.lock does not match the working copy: .*train \(") as refusal:
        promote(Project(project))
    assert refusal.value.exit_code == 4
    assert refs(project) == before


def test_run_whose_outs_are_not_in_the_cache_is_refused(project: Path) -> None:
    subprocess.run(["rm", "-rf", str(project / ".dvc" / "cache")], check=True)
    with pytest.raises(NotReproduced, match="models/onestep"):
        promote(Project(project))


def test_graph_that_does_not_name_its_clips_is_refused_before_anything_is_promoted(project: Path) -> None:
    graph_file = project / "dvc.yaml"
    graph_file.write_text(graph_file.read_text().replace("  clips: {path: data/clips, type: dataset}\n", ""))
    with pytest.raises(GraphError, match="has no artifact 'clips'"):
        promote(Project(project))
    assert "tags" not in refs(project)


def test_champion_is_not_promoted_twice(project: Path) -> None:
    promote(Project(project))
    before = refs(project)
    with pytest.raises(AlreadyChampion, match=r"in production already, as onestep@v1\.0\.0") as refusal:
        promote(Project(project))
    assert refusal.value.exit_code == 0
    assert refs(project) == before


def test_promotion_works_without_a_git_identity(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(project, "git", "config", "--unset", "user.name")
    run(project, "git", "config", "--unset", "user.email")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    done = promote(Project(project))
    assert run(project, "git", "log", "-1", "--format=%an <%ae> %cn", done.commit) == (
        "onestep <onestep@localhost> onestep\n"
    )
    assert "user" not in run(project, "git", "config", "--local", "--list").replace("remote", "")


def test_fresh_clone_at_the_tag_pulls_the_promoted_model(project: Path, remote: Path, tmp_path: Path) -> None:
    done = promote(Project(project))
    assert done.pushed
    clone = tmp_path / "clone"
    run(tmp_path, "git", "clone", "--quiet", "--branch", done.version_tag, str(project), str(clone))
    run(clone, "dvc", "pull", "--quiet")
    assert sha256_folder(clone / "models/onestep") == done.sha256
    assert changes(Project(clone)) == []


def test_failed_push_promotes_nothing(project: Path, remote: Path) -> None:
    remote.write_text("a file where the remote's folder should be")
    before = refs(project)
    with pytest.raises(GraphError, match="nothing was promoted"):
        promote(Project(project))
    assert refs(project) == before


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = change.move

    def late(repository: Repository, updates: Sequence[RefUpdate]) -> None:
        assert promote_at_once(project, 1) == ["promoted onestep#prod#1"]
        move(repository, updates)

    monkeypatch.setattr(change, "move", late)
    with pytest.raises(PromotionRace, match=r"another promotion was faster, the champion is now onestep@v1\.0\.0"):
        promote(Project(project))
    assert run(project, "git", "tag").split() == ["onestep#prod#1", "onestep@v1.0.0"]
    assert [entry.kind for entry in ledger.read(Repository(project))] == ["attempt", "verdict", "promotion"]


def test_of_promotions_that_start_at_the_same_moment_one_wins_and_each_other_is_told(project: Path) -> None:
    said = promote_at_once(project, 4)
    assert said.count("promoted onestep#prod#1") == 1, said
    told = [words for words in said if words != "promoted onestep#prod#1"]
    assert all(
        words.startswith(("PromotionRace: ", "AlreadyChampion: ")) and "onestep@v1.0.0" in words for words in told
    ), told
    assert run(project, "git", "tag").split() == ["onestep#prod#1", "onestep@v1.0.0"]
    assert [entry.kind for entry in ledger.read(Repository(project))] == ["attempt", "verdict", "promotion"]
    assert len(run(project, "git", "branch", "--list", "runs/*").split()) == 1


def test_promotion_that_starts_between_two_refs_of_another_waits_for_the_last(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git moves the refs of a transaction one after another; here, the second promotion starts after the first of them."""
    update, told = Repository.update, []

    def slowly(repository: Repository, updates: Sequence[RefUpdate]) -> None:
        monkeypatch.setattr(Repository, "update", update)
        update(repository, updates[:2])
        second = Thread(target=lambda: told.extend(promote_at_once(project, 1)))
        second.start()
        second.join(3)
        assert second.is_alive(), told
        update(repository, updates[2:])
        others.append(second)

    others: list[Thread] = []
    monkeypatch.setattr(Repository, "update", slowly)
    promote(Project(project))
    others[0].join()
    assert len(told) == 1
    assert told[0].startswith("AlreadyChampion: this model is in production already, as onestep@v1.0.0"), told


def test_promotion_that_another_overtakes_during_its_push_is_told(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow_push(_: Project) -> bool:
        promote_at_once(project, 1)
        return False

    monkeypatch.setattr(promotion.graph, "push", slow_push)
    with pytest.raises(PromotionRace, match="another promotion was faster"):
        promote(Project(project))
    assert len(run(project, "git", "tag").split()) == 2


def test_run_judged_against_another_champion_than_todays_is_refused(project: Path, retrain: Retrain) -> None:
    promote(Project(project))
    retrain(2)
    with pytest.raises(PromotionRace, match=r"pins no champion, but in production is onestep@v1\.0\.0") as refusal:
        promote(Project(project))
    assert refusal.value.exit_code == 5


def test_merge_brings_lock_and_pin_and_keeps_other_work(project: Path) -> None:
    (project / "notes.txt").write_text("still mine\n")
    done = promote(Project(project))
    merge(Project(project), done.branch)
    assert run(project, "git", "rev-parse", "main") == run(project, "git", "rev-parse", done.branch)
    assert run(project, "git", "status", "--porcelain").splitlines() == [" M notes.txt"]
    pinned = read_pin(project / PIN).champion
    assert pinned is not None
    assert pinned.tag == "onestep@v1.0.0"


def test_merge_takes_the_place_of_the_pin_that_the_run_was_offered(project: Path, retrain: Retrain) -> None:
    retrain(2, offered=True)
    merge(Project(project), promote(Project(project)).branch)
    pinned = read_pin(project / PIN).champion
    assert pinned is not None
    assert pinned.tag == "onestep@v1.0.0"
    assert run(project, "git", "status", "--porcelain") == ""


def test_merge_keeps_staged_work_and_runs_no_hook(project: Path) -> None:
    (project / "notes.txt").write_text("staged\n")
    run(project, "git", "add", "notes.txt")
    (project / "notes.txt").write_text("staged, then changed\n")
    (project / "scratch.txt").write_text("untracked\n")
    for name in ("post-checkout", "post-merge", "pre-merge-commit"):
        hook = project / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\ntouch hooked\n")
        hook.chmod(0o755)
    staged = run(project, "git", "ls-files", "--stage", "notes.txt")
    done = promote(Project(project))
    merge(Project(project), done.branch)
    assert run(project, "git", "rev-parse", "main") == run(project, "git", "rev-parse", done.branch)
    assert run(project, "git", "status", "--porcelain").splitlines() == ["MM notes.txt", "?? scratch.txt"]
    assert run(project, "git", "ls-files", "--stage", "notes.txt") == staged
    assert (project / "notes.txt").read_text() == "staged, then changed\n"
    assert f"merge {done.branch}: Fast-forward" in run(project, "git", "reflog", "-1", "HEAD")


@pytest.mark.parametrize("conflict", ["branch moved", "file changed", "file staged", "untracked file in its place"])
def test_merge_refuses_what_it_would_overwrite(project: Path, conflict: str) -> None:
    done = promote(Project(project))
    if conflict == "branch moved":
        run(project, "git", "commit", "--quiet", "--allow-empty", "--message", "Later")
    elif conflict == "untracked file in its place":
        (project / "records").mkdir()
        (project / "records/onestep.intoto.json").write_text("mine\n")
    else:
        (project / "data/production.json").write_text('{"champion": null, "note": 1}')
    if conflict == "file staged":
        run(project, "git", "add", "data/production.json")
    before = state(project)
    with pytest.raises(MergeDelayed, match=f"git merge {done.branch}"):
        merge(Project(project), done.branch)
    assert state(project) == before
