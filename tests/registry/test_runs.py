import subprocess
import sys
from pathlib import Path

import pytest

from onestep.registry import runs
from onestep.registry.tried import Attempt, attempts, pin_champion, tried_before
from onestep.registry.graph import GraphError, changes
from onestep.registry.inputs import model_inputs
from onestep.registry.production import champion
from onestep.registry.promotion import PromotionRace, merge, promote
from onestep.registry.publishing import offer, publish, publish_promotion
from onestep.registry.revisit import take_model
from onestep.registry.runs import RunError, open_run, record
from tests.registry.test_promotion import state
from tests.toy_project import reproduce, run

INPUTS = "a" * 64


@pytest.fixture
def committed(project: Path, remote: Path) -> Path:
    """A project on main whose graph has run, lock and remote committed, data in the cache."""
    run(project, "git", "add", "--all")
    run(project, "git", "commit", "--quiet", "--message", "A run by hand")
    return project


def recorded(project: Path, learning_rate: int, id: str | None = None) -> runs.Run:
    """A run in a clone with another setting, recorded there."""
    opened = open_run(project, id)
    (opened.root / "params.yaml").write_text(f"learning_rate: {learning_rate}\nverdict: promote\n")
    reproduce(opened.root)
    record(opened, f"Run {opened.id}", Attempt(opened.id, "", "promote", INPUTS).trailers())
    return opened


def test_clone_has_the_pinned_commit_and_its_data_linked_from_the_shared_cache(committed: Path) -> None:
    (committed / "notes.txt").write_text("open work\n")
    before = state(committed)
    opened = open_run(committed)
    assert opened.commit == run(committed, "git", "rev-parse", "main").strip()
    assert changes(opened.root) == []
    assert (opened.root / "notes.txt").read_text() == "mine\n"
    weights = (opened.root / "models/onestep/unet/weights").stat()
    assert weights.st_nlink > 1
    assert any(path.stat().st_ino == weights.st_ino for path in (committed / ".dvc/cache").rglob("*"))
    assert state(committed) == before


def test_two_runs_at_once_do_not_touch_each_other_and_both_are_published(committed: Path, remote: Path) -> None:
    before = run(committed, "git", "status", "--porcelain", "--untracked-files=all")
    first, second = recorded(committed, 2), recorded(committed, 3)
    assert first.root != second.root
    publish(first)
    publish(second)
    for opened, weight in ((first, "2"), (second, "3")):
        lock = run(committed, "git", "show", f"{opened.branch}:dvc.lock")
        assert lock == (opened.root / "dvc.lock").read_text()
        assert (opened.root / "models/onestep/unet/weights").read_text() == weight
    assert run(committed, "git", "status", "--porcelain", "--untracked-files=all") == before
    assert {attempt.run for attempt in attempts(committed)} == {first.id, second.id}


def test_unreachable_remote_publishes_nothing_and_can_be_asked_again(committed: Path, remote: Path) -> None:
    opened = recorded(committed, 2)
    if remote.exists():
        remote.rename(remote.with_name("away"))
    remote.write_text("a file where the remote's folder should be")
    refs = run(committed, "git", "for-each-ref")
    with pytest.raises(GraphError):
        publish(opened)
    assert run(committed, "git", "for-each-ref") == refs
    remote.unlink()
    assert publish(opened)
    assert run(committed, "git", "branch", "--list", opened.branch).strip() == opened.branch


def test_promotion_tags_the_run_and_main_is_offered_lock_and_pin(committed: Path) -> None:
    opened = recorded(committed, 2)
    publish(opened)
    second = open_run(committed, "promotion", opened.branch)
    assert second.branch == opened.branch
    done = promote(second.root)
    publish_promotion(second, done)
    assert offer(second, "main").merged
    now = champion(committed)
    assert now is not None
    assert now.version_tag == done.version_tag
    assert run(committed, "git", "branch", "--list", "*", "--format=%(refname:short)").split() == [
        "main",
        opened.branch,
    ]
    assert run(committed, "git", "status", "--porcelain") == ""
    assert "learning_rate: 2" in (committed / "params.yaml").read_text()


@pytest.mark.parametrize("conflict", [False, True])
def test_conflict_delays_the_merge_and_never_the_promotion(committed: Path, conflict: bool) -> None:
    opened = recorded(committed, 2)
    publish(opened)
    name, content = ("params.yaml", "learning_rate: 9\nverdict: hold\n") if conflict else ("notes.txt", "later\n")
    (committed / name).write_text(content)
    run(committed, "git", "commit", "--quiet", "--all", "--message", "Meanwhile")
    head = run(committed, "git", "rev-parse", "main").strip()
    second = open_run(committed, "promotion", opened.branch)
    done = promote(second.root)
    publish_promotion(second, done)
    offered = offer(second, "main")
    assert champion(committed) is not None
    assert offered.merged is not conflict
    assert (committed / name).read_text() == content
    assert run(committed, "git", "status", "--porcelain") == ""
    assert run(committed, "git", "branch", "--list", "merges/*") == ""
    if conflict:
        assert f"git merge {opened.branch}" in offered.says
        assert run(committed, "git", "rev-parse", "main").strip() == head
        assert pin_champion(open_run(committed).root)  # the next run is judged against the champion all the same
    else:
        assert run(committed, "git", "rev-parse", "main^1").strip() == head


def test_of_two_promotions_from_two_clones_the_upstream_takes_one_whole(committed: Path) -> None:
    first, second = recorded(committed, 2), recorded(committed, 3)
    for opened in (first, second):
        publish(opened)
    clones = [open_run(committed, f"p{n}", opened.branch) for n, opened in enumerate((first, second))]
    done = [promote(clone.root) for clone in clones]
    publish_promotion(clones[0], done[0])
    refs = run(committed, "git", "for-each-ref")
    with pytest.raises(PromotionRace, match="another promotion was faster"):
        publish_promotion(clones[1], done[1])
    assert run(committed, "git", "for-each-ref") == refs


def test_bare_upstream_gets_branch_tags_and_main(committed: Path, tmp_path: Path) -> None:
    upstream = tmp_path / "upstream.git"
    run(tmp_path, "git", "clone", "--quiet", "--bare", str(committed), str(upstream))
    opened = open_run(committed, revision="main", upstream=str(upstream))
    (opened.root / "params.yaml").write_text("learning_rate: 2\nverdict: promote\n")
    reproduce(opened.root)
    record(opened, "Run", {})
    publish(opened)
    second = open_run(committed, "promotion", opened.branch, str(upstream))
    publish_promotion(second, promote(second.root))
    assert offer(second, "main").merged
    assert "learning_rate: 2" in run(upstream, "git", "show", "main:params.yaml")
    assert champion(upstream) is not None
    assert champion(committed) is None


def test_refused_clone_says_why_and_leaves_nothing(committed: Path) -> None:
    with pytest.raises(RunError, match="no revision 'nowhere'"):
        open_run(committed, revision="nowhere")
    with pytest.raises(RunError, match="not in a git repository"):
        open_run(committed.parent)
    assert [path.name for path in (committed / runs.FOLDER).iterdir()] == [".gitignore"]


def test_cleaning_keeps_the_newest_and_those_in_use(committed: Path) -> None:
    opened = [open_run(committed, name) for name in ("a", "b", "c", "d")]
    for done in opened[1:]:
        runs.close(done)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(opened[1].root)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert runs.clean(committed, keep=1) == ["c"]
    holder.kill()  # a killed run lets go of its clone
    holder.wait()
    assert runs.clean(committed, keep=1) == ["b"]
    assert (opened[0].root / "dvc.yaml").is_file()
    assert (committed / ".dvc/cache").is_dir()
    assert changes(opened[3].root) == []


HOLD = """
import sys
from pathlib import Path
from onestep.registry.runs import _lock
lock = _lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_inputs_are_the_same_for_the_same_clips_parameters_and_code_and_no_others(committed: Path) -> None:
    before = model_inputs(committed)
    assert model_inputs(open_run(committed).root) == before
    (committed / "params.yaml").write_text("learning_rate: 1\nverdict: hold\n")
    assert model_inputs(committed) == before  # the gate judges the model, it does not make it
    (committed / "params.yaml").write_text("learning_rate: 2\nverdict: hold\n")
    other = model_inputs(committed)
    (committed / "make.py").write_text((committed / "make.py").read_text() + "\n")
    assert len({before, other, model_inputs(committed)}) == 3


def test_attempt_is_found_again_by_its_inputs(committed: Path) -> None:
    opened = recorded(committed, 2)
    publish(opened)
    found = attempts(committed)
    assert [(each.run, each.verdict) for each in found] == [(opened.id, "promote")]
    assert tried_before(found, INPUTS) == found[0]
    assert tried_before(found, "b" * 64) is None


def test_registered_version_takes_the_candidates_place_and_an_unknown_one_does_not(project: Path) -> None:
    first = promote(project)
    merge(project, first.branch)
    (project / "params.yaml").write_text("learning_rate: 2\nverdict: promote\n")
    reproduce(project)
    assert take_model(project, first.version_tag) == "train"
    assert (project / "models/onestep/unet/weights").read_text() == "1"
    with pytest.raises(Exception, match=r"registered are onestep@v1\.0\.0"):
        take_model(project, "onestep@v9.0.0")
