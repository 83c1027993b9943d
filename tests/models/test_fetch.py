"""Weights by URL: only safetensors, only the pinned ones, whole or not at all."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from onestep.core.storage import StorageError, sha256_folder
from onestep.models.fetch import FetchRefused, fetch_folder
from onestep.models.settings import FetchSettings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "vae").mkdir(parents=True)
    (source / "model_index.json").write_text("{}")
    (source / "vae" / "model.safetensors").write_bytes(b"weights")
    (source / ".cache").mkdir()
    (source / ".cache" / "lock").touch()
    return source


@pytest.fixture
def bucket(folder: Path) -> Iterator[str]:
    fs = fsspec.filesystem("memory")
    fs.put(str(folder), "/team/base", recursive=True)
    yield "memory://team/base"
    fs.rm("/team", recursive=True)


def test_a_local_and_a_remote_folder_arrive_alike(folder: Path, bucket: str, tmp_path: Path) -> None:
    for name, url in (("local", str(folder)), ("remote", bucket)):
        sha256 = fetch_folder(FetchSettings(url=url, sha256=None), tmp_path / name)
        assert sha256 == sha256_folder(tmp_path / name) == sha256_folder(tmp_path / "local")
        assert sorted(
            p.relative_to(tmp_path / name).as_posix() for p in (tmp_path / name).rglob("*") if p.is_file()
        ) == [
            "model_index.json",
            "vae/model.safetensors",
        ]


def test_the_pinned_folder_is_accepted_and_any_other_refused(folder: Path, tmp_path: Path) -> None:
    pinned = FetchSettings(url=str(folder), sha256=sha256_folder(folder / "vae"))
    with pytest.raises(FetchRefused, match="not the pinned") as caught:
        fetch_folder(pinned, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    found = str(caught.value).split("has sha256 ")[1][:64]
    assert fetch_folder(FetchSettings(url=str(folder), sha256=found), tmp_path / "out") == found


def test_a_refused_folder_leaves_the_one_before_it(folder: Path, tmp_path: Path) -> None:
    fetch_folder(FetchSettings(url=str(folder), sha256=None), tmp_path / "out")
    before = sha256_folder(tmp_path / "out")
    (folder / "vae" / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(FetchRefused):
        fetch_folder(FetchSettings(url=str(folder), sha256=before), tmp_path / "out")
    assert sha256_folder(tmp_path / "out") == before


@pytest.mark.parametrize("name", ["pytorch_model.bin", "unet/model.ckpt", "weights.pt", "run.py", "state.PKL"])
def test_pickled_weights_and_code_are_refused(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"\x80\x04.")
    with pytest.raises(FetchRefused, match=f"{name} is pickled or executable"):
        fetch_folder(FetchSettings(url=str(folder), sha256=None), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_without_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "vae" / "model.safetensors").unlink()
    with pytest.raises(FetchRefused, match=r"holds no \.safetensors weights"):
        fetch_folder(FetchSettings(url=str(folder), sha256=None), tmp_path / "out")


def test_a_url_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="memory://nowhere is not a folder"):
        fetch_folder(FetchSettings(url="memory://nowhere", sha256=None), tmp_path / "out")


@pytest.mark.parametrize("scheme", ["http", "s3", "hf", "abfs", "nowhere"])
def test_an_address_that_cannot_be_read_is_named_without_its_password(scheme: str, tmp_path: Path) -> None:
    url = f"{scheme}://person:pw1x@127.0.0.1:1/base?X-Amz-Signature=abc123"
    with pytest.raises(StorageError) as failed:
        fetch_folder(FetchSettings.model_construct(url=url, sha256=None), tmp_path / "out")
    assert f"{scheme}://127.0.0.1:1/base" in str(failed.value)
    assert "pw1x" not in str(failed.value)
    assert "abc123" not in str(failed.value)
