import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from onestep.core.params import load_group
from onestep.core.paths import CACHE_LOCK, CLONES
from onestep.gate.settings import GateSettings
from onestep.nightly import workspace
from onestep.nightly.publish import enter_and_publish, merge_into, publish, publish_promotion
from onestep.nightly.workspace import WorkspaceError, open_workspace
from onestep.provenance import ledger
from onestep.provenance.ledger import LedgerMoved
from onestep.registry.champion import champion
from onestep.registry.change import PromotionRace
from onestep.registry.history import enter, judged_trials, pin_champion
from onestep.registry.merge import merge
from onestep.registry.promotion import promote
from onestep.registry.reconstruct import reconstruct
from onestep.registry.recording import Recorded, record
from onestep.vcs.git import Repository
from onestep.vcs.graph import changes
from onestep.vcs.imports import update_imports
from onestep.vcs.project import GraphError, Project
from tests.night_project import ROOT
from tests.registry.test_promotion import state
from tests.toy_project import reproduce, run

GATE = load_group(GateSettings, ROOT / "params.yaml", "gate")


@pytest.fixture
def committed(project: Path, remote: Path) -> Path:
    """A project on main whose graph has run, lock and remote committed, data in the cache."""
    run(project, "git", "add", "--all")
    run(project, "git", "commit", "--quiet", "--message", "A run by hand")
    return project


def entered(project: Path, learning_rate: int, upstream: str | None = None) -> workspace.Workspace:
    """A run in a clone with another setting, entered in the ledger and trained."""
    opened = open_workspace(Project(project), upstream=upstream)
    (opened.clone.root / "params.yaml").write_text(f"learning_rate: {learning_rate}\nverdict: promote\n")
    enter_and_publish(opened, GATE, None)
    reproduce(opened.clone.root)
    return opened


def published(project: Path, learning_rate: int, upstream: str | None = None) -> Recorded:
    opened = entered(project, learning_rate, upstream)
    done = record(opened.clone, None)
    publish(opened, done.branch)
    return done


def test_clone_has_the_pinned_commit_and_its_data_linked_from_the_shared_cache(committed: Path) -> None:
    (committed / "notes.txt").write_text("open work\n")
    before = state(committed)
    opened = open_workspace(Project(committed))
    assert opened.commit == run(committed, "git", "rev-parse", "main").strip()
    assert changes(opened.clone) == []
    assert (opened.clone.root / "notes.txt").read_text() == "mine\n"
    weights = (opened.clone.root / "models/onestep/unet/weights").stat()
    assert weights.st_nlink > 1
    assert any(path.stat().st_ino == weights.st_ino for path in (committed / ".dvc/cache").rglob("*"))
    assert state(committed) == before


def test_two_runs_at_once_do_not_touch_each_other_and_the_overtaken_one_is_refused_whole(committed: Path) -> None:
    before = run(committed, "git", "status", "--porcelain", "--untracked-files=all")
    first, second = entered(committed, 2), entered(committed, 3)
    for opened, weight in ((first, "2"), (second, "3")):
        assert (opened.clone.root / "models/onestep/unet/weights").read_text() == weight
        assert changes(opened.clone) == []
    done = record(second.clone, None)
    publish(second, done.branch)
    early = record(first.clone, None)  # this clone does not know yet that another run was entered
    refs = run(committed, "git", "for-each-ref")
    with pytest.raises(LedgerMoved, match="another run was entered"):
        publish(first, early.branch)
    assert run(committed, "git", "for-each-ref") == refs
    assert run(committed, "git", "show", f"{done.branch}:dvc.lock") == (second.clone.root / "dvc.lock").read_text()
    assert run(committed, "git", "status", "--porcelain", "--untracked-files=all") == before
    assert [(each.verdict, each.run) for each in judged_trials(ledger.read(Repository(committed)))] == [
        ("promote", done.run)
    ]


def test_run_that_died_before_its_verdict_spends_no_second_share_of_alpha(committed: Path) -> None:
    first = enter_and_publish(open_workspace(Project(committed)), GATE, None)
    again = enter_and_publish(open_workspace(Project(committed)), GATE, None)
    assert again == first
    assert len(ledger.read(Repository(committed))) == 1
    other = open_workspace(Project(committed))
    (other.clone.root / "params.yaml").write_text("learning_rate: 7\nverdict: promote\n")
    assert enter(other.clone, GATE, None).comparison == 2


def test_unreachable_remote_publishes_nothing_and_can_be_asked_again(committed: Path, remote: Path) -> None:
    opened = entered(committed, 2)
    if remote.exists():
        remote.rename(remote.with_name("away"))
    remote.write_text("a file where the remote's folder should be")
    refs = run(committed, "git", "for-each-ref")
    with pytest.raises(GraphError):
        record(opened.clone, None)
    assert run(committed, "git", "for-each-ref") == refs
    remote.unlink()
    done = record(opened.clone, None)
    publish(opened, done.branch)
    assert done.pushed
    assert run(committed, "git", "branch", "--list", done.branch).strip() == done.branch


def test_promotion_tags_the_run_and_main_is_offered_lock_and_pin(committed: Path) -> None:
    recorded = published(committed, 2)
    second = open_workspace(Project(committed), "promotion", recorded.branch)
    done = promote(second.clone)
    assert done.branch == recorded.branch
    publish_promotion(second, done)
    assert merge_into(second, recorded.branch, "main").merged
    now = champion(Project(committed))
    assert now is not None
    assert now.version_tag == done.version_tag
    branches = run(committed, "git", "branch", "--list", "*", "--format=%(refname:short)").split()
    assert branches == ["ledger", "main", recorded.branch]
    assert run(committed, "git", "status", "--porcelain") == ""
    assert "learning_rate: 2" in (committed / "params.yaml").read_text()
    assert merge_into(second, recorded.branch, "main").sentence == "main has it already"


@pytest.mark.parametrize("conflict", [False, True])
def test_conflict_delays_the_merge_and_never_the_promotion(committed: Path, conflict: bool) -> None:
    recorded = published(committed, 2)
    name, content = ("params.yaml", "learning_rate: 9\nverdict: hold\n") if conflict else ("notes.txt", "later\n")
    (committed / name).write_text(content)
    run(committed, "git", "commit", "--quiet", "--all", "--message", "Meanwhile")
    head = run(committed, "git", "rev-parse", "main").strip()
    second = open_workspace(Project(committed), "promotion", recorded.branch)
    publish_promotion(second, promote(second.clone))
    offered = merge_into(second, recorded.branch, "main")
    assert champion(Project(committed)) is not None
    assert offered.merged is not conflict
    assert (committed / name).read_text() == content
    assert run(committed, "git", "status", "--porcelain") == ""
    assert run(committed, "git", "branch", "--list", "merges/*") == ""
    if conflict:
        assert f"git merge {recorded.branch}" in offered.sentence
        assert run(committed, "git", "rev-parse", "main").strip() == head
        assert pin_champion(
            open_workspace(Project(committed)).clone
        )  # the next run is judged against the champion all the same
    else:
        assert run(committed, "git", "rev-parse", "main^1").strip() == head


def test_of_two_promotions_from_two_clones_the_upstream_takes_one_whole(committed: Path) -> None:
    branch = published(committed, 2).branch
    clones = [open_workspace(Project(committed), f"p{number}", branch) for number in range(2)]
    run(clones[1].clone.root, "git", "config", "user.name", "Another Person")
    done = [promote(clone.clone) for clone in clones]
    publish_promotion(clones[0], done[0])
    refs = run(committed, "git", "for-each-ref")
    with pytest.raises(PromotionRace, match="another run was faster"):
        publish_promotion(clones[1], done[1])
    assert run(committed, "git", "for-each-ref") == refs


def test_bare_upstream_gets_branch_tags_ledger_and_main(committed: Path, tmp_path: Path) -> None:
    upstream = tmp_path / "upstream.git"
    run(tmp_path, "git", "clone", "--quiet", "--bare", str(committed), str(upstream))
    branch = published(committed, 2, str(upstream)).branch
    second = open_workspace(Project(committed), "promotion", branch, str(upstream))
    publish_promotion(second, promote(second.clone))
    assert merge_into(second, branch, "main").merged
    assert "learning_rate: 2" in run(upstream, "git", "show", "main:params.yaml")
    assert champion(Project(upstream)) is not None
    assert len(ledger.read(Repository(upstream))) == 3  # attempt, verdict, promotion
    assert champion(Project(committed)) is None


def test_refused_clone_says_why_and_leaves_nothing(committed: Path) -> None:
    with pytest.raises(WorkspaceError, match="no revision 'nowhere'"):
        open_workspace(Project(committed), revision="nowhere")
    with pytest.raises(WorkspaceError, match="not in a git repository"):
        open_workspace(Project(committed.parent))
    assert {path.name for path in (committed / CLONES).iterdir()} == {".gitignore", Path(CACHE_LOCK).name}


def test_what_may_hold_credentials_in_a_clone_is_its_owners_alone(committed: Path) -> None:
    local = committed / ".dvc" / "config.local"
    local.write_text("[core]\n    no_scm = false\n")
    run = open_workspace(Project(committed))
    for path in (run.clone.root / ".dvc" / "config.local", run.clone.root / ".git" / "config"):
        assert path.stat().st_mode & 0o777 == 0o600, path


def test_a_token_in_the_upstreams_address_is_not_said(committed: Path) -> None:
    with pytest.raises(WorkspaceError) as refused:
        open_workspace(Project(committed), upstream="http://person:ghp_secret1@127.0.0.1:1/x.git")
    assert "http://127.0.0.1:1/x.git" in str(refused.value)
    assert "ghp_secret1" not in str(refused.value)


def test_cleaning_keeps_the_newest_and_those_in_use(committed: Path) -> None:
    opened = [open_workspace(Project(committed), name) for name in ("a", "b", "c", "d")]
    for done in opened[1:]:
        done.close()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(opened[1].clone.root)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert workspace.remove_old(Project(committed), keep=1) == ["c"]
    holder.kill()  # a killed run lets go of its clone
    holder.wait()
    assert workspace.remove_old(Project(committed), keep=1) == ["b"]
    assert (opened[0].clone.root / "dvc.yaml").is_file()
    assert (committed / ".dvc/cache").is_dir()
    assert changes(opened[3].clone) == []


HOLD = """
import sys
from pathlib import Path
from onestep.nightly.workspace import _lock
lock = _lock(Path(sys.argv[1]) / ".git/onestep.lock")
print("held", flush=True)
sys.stdin.read()
"""


def test_footage_that_arrives_during_a_run_is_news_and_no_change_of_the_run(committed: Path, tmp_path: Path) -> None:
    source = tmp_path / "more"
    source.mkdir()
    (source / "a.txt").write_text("one")
    with contextlib.chdir(committed), Project(committed).graph() as repo:
        repo.imp_url(str(source), "data/more")
    run(committed, "git", "add", "--all")
    run(committed, "git", "commit", "--quiet", "--message", "An import")
    opened = open_workspace(Project(committed))
    assert update_imports(opened.clone) == []
    (source / "b.txt").write_text("two")
    assert changes(opened.clone) == []
    assert update_imports(opened.clone) == ["data/more"]
    assert (opened.clone.root / "data/more/b.txt").read_text() == "two"
    assert not (committed / "data/more/b.txt").exists()


def test_cache_is_left_alone_while_a_run_is_at_work(committed: Path) -> None:
    opened = open_workspace(Project(committed))
    with pytest.raises(WorkspaceError, match="in use"), workspace.cache_lock(Project(committed)):
        raise AssertionError("a run is at work")
    opened.close()
    with workspace.cache_lock(Project(committed)), pytest.raises(WorkspaceError, match="in use"):
        open_workspace(Project(committed))


def test_registered_version_takes_the_candidates_place_and_an_unknown_one_does_not(project: Path) -> None:
    first = promote(Project(project))
    merge(Project(project), first.branch)
    (project / "params.yaml").write_text("learning_rate: 2\nverdict: promote\n")
    reproduce(project)
    assert reconstruct(Project(project), first.version_tag) == "train"
    assert (project / "models/onestep/unet/weights").read_text() == "1"
    with pytest.raises(Exception, match=r"registered are onestep@v1\.0\.0"):
        reconstruct(Project(project), "onestep@v9.0.0")


def test_a_run_in_a_fresh_clone_goes_on_with_the_ledger_of_its_remote(committed: Path, tmp_path: Path) -> None:
    published(committed, 2)
    run(tmp_path, "git", "clone", "--quiet", str(committed), "second")
    (tmp_path / "second" / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {committed / '.dvc' / 'cache'}\n")
    opened = open_workspace(Project(tmp_path / "second"))
    assert ledger.read(Repository(opened.clone.root)) == ledger.read(Repository(committed))
    assert ledger.head(Repository(tmp_path / "second")) == ledger.head(Repository(committed))
