"""The commands around records as people type them, with their exit codes."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from onestep.cli.entry import app
from tests.toy_project import run


def onestep(root: Path, *words: str) -> Result:
    with contextlib.chdir(root):
        return CliRunner(env={"COLUMNS": "200"}).invoke(app, words)


def test_a_refused_run_is_recorded_listed_shown_and_verified(
    project: Path,
    retrain: Callable[..., None],
    tmp_path: Path,
) -> None:
    (project / ".gitignore").write_text("/.onestep/\n")
    run(project, "git", "add", ".gitignore")
    run(project, "git", "commit", "--quiet", "--message", "Ignore")
    retrain(1, verdict="reject")
    for _ in range(2):
        assert onestep(project, "keygen", "--if-missing").exit_code == 0
    recorded = onestep(project, "record")
    assert recorded.exit_code == 0
    assert "verdict reject; signed by SHA256:" in recorded.stdout
    listed = onestep(project, "lineage", "list")
    assert listed.stdout.count("reject") == 1
    shown = onestep(project, "lineage", "show", "onestep")
    assert "not promoted" in shown.stdout
    page = onestep(project, "lineage", "show", "--html", str(tmp_path / "page.html"))
    assert (page.exit_code, (tmp_path / "page.html").is_file()) == (0, True)
    card = onestep(project, "lineage", "card", "--out", str(tmp_path / "card"))
    assert (card.exit_code, (tmp_path / "card/bom.cdx.json").is_file()) == (0, True)
    verified = onestep(project, "lineage", "verify", "onestep")
    assert verified.exit_code == 0, verified.stdout
    assert "passed: runs/" in verified.stdout
    verdict = project / "reports/verdict.json"
    verdict.write_text(verdict.read_text().replace("reject", "promote"))
    changed = onestep(project, "lineage", "verify", "onestep", "--no-copy")
    assert changed.exit_code == 0
    changed = onestep(project, "lineage", "verify", "onestep")
    assert changed.exit_code == 6
    assert "reports/verdict.json" in changed.output


def test_without_a_key_the_record_says_unsigned_and_verify_has_its_own_exit_code(project: Path) -> None:
    recorded = onestep(project, "record")
    assert recorded.exit_code == 0
    assert recorded.output.count("UNSIGNED") == 2
    verified = onestep(project, "lineage", "verify")
    assert verified.exit_code == 4
    assert "UNSIGNED: everything fits together" in verified.output


def test_run_that_was_recorded_first_can_be_promoted_after(project: Path) -> None:
    assert onestep(project, "record").exit_code == 0
    promoted = onestep(project, "promote")
    assert promoted.exit_code == 0, promoted.output
    assert "promoted onestep@v1.0.0: recorded on runs/" in promoted.stdout
    kinds = [line.split()[2] for line in onestep(project, "ledger", "show").stdout.splitlines()[:-1]]
    assert kinds == ["attempt", "verdict", "promotion"]
    assert onestep(project, "gc", "--dry").exit_code == 0


@pytest.mark.parametrize("words", [("lineage", "verify"), ("lineage", "show"), ("lineage", "blame", "a.mp4")])
def test_before_any_record_the_commands_say_so(project: Path, words: tuple[str, ...]) -> None:
    done = onestep(project, *words)
    assert done.exit_code != 0
    assert "recorded" in str(done.exception) or "none yet" in str(done.exception)
