import csv
from collections import Counter
from pathlib import Path

import pytest

from onestep.core.storage import sha256_folder
from onestep.demo import world
from onestep.demo.footage import COLUMNS, SHOT_FRAMES, plan, render_footage
from onestep.demo.settings import FootageSettings
from onestep.media.video import VideoError, decode, probe


def rows_of(footage: Path) -> list[dict[str, str]]:
    with (footage / "metadata.csv").open(encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(
    footage: Path, footage_settings: FootageSettings, tmp_path: Path
) -> None:
    render_footage(tmp_path / "again", footage_settings)
    assert sha256_folder(tmp_path / "again") == sha256_folder(footage)
    render_footage(tmp_path / "other", footage_settings.model_copy(update={"seed": 8}))
    assert (tmp_path / "other/shots/00000.mp4").read_bytes() != (footage / "shots/00000.mp4").read_bytes()


def test_every_shot_has_a_row_whose_window_and_words_are_right(footage: Path) -> None:
    rows = rows_of(footage)
    assert tuple(rows[0]) == COLUMNS
    lasts = {row["file_name"]: row for row in rows if not row["file_name"].startswith("bad/")}
    for name, row in lasts.items():
        assert float(row["end_s"]) == pytest.approx(probe(footage / name).duration_s, abs=1e-5)
    good = [row for row in rows if not row["file_name"].startswith("bad/")]
    assert len(good) == 28
    for row in good:
        frames = round((float(row["end_s"]) - float(row["start_s"])) * 12)
        assert SHOT_FRAMES[0] <= frames <= SHOT_FRAMES[1]
        scene = world.Scene(*(row[name] for name in world.ATTRIBUTES))
        assert row["caption"] == scene.caption
        evaluation = row["file_name"].startswith("evaluation/")
        assert scene.held_out is evaluation
        assert (row["split"], row["held_out"]) == (("test", "true") if evaluation else ("", "false"))


def test_neighbouring_shots_differ_in_background_and_files_hold_one_to_three() -> None:
    files = plan("shots", world.scenes(held_out=False), 400, seed=3)
    assert sum(len(file.scenes) for file in files) == 400
    assert {len(file.scenes) for file in files} == {1, 2, 3}
    for file in files:
        for before, after in zip(file.scenes, file.scenes[1:], strict=False):
            assert before.background != after.background


def test_combinations_are_shown_equally_often() -> None:
    scenes = world.scenes(held_out=True)
    files = plan("evaluation", scenes, 2 * len(scenes) + 5, seed=3)
    counts = Counter(scene for file in files for scene in file.scenes)
    assert set(counts) == set(scenes)
    assert set(counts.values()) == {2, 3}


def test_the_bad_files_are_bad_each_in_its_own_way(footage: Path) -> None:
    bad = footage / "bad"
    assert (bad / "zero-bytes.mp4").stat().st_size == 0
    with pytest.raises(VideoError):
        probe(bad / "not-a-video.mp4")
    assert probe(bad / "truncated.mp4").truncated
    assert probe(bad / "too-short.mp4").frames == 8
    assert decode(bad / "black.mp4").max() < 3
    static = decode(bad / "static.mp4").astype(int)
    assert abs(static - static[0]).max() < 6
    assert (bad / "duplicate.mp4").read_bytes() == (footage / "shots/00000.mp4").read_bytes()
    assert (bad / "duplicate-again.mp4").read_bytes() != (footage / "shots/00000.mp4").read_bytes()
    captions = {row["file_name"]: row["caption"] for row in rows_of(footage)}
    assert captions["bad/no-caption.mp4"] == ""
    assert all(captions[f"bad/{path.name}"] for path in bad.iterdir() if path.name != "no-caption.mp4")


def test_footage_without_bad_files_has_none(tmp_path: Path, footage_settings: FootageSettings) -> None:
    settings = footage_settings.model_copy(update={"shots": 2, "evaluation_shots": 0, "bad_files": False})
    render_footage(tmp_path / "footage", settings)
    assert not (tmp_path / "footage/bad").exists()
    assert len(rows_of(tmp_path / "footage")) == 2
