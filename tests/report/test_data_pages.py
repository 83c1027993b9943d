"""The pages of what `validate` and `drift` found."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from onestep.cli.params import Params
from onestep.core.storage import StorageError, read_json, write_json
from onestep.data.clips import read_index
from onestep.data.drift import drift
from onestep.data.expectations import validate
from onestep.data.ingest_settings import IngestSettings
from onestep.data.schema import INDEX
from onestep.report.drift_page import write_drift_page
from onestep.report.validation_page import write_validation_page
from tests.data.conftest import clips, footage, footage_settings, ingest_settings, params  # noqa: F401

OUTWARD = re.compile(r"(src|href)=(?!\"data:)|@import|url\(")


@pytest.fixture
def validation(clips: Path, params: Params, ingest_settings: IngestSettings, tmp_path: Path) -> Path:  # noqa: F811
    validate(clips, tmp_path / "validation.json", params.validate_, ingest_settings)
    return tmp_path / "validation.json"


def test_page_of_the_checks_repeats_byte_for_byte_and_needs_no_network(
    clips: Path,  # noqa: F811
    validation: Path,
    tmp_path: Path,
) -> None:
    pages = [tmp_path / "one.html", tmp_path / "two.html"]
    for page in pages:
        write_validation_page(clips, validation, page)
    assert pages[0].read_bytes() == pages[1].read_bytes()
    text = pages[0].read_text()
    assert not OUTWARD.search(text)
    assert text.count("<img ") == 12
    assert "bad/truncated.mp4" in text
    assert str(tmp_path) not in text


def test_clips_that_break_a_check_are_shown_under_its_name(clips: Path, validation: Path, tmp_path: Path) -> None:  # noqa: F811
    record = read_json(validation)
    ids = read_index(clips)["clip_id"].tolist()
    check = next(check for check in record["checks"] if check["name"] == "brightness")
    check |= {"passed": False, "failing": ids[:10]}
    write_json(validation, record | {"passed": False})
    write_validation_page(clips, validation, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    shown = text[text.index("Clips that break a check") : text.index("A sample of the clips")]
    assert re.findall(r'alt="frames of ([^"]+)"', shown) == ids[:8]
    assert "brightness" in re.findall(r"checks fail: ([^.]+)\.", text)[0]


def test_index_without_captions_has_a_page_without_pictures(clips: Path, validation: Path, tmp_path: Path) -> None:  # noqa: F811
    shutil.copytree(clips, tmp_path / "clips")
    read_index(clips).drop(columns=["caption"]).to_parquet(tmp_path / "clips" / INDEX)
    write_validation_page(tmp_path / "clips", validation, tmp_path / "page.html")
    assert "<img " not in (tmp_path / "page.html").read_text()


def test_verdict_that_is_not_there_is_named(clips: Path, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(StorageError, match=r"validation\.json does not exist"):
        write_validation_page(clips, tmp_path / "validation.json", tmp_path / "page.html")


def compare(clips: Path, reference: Path, params: Params, folder: Path) -> str:  # noqa: F811
    """The page of a comparison."""
    folder.mkdir(exist_ok=True)
    drift(clips, reference, folder / "drift.json", params.drift)
    write_drift_page(clips, reference, folder / "drift.json", folder / "drift.html")
    return (folder / "drift.html").read_text()


def test_page_of_a_comparison_repeats_byte_for_byte_and_needs_no_network(
    clips: Path,  # noqa: F811
    params: Params,  # noqa: F811
    tmp_path: Path,
) -> None:
    before: pd.DataFrame = read_index(clips)
    before["brightness"] *= 0.7
    before.to_parquet(tmp_path / "before.parquet")
    pages = [compare(clips, tmp_path / "before.parquet", params, tmp_path / name) for name in ("one", "two")]
    assert pages[0] == pages[1]
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=[\"']?https?:", pages[0])
    assert str(tmp_path) not in pages[0]


def test_page_of_a_comparison_holds_the_recorded_distances(
    clips: Path,  # noqa: F811
    params: Params,  # noqa: F811
    tmp_path: Path,
) -> None:
    before: pd.DataFrame = read_index(clips)
    before["brightness"] -= 0.2
    before.to_parquet(tmp_path / "before.parquet")
    page = compare(clips, tmp_path / "before.parquet", params, tmp_path / "made")
    record = json.loads((tmp_path / "made" / "drift.json").read_text())
    moved = next(column for column in record["columns"] if column["column"] == "brightness")
    assert moved["drifted"]
    assert f"{moved['distance']:.3f}" in page


def test_page_without_a_reference_says_so(clips: Path, params: Params, tmp_path: Path) -> None:  # noqa: F811
    page = compare(clips, tmp_path / "absent.parquet", params, tmp_path / "made")
    assert "No reference" in page
    assert not OUTWARD.search(page)
