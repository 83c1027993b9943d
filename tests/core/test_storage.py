"""Bytes in and out: whole or not at all, the same from every file system, and named when they are missing."""

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from onestep.core import disk
from onestep.core.storage import (
    MachineFailed,
    StorageError,
    fetch,
    list_files,
    open_folder,
    read_json,
    read_mapping,
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


def test_a_process_that_is_killed_while_it_replaces_a_folder_loses_neither(tmp_path: Path, monkeypatch) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "old").touch()
    killed = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        from onestep.core.storage import replacing_folder
        Path.replace = lambda *_: os._exit(9)  # killed between the two renames
        with replacing_folder(Path(sys.argv[1])) as partial:
            (partial / "new").touch()
        """
    )
    assert subprocess.run([sys.executable, "-c", killed, str(target)], check=False).returncode == 9
    assert not target.exists()
    assert len(list(tmp_path.iterdir())) == 2  # what was, and what was to be
    monkeypatch.setattr(disk, "YOUNG_S", 0.0)
    with pytest.raises(RuntimeError), replacing_folder(target):
        raise RuntimeError
    assert [path.name for path in target.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [target]


def test_what_another_process_is_writing_stays(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(disk, "YOUNG_S", 0.0)
    target = tmp_path / "model"
    with replacing_folder(target) as first:
        (first / "first").touch()
        with replacing_folder(target) as second:
            (second / "second").touch()
        assert (first / "first").exists()
    assert [path.name for path in target.iterdir()] == ["first"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_persons_own_hidden_files_are_no_leftovers(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(disk, "YOUNG_S", 0.0)
    (tmp_path / ".env.defaults").touch()
    with replacing(tmp_path / "env") as partial:
        partial.touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".env.defaults", "env"]


@pytest.mark.parametrize("held", ["dvc.yaml", ".git"])
def test_a_project_is_never_replaced(held: str, tmp_path: Path) -> None:
    (tmp_path / held).touch()
    with pytest.raises(StorageError, match=f"is a project's folder .it holds {held}"), replacing_folder(tmp_path):
        pass
    assert (tmp_path / held).exists()


def test_the_folder_one_stands_in_is_never_replaced(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    with pytest.raises(StorageError, match="would be replaced with all that it holds"), replacing_folder(Path("..")):
        pass


def test_a_disk_without_room_is_one_sentence_before_anything_is_written(tmp_path: Path) -> None:
    with (
        pytest.raises(MachineFailed, match=r"weights cannot be written: it needs 9000000\.0 GB, and .* are free there"),
        replacing(tmp_path / "weights", needs=9 * 10**15),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


WRITERS = {
    "python": "partial.write_bytes(bytes(3_000_000))",
    "parquet": "import numpy, pandas; pandas.DataFrame({'x': numpy.random.rand(400_000)}).to_parquet(partial)",
    "safetensors": "import torch; from safetensors.torch import save_file; save_file({'x': torch.zeros(800_000)}, partial)",
    "tar": "import tarfile, io; t = tarfile.open(partial, 'w'); i = tarfile.TarInfo('x'); i.size = 3_000_000; "
    "t.addfile(i, io.BytesIO(bytes(3_000_000)))",
    "picture": "import numpy; from PIL import Image; "
    "Image.fromarray(numpy.random.randint(0, 255, (1000, 1000, 3), 'uint8')).save(partial, format='PNG')",
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_writer_that_meets_the_end_of_the_disk_names_target_and_room(writer: str, tmp_path: Path) -> None:
    """A limit on files stands in for the disk's end, so that no mount is needed; the words are the same but for the cause."""
    target = tmp_path / "result"
    target.write_text("old")
    code = textwrap.dedent(
        f"""
        import resource, signal, sys
        from pathlib import Path
        from onestep.core.failures import one_sentence
        from onestep.core.storage import replacing
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        with one_sentence("onestep", []), replacing(Path({str(target)!r})) as partial:
            {WRITERS[writer]}
        """
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 75, done.stderr
    line = [line for line in done.stderr.splitlines() if line.startswith("onestep: ")][-1]
    assert line.startswith(f"onestep: {target} cannot be written: the file is larger than this process may write (")
    assert "free there" in line and "Traceback" not in done.stderr
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("result", "old")]


def test_a_disk_that_is_full_is_one_sentence(tmp_path: Path) -> None:
    disk_ = tmp_path / "small"
    disk_.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk_)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a disk of one megabyte cannot be mounted here: that takes root")
    try:
        with pytest.raises(MachineFailed) as caught, replacing_folder(disk_ / "out") as partial:
            (partial / "a").write_bytes(bytes(3_000_000))
        assert f"{disk_ / 'out'} cannot be written: no space is left on the disk (0.0 MB free there" in str(
            caught.value
        )
        assert list(disk_.iterdir()) == []
        subprocess.run(["mount", "-o", "remount,ro", str(disk_)], check=True)
        with pytest.raises(MachineFailed, match="the file system is read-only"), replacing(disk_ / "out"):
            pass
    finally:
        subprocess.run(["umount", str(disk_)], check=True)


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
    with pytest.raises(StorageError, match="absent cannot be reached: it is not there"):
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


def test_a_key_that_is_missing_or_of_another_type_is_named(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"seed": 1, "samples": []})
    assert read_mapping(path, seed=int, samples=list) == {"seed": 1, "samples": []}
    for content, words in (
        ([], "holds a list where an object is needed"),
        ({"seed": 1}, "has no 'samples'"),
        ({"seed": True, "samples": []}, "seed is of type bool, not int"),
        ({"seed": "1", "samples": []}, "seed is of type str, not int"),
    ):
        write_json(path, content)
        with pytest.raises(StorageError, match=rf"record\.json:? {words}"):
            read_mapping(path, seed=int, samples=list)
