"""`ingest` where the machine fails, and where files are none: nothing is lost, and what was done is not done again."""

import os
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from onestep.core.storage import MachineFailed, sha256_folder
from onestep.data import cutting
from onestep.data import ingest as rooms
from onestep.data.clips import read_index, read_quarantine
from onestep.data.cutting import Source, ingest_source
from onestep.data.ingest import FootageLost, ingest
from onestep.data.ingest_settings import IngestSettings
from onestep.data.metadata import Caption
from onestep.data.quarantine import REASONS
from onestep.data.resume import ROOT as RESUME
from onestep.data.shots import find_shots
from onestep.media.video import ffmpeg_executable
from tests.data.conftest import shot

Team = Callable[..., Path]
WORDS = (
    "small, red, bar, sliding left, teal",
    "large, white, circle, rising, purple",
    "large, pink, cross, falling, sand",
)
PAGE = Path(__file__).parents[2] / "docs" / "your-own-footage.md"


@pytest.fixture
def footage(team: Team) -> Path:
    videos = {f"{letter}.mp4": shot(words) for letter, words in zip("abc", WORDS, strict=True)}
    return team(videos, ["file_name,caption", *(f"{name},x {name}" for name in videos)])


@pytest.fixture
def breaking_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a program in ffmpeg's place that notes each call, and does something else at the second."""

    def put(instead: str) -> Path:
        program, log = tmp_path / "ffmpeg", tmp_path / "calls"
        program.write_text(
            f'#!/bin/sh\ncase "$*" in *pipe:*) echo call >> "{log}"; [ "$(wc -l < "{log}")" -eq 2 ] && {{ {instead}; }};; esac\n'
            f'exec "{ffmpeg_executable()}" "$@"\n'
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
        return log

    return put


@pytest.mark.parametrize(
    ("instead", "says"),
    [
        ("kill -KILL $$", "was killed"),
        ('echo "av_interleaved_write_frame(): No space left on device" >&2; exit 228', "No space left on device"),
    ],
)
def test_machine_at_fault_fails_the_stage_which_goes_on_when_run_again(
    footage: Path,
    breaking_ffmpeg: Callable[[str], Path],
    ingest_settings: IngestSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    instead: str,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"{name}.mp4,x,fog,celadon" for name in "abc"]
    (footage / "metadata.csv").write_text("\n".join(["file_name,caption,weather,glaze", *rows]))
    ingest(str(footage), tmp_path / "uninterrupted", ingest_settings)
    log = breaking_ffmpeg(instead)
    with pytest.raises(MachineFailed, match=says) as failure:
        ingest(str(footage), tmp_path / "clips", ingest_settings)
    assert failure.value.exit_code == 75
    assert not (tmp_path / "clips").exists()
    before = len(log.read_text().splitlines())
    ingest(str(footage), tmp_path / "clips", ingest_settings)
    again = len(log.read_text().splitlines()) - before
    assert again in (1, 2)  # the file that failed, and the one after it unless that was done already; never the first
    assert sha256_folder(tmp_path / "clips") == sha256_folder(tmp_path / "uninterrupted")
    assert not list((tmp_path / RESUME).iterdir())


def test_file_that_changed_after_the_stage_was_broken_off_is_done_anew(
    footage: Path,
    breaking_ffmpeg: Callable[[str], Path],
    ingest_settings: IngestSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    breaking_ffmpeg("kill -KILL $$")
    with pytest.raises(MachineFailed):
        ingest(str(footage), tmp_path / "clips", ingest_settings)
    shutil.copyfile(footage / "c.mp4", footage / "a.mp4")
    (footage / "c.mp4").unlink()
    ingest(str(footage), tmp_path / "clips", ingest_settings)
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE")
    ingest(str(footage), tmp_path / "anew", ingest_settings)
    assert sha256_folder(tmp_path / "clips") == sha256_folder(tmp_path / "anew")


@pytest.mark.parametrize("damage", ["result", "clip"])
def test_outcome_that_the_machine_lost_in_part_is_made_anew(
    footage: Path, ingest_settings: IngestSettings, tmp_path: Path, damage: str
) -> None:
    source = Source("a.mp4", "a.mp4", (Caption("x", line=2),))
    first = ingest_source(source, str(footage), tmp_path, ingest_settings)
    video = tmp_path / first.clips[0].video
    before = video.read_bytes()
    for path in tmp_path.glob("*.json" if damage == "result" else "*.mp4"):
        path.write_bytes(b"")
    again = ingest_source(source, str(footage), tmp_path, ingest_settings)
    assert [clip.row for clip in again.clips] == [clip.row for clip in first.clips]
    assert video.read_bytes() == before


def test_file_that_changes_while_it_is_read_is_named(
    footage: Path, ingest_settings: IngestSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_while_written(path: Path, *others: Any) -> Any:
        with path.open("ab") as still:
            still.write(b"more")
        return find_shots(path, *others)

    monkeypatch.setattr(cutting, "find_shots", find_while_written)
    result = ingest_source(Source("a.mp4", "a.mp4", (Caption("x", line=2),)), str(footage), tmp_path, ingest_settings)
    assert [(row["reason"], row["line"]) for row in result.refused] == [("cannot be read", 2)]
    assert "it changed while it was read" in result.refused[0]["detail"]
    assert not result.clips


def test_folder_that_goes_away_is_the_machines_fault(
    footage: Path, ingest_settings: IngestSettings, tmp_path: Path
) -> None:
    with pytest.raises(MachineFailed, match=r"a\.mp4 could not be read, for its folder has gone"):
        ingest_source(Source("a.mp4", "a.mp4", (Caption("x"),)), str(footage / "gone"), tmp_path, ingest_settings)


@pytest.mark.parametrize("error", [FileNotFoundError("it has gone"), PermissionError("Access Denied")])
def test_one_file_of_a_bucket_that_may_not_be_had_is_named_and_a_bucket_that_cannot_be_listed_fails_the_stage(
    ingest_settings: IngestSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe("/footage/a.mp4", b"x")

    def refuse(*_: Any) -> str:
        raise error

    monkeypatch.setattr(cutting, "fetch", refuse)
    source = Source("a.mp4", "a.mp4", (Caption("x", line=2),))
    result = ingest_source(source, "memory://footage", tmp_path, ingest_settings)
    assert [(row["reason"], row["detail"]) for row in result.refused] == [("cannot be read", str(error))]
    monkeypatch.setattr(type(fs), "ls", refuse)
    with pytest.raises(MachineFailed, match=r"a\.mp4 could not be fetched"):
        ingest_source(source, "memory://footage", tmp_path, ingest_settings)


def test_what_is_no_file_of_the_folder_is_named_and_never_opened(
    footage: Path, ingest_settings: IngestSettings, tmp_path: Path
) -> None:
    secret = tmp_path / "outside.mp4"
    shutil.copyfile(footage / "a.mp4", secret)
    links = {"out": secret, "zero": "/dev/zero", "dangling": "nothing", "loop": "loop.mp4", "folder": ".."}
    for name, target in links.items():
        (footage / f"{name}.mp4").symlink_to(target)
    os.mkfifo(footage / "pipe.mp4")
    (footage / "directory.mp4").mkdir()
    (footage / "inside.mp4").symlink_to("b.mp4")
    odd = os.fsencode(str(footage)) + b"/caf\xe9.mp4"
    shutil.copyfile(os.fsencode(footage / "a.mp4"), odd)
    with (footage / "metadata.csv").open("a") as table:
        table.writelines(
            f"{name},x\n" for name in ("pipe.mp4", "zero.mp4", "directory.mp4", "../outside.mp4", "inside.mp4")
        )
    ingest(str(footage), tmp_path / "clips", ingest_settings)
    quarantine = read_quarantine(tmp_path / "clips")
    reasons = dict(zip(quarantine["source"], quarantine["reason"], strict=True))
    names = [*(f"{name}.mp4" for name in links), "pipe.mp4", "directory.mp4", "../outside.mp4"]
    assert reasons == dict.fromkeys(names, "not a file") | {"inside.mp4": "duplicate", "caf\\xe9.mp4": "not listed"}
    assert set(read_index(tmp_path / "clips")["source"]) == {"a.mp4", "b.mp4", "c.mp4"}


def test_links_into_the_projects_own_dvc_cache_are_footage(
    footage: Path, ingest_settings: IngestSettings, tmp_path: Path
) -> None:
    stored = tmp_path / ".dvc" / "cache" / "files" / "md5" / "ab" / ("c" * 30)
    stored.parent.mkdir(parents=True)
    (footage / "a.mp4").rename(stored)
    (footage / "a.mp4").symlink_to(stored)
    ingest(str(footage), tmp_path / "clips", ingest_settings)
    assert "a.mp4" in set(read_index(tmp_path / "clips")["source"])


def test_limits_on_one_file_are_named_in_the_quarantine(
    footage: Path, ingest_settings: IngestSettings, tmp_path: Path
) -> None:
    for name, value in {"frames": 10, "seconds": 1.2, "pixels": 4096 - 1}.items():
        limits = ingest_settings.limits.model_copy(update={name: value})
        ingest(str(footage), tmp_path / name, ingest_settings.model_copy(update={"limits": limits}))
        quarantine = read_quarantine(tmp_path / name)
        assert len(quarantine) == 3
        assert quarantine["detail"].str.contains(f"limits.{name}").all()


def test_row_or_file_that_came_to_nothing_is_a_fault_of_the_program() -> None:
    source = Source("a.mp4", "a.mp4", (Caption("x", line=2), Caption("y", line=3)))
    entry = {"source": "a.mp4", "shot": None, "line": 2, "reason": "too short", "detail": ""}
    with pytest.raises(FootageLost, match="line 3"):
        rooms._require_accounted([source], [], [entry])
    with pytest.raises(FootageLost, match=r"b\.mp4"):
        rooms._require_accounted([Source("b.mp4", None, ())], [], [entry])
    rooms._require_accounted([source], [], [entry, entry | {"line": 3}])


def test_every_reason_stands_in_the_documentation_with_its_meaning() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    for reason, meaning in REASONS.items():
        assert f"| {reason} | {meaning} |" in rows


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() == 0, reason="the superuser may read every file")
def test_file_that_may_not_be_read_is_named(footage: Path, ingest_settings: IngestSettings, tmp_path: Path) -> None:
    (footage / "a.mp4").chmod(0)
    ingest(str(footage), tmp_path / "clips", ingest_settings)
    assert read_quarantine(tmp_path / "clips")[["source", "reason"]].values.tolist() == [["a.mp4", "cannot be read"]]
