import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from onestep.cli.params import Params
from onestep.core.storage import read_json
from onestep.data.clips import read_index
from onestep.data.drift import drift
from onestep.data.drift_settings import DriftSettings
from onestep.data.schema import INDEX


@pytest.fixture(scope="session")
def settings(params: Params) -> DriftSettings:
    return params.drift


def compare(clips: Path, reference: Path | None, folder: Path, settings: DriftSettings) -> dict[str, Any]:
    drift(clips, reference, folder / "drift.json", settings)
    return read_json(folder / "drift.json")


def test_the_same_footage_has_not_drifted(clips: Path, settings: DriftSettings, tmp_path: Path) -> None:
    record = compare(clips, clips / INDEX, tmp_path, settings)
    assert record["drifted"] is False
    assert {column["distance"] for column in record["columns"]} == {0.0}
    assert record["words"] == {"new": [], "gone": []}


def test_each_kind_of_change_moves_its_own_column(clips: Path, settings: DriftSettings, tmp_path: Path) -> None:
    before = read_index(clips)
    before["brightness"] -= 0.2
    before["caption"] = before["caption"].str.replace("a ", "one ").str.replace(" on ", " upon ")
    before["width"] = 128
    before.to_parquet(tmp_path / "before.parquet")
    record = compare(clips, tmp_path / "before.parquet", tmp_path, settings)
    moved = {column["column"] for column in record["columns"] if column["drifted"]}
    assert moved == {"brightness", "caption words", "width"}
    assert record["drifted"] is True
    assert record["words"] == {"new": ["a", "on"], "gone": ["one", "upon"]}
    brightness = record["columns"][0]
    assert brightness["current_mean"] - brightness["reference_mean"] == pytest.approx(0.2, abs=1e-5)


def test_more_change_is_a_larger_distance(clips: Path, settings: DriftSettings, tmp_path: Path) -> None:
    distances = []
    for shift in (0.0, 0.05, 0.2):
        before = read_index(clips)
        before["movement"] += shift
        before.to_parquet(tmp_path / "before.parquet")
        record = compare(clips, tmp_path / "before.parquet", tmp_path, settings)
        distances.append(next(c["distance"] for c in record["columns"] if c["column"] == "movement"))
    assert distances[0] < distances[1] < distances[2]


@pytest.mark.parametrize("named", [False, True], ids=["none", "absent"])
def test_without_a_reference_the_record_says_so(
    clips: Path, settings: DriftSettings, tmp_path: Path, named: bool
) -> None:
    record = compare(clips, tmp_path / "absent.parquet" if named else None, tmp_path, settings)
    assert record["drifted"] is None
    assert record["reference"] is None
    assert record["reason"].startswith("no reference")


def test_no_training_clips_is_said_and_not_a_crash(clips: Path, settings: DriftSettings, tmp_path: Path) -> None:
    shutil.copytree(clips, tmp_path / "clips")
    index: pd.DataFrame = read_index(clips)
    index[index["split"] == "test"].to_parquet(tmp_path / "clips" / INDEX)
    record = compare(tmp_path / "clips", clips / INDEX, tmp_path, settings)
    assert record["drifted"] is None
    assert record["reason"] == "no training clips in the current index"


def test_record_repeats_byte_for_byte(clips: Path, settings: DriftSettings, tmp_path: Path) -> None:
    before = read_index(clips)
    before["brightness"] *= 0.7
    before.to_parquet(tmp_path / "before.parquet")
    results = []
    for _ in range(2):
        compare(clips, tmp_path / "before.parquet", tmp_path, settings)
        results.append((tmp_path / "drift.json").read_bytes())
    assert results[0] == results[1]
    assert str(tmp_path) not in results[0].decode()
