"""Bytes in and out: whole or not at all, the same from every file system, and named when they are missing."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from onestep.storage import (
    StorageError,
    fetch,
    list_files,
    open_folder,
    read_json,
    replacing,
    replacing_folder,
    sha256_file,
    sha256_folder,
    write_json,
)


@pytest.fixture
def bucket() -> Iterator[str]:
    fs = fsspec.filesystem("memory")
    fs.pipe({"/bucket/weights/a.bin": b"a" * 3_000_000, "/bucket/weights/deep/b.txt": b"b"})
    yield "memory://bucket/weights"
    fs.rm("/bucket", recursive=True)


def test_a_file_is_replaced_only_when_its_writer_succeeds(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    target.write_text("old")
    with pytest.raises(RuntimeError), replacing(target) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    with replacing(target) as partial:
        partial.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_folder_is_replaced_only_when_its_writer_succeeds(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(RuntimeError), replacing_folder(target) as partial:
        (partial / "half").touch()
        raise RuntimeError
    assert [path.name for path in target.iterdir()] == ["old"]
    with replacing_folder(target) as partial:
        (partial / "new").touch()
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_sha256_of_a_folder_sees_names_and_contents_and_no_dot_files(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a").write_text("1")
    first = sha256_folder(tmp_path)
    (tmp_path / ".gitignore").write_text("/deep")
    assert sha256_folder(tmp_path) == first
    (tmp_path / "deep" / "a").write_text("2")
    changed = sha256_folder(tmp_path)
    assert changed != first
    (tmp_path / "deep" / "a").rename(tmp_path / "deep" / "b")
    assert sha256_folder(tmp_path) not in (first, changed)


def test_sha256_of_a_folder_does_not_depend_on_where_it_lies(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_bytes(b"same")
    assert sha256_folder(tmp_path / "one") == sha256_folder(tmp_path / "two")


def test_a_remote_folder_is_listed_and_fetched_whole(bucket: str, tmp_path: Path) -> None:
    fs, root = open_folder(bucket)
    assert list_files(fs, root) == ["a.bin", "deep/b.txt"]
    sha256 = fetch(fs, f"{root}/a.bin", tmp_path / "new" / "a.bin")
    assert (tmp_path / "new" / "a.bin").stat().st_size == 3_000_000
    assert sha256 == sha256_file(tmp_path / "new" / "a.bin")


def test_a_file_that_is_missing_at_the_source_leaves_nothing_behind(bucket: str, tmp_path: Path) -> None:
    fs, root = open_folder(bucket)
    with pytest.raises(FileNotFoundError):
        fetch(fs, f"{root}/absent", tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["nowhere", "memory://nowhere/at/all"])
def test_a_folder_that_is_not_there_is_named(url: str, tmp_path: Path) -> None:
    place = url if "://" in url else str(tmp_path / url)
    with pytest.raises(StorageError, match=f"{place} is not a folder"):
        open_folder(place)


def test_json_is_written_the_same_whatever_the_order_of_its_keys(tmp_path: Path) -> None:
    write_json(tmp_path / "one.json", {"b": 1, "a": "é"})
    write_json(tmp_path / "two.json", {"a": "é", "b": 1})
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert read_json(tmp_path / "one.json") == {"a": "é", "b": 1}


def test_json_refuses_what_is_not_a_number(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "report.json", {"value": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_json_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"absent\.json does not exist"):
        read_json(tmp_path / "absent.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(StorageError, match=r"broken\.json is not valid JSON"):
        read_json(tmp_path / "broken.json")
