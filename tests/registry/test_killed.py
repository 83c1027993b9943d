"""`kill -9` in the middle of a promotion leaves the old champion or the new one, and the next attempt completes it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from onestep.provenance import ledger
from onestep.provenance.verify import BROKEN, UNSIGNED, verify
from onestep.registry.champion import champion
from onestep.registry.promotion import promote
from onestep.vcs.git import Repository
from onestep.vcs.project import Project
from tests.processes import promote_and_die
from tests.toy_project import run

PROMOTE = """
from pathlib import Path
from onestep.registry.promotion import promote
from onestep.vcs.project import Project
promote(Project(Path()))
"""


def require_complete(root: Path) -> None:
    done = promote(Project(root))
    now = champion(Project(root))
    assert now is not None
    assert (now.tag, now.version_tag, now.commit) == ("onestep#prod#1", "onestep@v1.0.0", done.commit)
    assert [entry.kind for entry in ledger.read(Repository(root))] == ["attempt", "verdict", "promotion"]
    assert run(root, "git", "branch", "--list", "runs/*").split() == [done.branch]
    report = verify(Project(root), "onestep")
    assert (report.broken, report.exit_code) == (None, UNSIGNED)


@pytest.mark.parametrize("survivors", [1, 2, 3])
def test_kill_between_refs_leaves_the_old_champion_and_the_next_attempt_completes(
    project: Path, survivors: int
) -> None:
    promote_and_die(project, survivors)
    assert champion(Project(project)) is None
    if survivors == 2:
        report = verify(Project(project), "onestep")
        assert report.exit_code == BROKEN
        assert report.broken is not None
        assert "promotion was cut off (onestep promote completes it)" in report.broken[1]
    require_complete(project)


@pytest.mark.parametrize("moment", ["prepared", "committed"])
def test_kill_of_git_and_all_while_it_holds_the_refs_leaves_old_or_new(project: Path, moment: str) -> None:
    hook = project / ".git/hooks/reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f'#!/bin/sh\n[ "$1" = {moment} ] && grep -q "onestep#prod" && kill -9 0\nexit 0\n')
    hook.chmod(0o755)
    promote_and_die(project)
    hook.unlink()
    held = list((project / ".git/refs").rglob("*.lock"))
    now = champion(Project(project))
    if moment == "committed":
        assert now is not None
        assert now.version_tag == "onestep@v1.0.0"
        assert not held
        return
    assert now is None
    assert held  # what git leaves behind, and refuses every later move for
    long_ago = time.time() - 60
    for lock in held:
        os.utime(lock, (long_ago, long_ago))
    require_complete(project)
    assert not list((project / ".git/refs").rglob("*.lock"))


@pytest.mark.slow
def test_kill_at_any_moment_leaves_old_or_new(project: Path) -> None:
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", PROMOTE], cwd=project, check=True)
    took = time.monotonic() - started
    for name in run(project, "git", "tag").split():
        run(project, "git", "tag", "--delete", name)
    for name in run(project, "git", "branch", "--format=%(refname:short)", "--list", "runs/*", "ledger").split():
        run(project, "git", "branch", "--quiet", "--delete", "--force", name)
    for part in range(1, 13):
        process = subprocess.Popen([sys.executable, "-c", PROMOTE], cwd=project, start_new_session=True)
        time.sleep(took * (0.3 + 0.06 * part))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        now = champion(Project(project))
        if now is not None:
            assert now.version_tag == "onestep@v1.0.0"
            break
    if champion(Project(project)) is None:
        require_complete(project)
