import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.tables import PAGES, TableError, filled

ROOT = Path(__file__).parents[1]


def cell(value: float) -> dict[str, float]:
    return {"value": value, "difference": value, "low": value - 1, "high": value + 1}


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
    "settings": {"onestep": {"steps": 1}, "teacher-2": {"steps": 2}},
    "comparisons": {
        "onestep vs teacher-2": {
            m: cell(-0.5) for m in ("frechet_video_distance", "patch_frechet_distance", "attribute_accuracy")
        }
    },
    "gsb": {"onestep vs teacher-2": {q: cell(0.1) for q in ("fidelity", "structure", "text")}},
}


@pytest.fixture
def page(tmp_path: Path) -> Path:
    (tmp_path / "m.json").write_text(json.dumps(METRICS))
    return tmp_path / "page.md"


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        (
            "models",
            "| teacher-2 | 2 | 1.00 [0.00, 2.00] | 0.50 [−0.50, 1.50] | 1.800 [0.800, 2.800] | 1.600 | 0.67 | 0.67 |",
        ),
        ("differences", "| teacher-2 | −0.50 [−1.50, +0.50] | −0.50 [−1.50, +0.50] | −0.500 [−1.500, +0.500] |"),
        ("preference", "| teacher-2 | +10 [−90, +110] | +10 [−90, +110] | +10 [−90, +110] |"),
        ("runs", "| [m](m.json) | 0.50 | +10 [−90, +110] | +10 [−90, +110] | +10 [−90, +110] | 0.33 | 0.33 |"),
    ],
)
def test_a_table_is_written_anew_and_what_is_around_it_stays(page: Path, kind: str, row: str) -> None:
    mark = f"<!-- {kind} of m.json: teacher-2 -->\n"
    page.write_text(f"before\n{mark}| old |\n<!-- end -->\nafter\n")
    text = filled(page)
    assert text.startswith(f"before\n{mark}| ") and text.endswith(f"{row}\n<!-- end -->\nafter\n")
    assert "old" not in text
    page.write_text(text)
    assert filled(page) == text


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ("modles of m.json: teacher-2", "no table 'modles'; known are models, differences, preference, runs"),
        ("models of n.json: teacher-2", "n.json does not exist"),
        ("models of m.json: teacher-3", "no model 'teacher-3' in m.json; known are onestep, teacher-2, real"),
        ("runs of m.json, m.json: teacher-2, real", "runs takes one model"),
        ("models of m.json, m.json: teacher-2", "models takes one file"),
    ],
)
def test_a_mark_that_asks_for_what_is_not_there_is_named(page: Path, mark: str, said: str) -> None:
    page.write_text(f"<!-- {mark} -->\n<!-- end -->\n")
    with pytest.raises(TableError, match=said):
        filled(page)


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_of_the_pages_are_those_of_their_results(page: Path) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert "<!-- models of " in text
    assert filled(ROOT / page) == text


def test_a_page_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "tables.py", "nowhere.md"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "tables: nowhere.md: does not exist\n"
