import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from onestep.gate.pin import read_pin
from onestep.provenance import ledger
from onestep.provenance.entries import Rollback
from onestep.provenance.signing import SigningKey
from onestep.provenance.verify import BROKEN, PASSED, verify
from onestep.registry import rollback as rollback_module
from onestep.registry.champion import champion
from onestep.registry.change import AlreadyChampion, PromotionRace, PromotionRefused
from onestep.registry.gc import collect_garbage, missing
from onestep.registry.merge import merge
from onestep.registry.rollback import rollback
from onestep.vcs.git import Repository
from onestep.vcs.project import Project
from tests.audited import object_of
from tests.toy_project import run


def test_rollback_is_a_recorded_signed_promotion_of_the_earlier_version(
    audited: Path,
    keys: Path,
    key: SigningKey,
) -> None:
    run(audited, "git", "stash", "--quiet")
    done = rollback(Project(audited), "v1.0.0", "it drops frames", key)
    now = champion(Project(audited))
    assert now is not None
    assert (now.version_tag, now.tag, now.number) == ("onestep@v1.0.0", "onestep#prod#3", 3)
    last = ledger.read(Repository(audited))[-1].content
    assert isinstance(last, Rollback)
    assert (last.tag, last.replaces, last.reason) == ("onestep@v1.0.0", "onestep@v1.1.0", "it drops frames")
    report = verify(Project(audited), "onestep", keys / "own.pub", copy=False)
    assert (report.broken, report.exit_code) == (None, PASSED)
    shown = json.loads(run(audited, "gto", "show", "--json"))
    assert shown["onestep"]["stage"] == {"prod": "v1.0.0"}
    merge(Project(audited), done.branch)
    pinned = read_pin(audited / "data/production.json").champion
    assert pinned is not None
    assert (pinned.tag, pinned.sha256) == ("onestep@v1.0.0", done.sha256)
    with pytest.raises(AlreadyChampion):
        rollback(Project(audited), "onestep@v1.0.0", "again", key)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="git needs ssh-keygen to check")
def test_git_verifies_our_tags(audited: Path, keys: Path) -> None:
    (keys / "allowed").write_text(f"me {(keys / 'own.pub').read_text()}")
    check = ["git", "-c", "gpg.format=ssh", "-c", f"gpg.ssh.allowedSignersFile={keys / 'allowed'}", "tag", "--verify"]
    for tag in ("onestep@v1.0.0", "onestep#prod#2"):
        done = subprocess.run([*check, tag], cwd=audited, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert 'Good "git" signature for me' in done.stderr


def test_rollback_to_what_was_never_registered_or_without_a_reason_is_refused(audited: Path) -> None:
    before = run(audited, "git", "for-each-ref")
    with pytest.raises(
        PromotionRefused, match=r"no version onestep@v9\.0\.0; registered are onestep@v1\.0\.0, onestep@v1\.1"
    ):
        rollback(Project(audited), "v9.0.0", "why not")
    with pytest.raises(PromotionRefused, match="needs its reason"):
        rollback(Project(audited), "v1.0.0", " ")
    assert run(audited, "git", "for-each-ref") == before


@pytest.mark.parametrize("overtaken_in", ["load", "move_or_race"])
def test_rollback_that_another_overtakes_is_told_and_changes_nothing(
    audited: Path, key: SigningKey, monkeypatch: pytest.MonkeyPatch, overtaken_in: str
) -> None:
    """Before its entry is made for the ledger, and before its refs move."""
    step, after = getattr(rollback_module, overtaken_in), []

    def late(*arguments: Any) -> Any:
        monkeypatch.setattr(rollback_module, overtaken_in, step)
        rollback(Project(audited), "v1.0.0", "it was faster", key)
        after.append(run(audited, "git", "for-each-ref"))
        return step(*arguments)

    monkeypatch.setattr(rollback_module, overtaken_in, late)
    with pytest.raises(PromotionRace, match=r"another promotion was faster, the champion is now onestep@v1\.0\.0"):
        rollback(Project(audited), "v1.0.0", "it drops frames", key)
    assert [run(audited, "git", "for-each-ref")] == after


def test_garbage_collection_keeps_what_every_recorded_run_needs(audited: Path, keys: Path) -> None:
    (audited / "scratch.bin").write_text("nobody needs this")
    run(audited, "dvc", "add", "--quiet", "scratch.bin")
    garbage = object_of(audited, "scratch.bin")
    (audited / "scratch.bin.dvc").unlink()
    assert garbage.is_file()
    kept = collect_garbage(Project(audited))
    assert {"onestep@v1.0.0", "onestep@v1.1.0"} < set(kept)
    assert not garbage.exists()
    assert missing(Project(audited)) == {}
    for name in kept:
        assert verify(Project(audited), name, keys / "own.pub", copy=False).exit_code == PASSED


def test_plain_dvc_gc_removes_an_earlier_version_and_that_is_seen(audited: Path, keys: Path) -> None:
    run(audited, "dvc", "gc", "--quiet", "--workspace", "--force")
    assert set(missing(Project(audited))) == {"onestep@v1.0.0", "onestep@v1.1.0"}
    report = verify(Project(audited), "onestep", keys / "own.pub", copy=False)
    assert report.exit_code == BROKEN
    assert report.broken is not None
    assert report.broken[0] == "files of DVC"
