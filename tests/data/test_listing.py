"""What a folder of footage holds, and what a name of the table means."""

import os
import time
from pathlib import Path

import pytest

from onestep.core.storage import open_folder
from onestep.data.listing import explain_missing, list_footage


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "takes").mkdir()
    (tmp_path / "takes" / "00.mp4").write_bytes(b"x")
    (tmp_path / "elsewhere").symlink_to(tmp_path / "takes")
    return tmp_path


@pytest.mark.parametrize(
    ("written", "reason", "words"),
    [
        ("Takes/00.MP4", "missing", "it holds 'takes/00.mp4'"),
        ("00.mp4", "missing", "it holds 'takes/00.mp4'"),
        ("takes/0.mp4", "missing", "it holds 'takes/00.mp4'"),
        ("other\\place.mov", "missing", "does not hold it"),
        ("x" * 5000, "missing", "does not hold it"),
        ("a/" * 3000 + "b.mp4", "missing", "does not hold it"),
        (".", "not a file", "a folder"),
        ("takes", "not a file", "a folder"),
        ("elsewhere/00.mp4", "not a file", "elsewhere is a link to a folder"),
        ("../takes/00.mp4", "not a file", "no path below the folder"),
        ("takes/../../00.mp4", "not a file", "no path below the folder"),
        ("/takes/00.mp4", "not a file", "no path below the folder"),
        ("~/00.mp4", "not a file", "no path below the folder"),
        ("C:\\takes\\00.mp4", "not a file", "no path below the folder"),
        ("https://example.org/00.mp4", "not a file", "an address"),
    ],
)
@pytest.mark.parametrize("through_link", [False, True])
def test_name_that_is_no_file_of_the_folder_is_explained(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, written: str, reason: str, words: str, through_link: bool
) -> None:
    if through_link:
        above = tmp_path_factory.mktemp("above") / "link"
        above.symlink_to(folder.parent)
        folder = above / folder.name
    fs, root = open_folder(folder)
    listing = list_footage(fs, root)
    assert listing.find(written) is None
    refusal = explain_missing(fs, root, written, listing)
    assert refusal.reason == reason
    assert words in refusal.detail


def test_thousands_of_wrong_names_are_explained_in_seconds(folder: Path) -> None:
    for number in range(5000):
        (folder / "takes" / f"{number}.mov").touch()
    fs, root = open_folder(folder)
    listing = list_footage(fs, root)
    began = time.monotonic()
    for number in range(5000):
        assert listing.find(f"shots\\{number}.mov") is None
        assert f"it holds 'takes/{number}.mov'" in explain_missing(fs, root, f"shots/{number}.mov", listing).detail
    assert time.monotonic() - began < 30


def test_folder_that_cannot_be_listed_is_named_and_so_are_its_rows(folder: Path) -> None:
    place = os.open(folder, os.O_RDONLY)
    for _ in range(17):  # deeper than a path may be long
        os.mkdir("d" * 255, dir_fd=place)
        below = os.open("d" * 255, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(place)
    fs, root = open_folder(folder)
    listing = list_footage(fs, root)
    closed = next(name for name, refusal in listing.refused.items() if refusal.reason == "cannot be read")
    assert "File name too long" in listing.refused[closed].detail
    refusal = explain_missing(fs, root, f"{closed}/a.mp4", listing)
    assert refusal.reason == "cannot be read"
    assert "the folder cannot be listed" in refusal.detail


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may list every folder")
def test_folder_without_permission_is_named(folder: Path) -> None:
    (folder / "takes").chmod(0)
    refused = list_footage(*open_folder(folder)).refused
    (folder / "takes").chmod(0o755)
    assert refused["takes"].detail == "the folder cannot be listed: Permission denied"
