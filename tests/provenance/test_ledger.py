import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from onestep.provenance import ledger
from onestep.provenance.entries import GENESIS, Content, LedgerBroken, LedgerError, Promotion, Trial, Verdict
from onestep.provenance.ledger import LedgerMoved
from onestep.vcs.git import GitError, RefUpdate, Repository
from tests.toy_project import run

TIME = "2026-01-02T03:04:05+00:00"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    root = tmp_path / "project"
    root.mkdir()
    run(root, "git", "init", "--quiet", "--initial-branch=main")
    (root / "file").write_text("one\n")
    run(root, "git", "add", "file")
    run(root, "git", "-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "--quiet", "--message", "Start")
    return Repository(root)


def attempt(comparison: int = 1) -> Trial:
    return Trial(
        comparison=comparison, alpha=0.01, seed=7, champion=None, data="d" * 64, params="a" * 64, code="c" * 64
    )


def verdict(comparison: int = 1, word: str = "hold") -> Verdict:
    return Verdict(
        comparison=comparison, verdict=word, reason="because", verdict_sha256="e" * 64, model_sha256="f" * 64
    )


def promotion(comparison: int = 1) -> Promotion:
    return Promotion(comparison=comparison, tag="onestep@v1.0.0", model_sha256="f" * 64, replaces=None, run="abc")


def lines(repository: Repository) -> list[str]:
    return repository.git("show", "ledger:ledger.jsonl").splitlines()


def rewrite(repository: Repository, change: Callable[[list[str]], list[str]]) -> None:
    """What a person with write access and no scruples can do."""
    text = "".join(f"{line}\n" for line in change(lines(repository)))
    commit = repository.commit(repository.tree_of({ledger.FILE: text.encode()}), None, "rewritten")
    repository.git("update-ref", ledger.REF, commit)


def five(repository: Repository) -> None:
    ledger.append(repository, attempt(1), verdict(1), attempt(2), verdict(2), attempt(3), time=TIME)


def test_ledger_is_plain_lines_of_canonical_json_on_a_branch_of_its_own(repository: Repository) -> None:
    before = repository.git("status", "--porcelain", "--branch")
    ledger.append(repository, attempt(1), time=TIME)
    ledger.append(repository, verdict(1), time=TIME)
    first, second = map(json.loads, lines(repository))
    assert (first["index"], first["kind"], first["previous"], first["time"]) == (1, "attempt", "0" * 64, TIME)
    assert second["previous"] == hashlib.sha256(lines(repository)[0].encode()).hexdigest()
    assert lines(repository)[1] == json.dumps(second, sort_keys=True, separators=(",", ":"))
    assert repository.git("ls-tree", "-r", "--name-only", "ledger") == "ledger.jsonl"
    assert repository.git("rev-list", "--count", "ledger") == "2"
    with pytest.raises(GitError):
        repository.git("merge-base", "main", "ledger")
    assert repository.git("status", "--porcelain", "--branch") == before


def test_what_was_appended_is_read_back(repository: Repository) -> None:
    assert ledger.read(repository) == []
    assert ledger.head(repository) == GENESIS
    five(repository)
    entries = ledger.read(repository)
    assert [entry.index for entry in entries] == [1, 2, 3, 4, 5]
    assert [entry.content for entry in entries] == [attempt(1), verdict(1), attempt(2), verdict(2), attempt(3)]
    assert ledger.head(repository) == entries[-1].sha256


def edited(given: list[str]) -> list[str]:
    return [line.replace('"alpha":0.01', '"alpha":0.02') if i == 2 else line for i, line in enumerate(given)]


@pytest.mark.parametrize(
    ("change", "index", "reason"),
    [
        (edited, 3, "it was edited: entry 4 follows"),
        (lambda given: given[:1] + given[2:], 2, "it was removed: entry 3 stands in its place"),
        (lambda given: given[1:], 1, "it was removed"),
        (lambda given: [given[0], given[2], given[1], *given[3:]], 2, "entries were reordered"),
        (lambda given: [*given[:3], "x", given[4]], 4, "it is not JSON"),
        (lambda given: [*given[:3], "[]", given[4]], 4, "it is not a JSON object"),
        (lambda given: [*given[:4], given[4].replace(":", ": ", 1)], 5, "not in canonical JSON"),
        (lambda given: [given[0].replace("}", ',"x":1}'), *given[1:]], 1, "x: Extra inputs are not permitted"),
        (lambda given: [given[0].replace('"attempt"', '"prize"'), *given[1:]], 1, "it was edited"),
        (lambda given: [], 1, "empty"),
    ],
)
def test_tampering_is_named_by_the_first_bad_entry(
    repository: Repository, change: Callable[[list[str]], list[str]], index: int, reason: str
) -> None:
    five(repository)
    rewrite(repository, change)
    with pytest.raises(LedgerBroken, match=reason) as caught:
        ledger.read(repository)
    assert caught.value.index == index
    with pytest.raises(LedgerBroken):
        ledger.append(repository, verdict(3))


def test_cut_off_tail_shows_in_the_head_that_others_carry(repository: Repository) -> None:
    five(repository)
    carried = ledger.head(repository)
    message = f"onestep@v1.0.0\n\nsha256: abc\n{ledger.trailer(carried)}\n"
    assert ledger.carried_head(message) == carried
    rewrite(repository, lambda given: given[:4])
    entries = ledger.read(repository)
    with pytest.raises(LedgerBroken, match=f"entry 5: it is missing: an entry with sha256 {carried}"):
        ledger.require_contains(entries, carried)
    ledger.require_contains(entries, entries[1].sha256)
    ledger.require_contains([], GENESIS)


def test_of_two_appends_at_once_one_wins_and_the_other_is_told(repository: Repository) -> None:
    five(repository)
    mine = ledger.appended(repository, verdict(3))
    ledger.append(repository, verdict(3, "reject"))
    with pytest.raises(GitError):
        repository.update([mine])
    with pytest.raises(LedgerMoved, match=r"no longer .*nothing was written"):
        ledger.append(repository, attempt(4), expected=mine.entries[4].sha256)
    assert [entry.content.verdict for entry in ledger.read(repository) if entry.kind == "verdict"][-1] == "reject"


def test_ledger_tags_and_branch_move_in_one_transaction_or_not_at_all(repository: Repository) -> None:
    ledger.append(repository, attempt(1))
    update = ledger.appended(repository, verdict(1, "promote"), promotion(1))
    tag = RefUpdate("refs/tags/onestep@v1.0.0", repository.head())
    repository.git("tag", "onestep@v1.0.0")
    with pytest.raises(GitError):
        repository.update([update, tag])
    assert len(ledger.read(repository)) == 1
    repository.git("tag", "--delete", "onestep@v1.0.0")
    repository.update([update, tag])
    assert ledger.head(repository) == update.head
    assert [entry.kind for entry in ledger.read(repository)] == ["attempt", "verdict", "promotion"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (attempt(5), "comparison 5 cannot follow 3 trials"),
        (verdict(4), "comparison 4 has no trial in the ledger"),
        (verdict(2), "comparison 2 has its verdict already"),
        (promotion(2), "comparison 2 may not be promoted: its standing verdict is hold"),
        (promotion(3), "comparison 3 may not be promoted: its standing verdict is none"),
    ],
)
def test_entry_that_does_not_follow_is_refused(repository: Repository, content: Content, sentence: str) -> None:
    five(repository)
    with pytest.raises(LedgerError, match=sentence):
        ledger.append(repository, content)
    assert len(ledger.read(repository)) == 5


def test_clone_goes_on_with_the_remotes_ledger_and_never_forks_it(repository: Repository, tmp_path: Path) -> None:
    five(repository)
    run(tmp_path, "git", "clone", "--quiet", str(repository.root), "clone")
    clone = Repository(tmp_path / "clone")
    assert clone.resolve(ledger.REF) is None
    assert ledger.head(clone) == ledger.head(repository)
    ledger.append(clone, verdict(3))
    assert len(ledger.read(clone)) == 6
    run(clone.root, "git", "push", "--quiet", "origin", "ledger")
    assert len(ledger.read(repository)) == 6
    ledger.append(repository, attempt(4))
    run(clone.root, "git", "fetch", "--quiet", "origin")
    with pytest.raises(LedgerMoved, match="git fetch origin ledger:ledger"):
        ledger.append(clone, attempt(4))
    run(clone.root, "git", "fetch", "--quiet", "origin", "ledger:ledger")
    ledger.append(clone, verdict(4))


def test_ledger_of_a_project_below_the_top_of_its_repository(repository: Repository) -> None:
    (repository.root / "below").mkdir()
    below = Repository(repository.root / "below")
    five(below)
    assert ledger.read(below) == ledger.read(repository)
    assert subprocess.run(["git", "show", "ledger:ledger.jsonl"], cwd=repository.root, check=True, capture_output=True)
