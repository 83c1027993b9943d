"""Odd files of every kind, written by benchmarks/odd_footage, become what they must."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.odd_footage.judged import Outcome, everything, judge, settings_of
from benchmarks.odd_footage.odd import MAIN, SMALL
from benchmarks.odd_footage.page import MARK, PAGE, table

from onestep.core.storage import sha256_folder
from onestep.data.ingest import ingest


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("odd")
    with contextlib.chdir(folder):
        yield folder


@pytest.fixture(scope="module")
def outcomes(work: Path) -> list[Outcome]:
    return list(judge(work))


def test_names_are_unique_and_many() -> None:
    names = [(odd.folder, odd.name) for odd in everything()]
    assert len(names) == len(set(names)) >= 60


@pytest.mark.slow
def test_every_odd_file_becomes_what_it_must(outcomes: list[Outcome]) -> None:
    assert {outcome.odd.name: outcome.wrong for outcome in outcomes if outcome.wrong} == {}
    assert len(outcomes) == len(everything())


@pytest.mark.slow
def test_the_page_says_what_became_of_each(outcomes: list[Outcome]) -> None:
    found = re.search(MARK, PAGE.read_text(encoding="utf-8"))
    assert found is not None
    assert found[0].startswith(found[1] + table(outcomes)), "run python -m benchmarks.odd_footage --write"


@pytest.mark.slow
def test_a_second_run_in_other_processes_gives_the_same_bytes_and_leaves_nothing(
    work: Path, outcomes: list[Outcome]
) -> None:
    assert outcomes
    for folder in (MAIN, SMALL):
        ingest(str(work / folder), work / "again", settings_of(folder, workers=2))
        assert sha256_folder(work / "again") == sha256_folder(work / f"clips-{folder}")
    assert not [path for path in work.rglob(".*") if path.is_dir() and path.name not in (".hidden", ".onestep")]
    assert not [path for path in (work / ".onestep").rglob("*") if path.is_file()]
    assert {path.name for path in work.iterdir()} == {
        MAIN, SMALL, f"clips-{MAIN}", f"clips-{SMALL}", "again", "outside", ".onestep",
    }  # fmt: skip
