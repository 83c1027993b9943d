import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from onestep.cli.params import Params
from onestep.core.storage import StorageError, read_json, write_json
from onestep.data.clips import read_index
from onestep.data.expectations import validate
from onestep.data.ingest_settings import IngestSettings
from onestep.data.schema import INDEX, QUARANTINE
from onestep.data.validate_settings import ValidateSettings
from onestep.data.validation import ValidationRefused, require_passed

Judge = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def limits(params: Params) -> ValidateSettings:
    small = {"min_train_clips": 10, "min_test_clips": 8, "max_quarantine_rate": 0.5}
    return params.validate_.model_copy(update=small)


@pytest.fixture
def judge(clips: Path, limits: ValidateSettings, ingest_settings: IngestSettings, tmp_path: Path) -> Judge:
    """Validates a copy of good clips after a change to its index; returns the record, its checks by name."""

    def run(change: Callable[[pd.DataFrame], pd.DataFrame | None] | None = None, **update: Any) -> dict[str, Any]:
        folder = tmp_path / "changed"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(clips, folder)
        index = read_index(folder)
        changed = change(index) if change else None
        (index if changed is None else changed).to_parquet(folder / INDEX, index=False)
        out = tmp_path / "validation.json"
        validate(folder, out, limits.model_copy(update=update), ingest_settings)
        record = read_json(out)
        record["checks"] = {check["name"]: check for check in record["checks"]}
        return record

    return run


def failed(record: dict[str, Any]) -> dict[str, list[str]]:
    return {name: check["failing"] for name, check in record["checks"].items() if not check["passed"]}


def test_good_clips_pass_every_check(judge: Judge, tmp_path: Path) -> None:
    record = judge()
    assert record["passed"] is True
    assert failed(record) == {}
    assert record["clips"]["total"] == 29
    assert record["clips"]["test"] == 8
    assert record["quarantine"]["truncated"] == 1
    require_passed(tmp_path / "validation.json")


def test_the_verdict_repeats_byte_for_byte(judge: Judge, tmp_path: Path) -> None:
    judge()
    first = (tmp_path / "validation.json").read_bytes()
    judge()
    assert (tmp_path / "validation.json").read_bytes() == first
    assert str(tmp_path) not in first.decode()


def set_cell(row: int, column: str, value: Any) -> Callable[[pd.DataFrame], None]:
    def change(index: pd.DataFrame) -> None:
        index.loc[row, column] = value

    return change


def test_each_wrong_value_fails_its_own_check_and_names_its_clip(judge: Judge, clips: Path) -> None:
    wrong = {
        "captions are not empty": ("caption", "  "),
        "frames": ("frames", 12),
        "height": ("height", 48),
        "fps": ("fps", 24.0),
        "brightness": ("brightness", 0.99),
        "movement": ("movement", 0.5),
        "splits": ("split", "holdout"),
        "no value is missing": ("phash", None),
    }
    ids = read_index(clips)["clip_id"]

    def spoil(index: pd.DataFrame) -> None:
        for row, (column, value) in enumerate(wrong.values()):
            index.loc[row, column] = value

    record = judge(spoil)
    assert record["passed"] is False
    for row, check in enumerate(wrong):
        assert record["checks"][check]["failing"] == [ids[row]]
        assert check in failed(record)


def test_duplicates_are_named_both(judge: Judge, clips: Path) -> None:
    ids = read_index(clips)["clip_id"]

    def repeat(index: pd.DataFrame) -> None:
        index.loc[3, ["phash", "caption"]] = index.loc[4, ["phash", "caption"]].tolist()

    assert failed(judge(repeat)) == {"no duplicates": [ids[3], ids[4]]}


def test_a_held_out_combination_in_training_is_a_leak(judge: Judge, clips: Path) -> None:
    index = read_index(clips)
    held, train = index.index[index["held_out"]][0], index.index[index["split"] == "train"][0]

    def leak(index: pd.DataFrame) -> None:
        for name in ("size", "colour", "shape", "motion", "background"):
            index.loc[train, name] = index.loc[held, name]

    record = judge(leak)
    assert failed(record) == {"no held-out combination in training": [index["clip_id"][train]]}
    assert record["checks"]["no held-out combination in training"]["observed"] == 1


def test_without_attributes_the_leak_check_says_that_it_is_not_made(judge: Judge) -> None:
    record = judge(lambda index: index.drop(columns=["size", "colour", "shape", "motion", "background"]))
    assert record["passed"] is True
    assert "not checked" in record["checks"]["no held-out combination in training"]["observed"]


def test_attributes_of_other_names_are_checked_for_leaks(judge: Judge, clips: Path) -> None:
    index = read_index(clips)
    held, train = index.index[index["held_out"]][0], index.index[index["split"] == "train"][0]

    def leak(index: pd.DataFrame) -> pd.DataFrame:
        glazes = pd.Series("white", index=index.index)
        glazes[[held, train]] = "celadon"
        others = index["held_out"] & (index.index != held)
        glazes[others] = ""
        return index.drop(columns=["size", "colour", "shape", "motion", "background"]).assign(
            leaks="no", glaze=glazes, licence="one for all"
        )

    record = judge(leak)
    assert failed(record) == {"no held-out combination in training": [index["clip_id"][train]]}


def test_a_source_in_two_splits_is_found(judge: Judge, clips: Path) -> None:
    index = read_index(clips)
    shots = index[index["split"] == "train"].groupby("source")["clip_id"].apply(list)
    several = next(ids for ids in shots if len(ids) > 1)
    row = index.index[index["clip_id"] == several[0]][0]
    assert failed(judge(set_cell(row, "split", "dev"))) == {"no source in two splits": sorted(several)}


def test_a_missing_column_fails_without_a_crash(judge: Judge) -> None:
    record = judge(lambda index: index.drop(columns=["fps"]))
    assert record["checks"]["columns"]["observed"] == "missing: fps"
    assert "fps" in failed(record)


def test_limits_on_counts_and_quarantine_are_kept(judge: Judge) -> None:
    record = judge(min_train_clips=1000, min_test_clips=9, max_quarantine_rate=0.1)
    assert set(failed(record)) == {"train clips", "test clips", "quarantine rate"}
    assert record["checks"]["test clips"]["observed"] == 8
    files = record["sources"]
    assert record["checks"]["quarantine rate"]["observed"] == pytest.approx(
        files["quarantined"] / (files["quarantined"] + files["ingested"]), abs=1e-6
    )


def test_an_empty_index_fails_without_a_crash(judge: Judge) -> None:
    record = judge(lambda index: index.iloc[:0])
    assert {"train clips", "test clips"} <= set(failed(record))


def test_a_failed_verdict_is_refused_with_the_names_of_the_checks(judge: Judge, tmp_path: Path) -> None:
    judge(set_cell(2, "caption", ""))
    with pytest.raises(ValidationRefused, match=r"validation\.json refuses these clips \(captions are not empty\)"):
        require_passed(tmp_path / "validation.json")
    write_json(tmp_path / "odd.json", {})
    with pytest.raises(ValidationRefused, match="no verdict"):
        require_passed(tmp_path / "odd.json")
    with pytest.raises(StorageError, match="does not exist"):
        require_passed(tmp_path / "nowhere.json")


def test_clips_without_a_quarantine_table_are_refused(
    clips: Path, limits: ValidateSettings, ingest_settings: IngestSettings, tmp_path: Path
) -> None:
    shutil.copytree(clips, tmp_path / "clips")
    (tmp_path / "clips" / QUARANTINE).unlink()
    with pytest.raises(StorageError, match=r"quarantine\.parquet does not exist"):
        validate(tmp_path / "clips", tmp_path / "v.json", limits, ingest_settings)
