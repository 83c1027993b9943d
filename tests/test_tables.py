"""Measured numbers are rows of one file, and the pages' tables are made from them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runs import RUNS, Origin, add, metrics_of, origin_of, read_runs, rows_of
from tables import PAGES, TableError, filled

ROOT = Path(__file__).parents[1]


def cell(value: float, key: str = "value") -> dict[str, float]:
    return {key: round(value, 6), "low": round(value - 1, 6), "high": round(value + 1, 6)}


METRICS = {
    "models": {
        name: {
            metric: cell(value * place)
            for metric, value in {
                "frechet_video_distance": 0.5,
                "patch_frechet_distance": 0.25,
                "attribute_accuracy": 0.9,
                "structural_stability": 0.8,
                "diversity": 2.0,
                "motion": 0.01,
            }.items()
        }
        for place, name in enumerate(("onestep", "teacher-2", "real"), start=1)
    },
    "settings": {"onestep": {"steps": 1, "guidance": 1.0}, "teacher-2": {"steps": 2, "guidance": 4.0}},
    "comparisons": {
        "onestep vs teacher-2": {
            m: cell(-0.5, "difference")
            for m in ("frechet_video_distance", "patch_frechet_distance", "attribute_accuracy")
        }
    },
    "gsb": {"against": "teacher-2", "onestep vs teacher-2": {q: cell(0.1) for q in ("fidelity", "structure", "text")}},
}
ORIGIN = Origin("m", "0a1b2c3d4", "runs/1", "7", "make demo")


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "page.md"


@pytest.fixture(scope="module")
def rows():
    return {"m": list(rows_of(ORIGIN, METRICS))}


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        (
            "models",
            "| teacher-2 | 2 | 1.00 [0.00, 2.00] | 0.50 [−0.50, 1.50] | 1.800 [0.800, 2.800] | 1.600 | 0.67 | 0.67 |",
        ),
        ("differences", "| teacher-2 | −0.50 [−1.50, +0.50] | −0.50 [−1.50, +0.50] | −0.500 [−1.500, +0.500] |"),
        ("preference", "| teacher-2 | +10 [−90, +110] | +10 [−90, +110] | +10 [−90, +110] |"),
        ("runs", "| m | 0.50 | +10 [−90, +110] | +10 [−90, +110] | +10 [−90, +110] | 0.33 | 0.33 |"),
        ("origins", "| m | 0a1b2c3d4 | 7 | `make demo` | runs/1 |"),
    ],
)
def test_a_table_is_written_anew_and_what_is_around_it_stays(page: Path, rows, kind: str, row: str) -> None:
    mark = f"<!-- {kind} of m{'' if kind == 'origins' else ': teacher-2'} -->\n"
    page.write_text(f"before\n{mark}| old |\n<!-- end -->\nafter\n")
    text = filled(page, rows)
    assert text.startswith(f"before\n{mark}| ") and text.endswith(f"{row}\n<!-- end -->\nafter\n")
    assert "old" not in text
    page.write_text(text)
    assert filled(page, rows) == text


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ("modles of m: teacher-2", "no table 'modles'; known are models, differences, preference, runs, origins"),
        ("models of n: teacher-2", r"no run 'n' in results/runs\.csv; known are m"),
        ("models of m: teacher-3", "no model 'teacher-3' in m; known are onestep, teacher-2, real"),
        ("runs of m, m: teacher-2, real", "runs takes one model"),
        ("models of m, m: teacher-2", "models takes one run"),
    ],
)
def test_a_mark_that_asks_for_what_is_not_there_is_named(page: Path, rows, mark: str, said: str) -> None:
    page.write_text(f"<!-- {mark} -->\n<!-- end -->\n")
    with pytest.raises(TableError, match=said):
        filled(page, rows)


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_of_the_pages_are_those_of_their_results(page: Path) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert "<!-- models of " in text
    assert filled(ROOT / page, read_runs(ROOT / RUNS)) == text


def test_a_page_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "tables.py", "nowhere.md"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "tables: nowhere.md: does not exist\n"


def test_numbers_come_back_from_their_rows(rows) -> None:
    assert metrics_of(rows["m"]) == METRICS
    assert origin_of(rows["m"]) == ORIGIN
    assert {row.run for row in rows["m"]} == {"m"} and {row.seed for row in rows["m"]} == {"7"}


def test_run_is_added_once_and_replaced_where_its_numbers_changed(tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"
    assert add(file, ORIGIN, METRICS) and add(file, ORIGIN._replace(run="n"), METRICS)
    before = file.read_bytes()
    assert not add(file, ORIGIN._replace(commit="another"), METRICS)  # the numbers of the commit that is written there
    assert file.read_bytes() == before
    other = json.loads(json.dumps(METRICS))
    other["models"]["real"]["motion"]["value"] = 0.5
    assert add(file, ORIGIN._replace(commit="another"), other)
    runs = read_runs(file)
    assert list(runs) == ["m", "n"]
    assert metrics_of(runs["m"]) == other and origin_of(runs["m"]).commit == "another"
    assert metrics_of(runs["n"]) == METRICS


def test_every_shipped_row_says_where_it_comes_from() -> None:
    runs = read_runs(ROOT / RUNS)
    assert {"demo", "full", "long"} <= set(runs)
    for rows in runs.values():
        assert len({origin_of([row]) for row in rows}) == 1
        assert len({(row.model, row.metric) for row in rows}) == len(rows)
        assert all(row.commit and row.seed and row.metric for row in rows)
