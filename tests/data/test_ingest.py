import csv
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import s3fs

from onestep.core.storage import StorageError, sha256_file, sha256_folder
from onestep.data.clips import load_frames, read_frames, read_index, read_quarantine
from onestep.data.ingest import ingest, split_of
from onestep.data.ingest_settings import IngestSettings
from onestep.data.schema import attribute_columns
from onestep.data.shots import find_shots
from onestep.demo.world import ATTRIBUTES
from tests.data.conftest import shot

Team = Callable[..., Path]
RED, WHITE = "small, red, bar, sliding left, teal", "large, white, circle, rising, purple"


def test_every_source_ends_as_clips_or_in_quarantine_with_its_reason(footage: Path, clips: Path) -> None:
    quarantine = read_quarantine(clips)
    reasons = dict(zip(quarantine["source"], quarantine["reason"], strict=True))
    assert reasons == {
        "bad/black.mp4": "black",
        "bad/duplicate-again.mp4": "duplicate",
        "bad/duplicate.mp4": "duplicate",
        "bad/no-caption.mp4": "no caption",
        "bad/not-a-video.mp4": "not a video",
        "bad/static.mp4": "static",
        "bad/too-short.mp4": "too short",
        "bad/truncated.mp4": "truncated",
        "bad/zero-bytes.mp4": "empty file",
    }
    details = dict(zip(quarantine["source"], quarantine["detail"], strict=True))
    assert "of 57 declared frames" in details["bad/truncated.mp4"]
    assert "shots/00000.mp4" in details["bad/duplicate.mp4"]
    sources = {path.relative_to(footage).as_posix() for path in footage.rglob("*.mp4")}
    assert set(reasons) | set(read_index(clips)["source"]) == sources


def test_cuts_are_found_at_the_frame_where_the_footage_has_them(footage: Path, ingest_settings: IngestSettings) -> None:
    with (footage / "metadata.csv").open() as handle:
        rows = [row for row in csv.DictReader(handle) if not row["file_name"].startswith("bad/")]
    for name in {row["file_name"] for row in rows}:
        ends = [round(float(row["end_s"]) * 12) for row in rows if row["file_name"] == name]
        _, shots = find_shots(footage / name, ingest_settings.cut_threshold)
        assert [round(found.end_s * 12) for found in shots] == ends


def test_each_clip_carries_its_shots_caption_attributes_and_window(footage: Path, clips: Path) -> None:
    with (footage / "metadata.csv").open() as handle:
        rows = {(row["file_name"], row["caption"]): row for row in csv.DictReader(handle)}
    index = read_index(clips)
    assert len(index) == 29
    for clip in index.to_dict("records"):
        row = rows[clip["source"], clip["caption"]]
        assert [clip[name] for name in ATTRIBUTES] == [row[name] for name in ATTRIBUTES]
        assert clip["held_out"] is (row["held_out"] == "true")
        assert float(row["start_s"]) - 1e-5 <= clip["start_s"]
        assert clip["end_s"] <= float(row["end_s"]) + 1e-5
        assert clip["end_s"] - clip["start_s"] == pytest.approx(13 / 12, abs=1e-5)
        assert clip["source_sha256"] == sha256_file(footage / clip["source"])
        assert clip["split"] in (("test",) if clip["held_out"] else ("train", "dev"))


def test_a_clip_shows_the_frames_of_its_window(footage: Path, clips: Path) -> None:
    from onestep.media.video import decode

    index = read_index(clips)
    for clip in index.groupby("source").last().reset_index().head(4).to_dict("records"):
        source = decode(footage / clip["source"]).astype(int)
        first = round(clip["start_s"] * 12)
        frames = load_frames(clips, [clip["clip_id"]])[0].astype(int)
        errors = [abs(frames - source[at : at + 13]).mean() for at in range(len(source) - 12)]
        assert int(np.argmin(errors)) == first


def test_every_clip_has_the_asked_size_rate_and_4k_plus_1_frames(clips: Path) -> None:
    index = read_index(clips)
    assert index[["frames", "height", "width", "fps"]].drop_duplicates().values.tolist() == [[13, 64, 64, 12]]
    for _, frames in read_frames(clips):
        assert frames.shape == (13, 64, 64, 3)


def test_the_number_of_workers_does_not_change_a_byte(
    footage: Path, clips: Path, ingest_settings: IngestSettings, tmp_path: Path
) -> None:
    ingest(str(footage), tmp_path / "clips", ingest_settings.model_copy(update={"workers": 2}))
    assert sha256_folder(tmp_path / "clips") == sha256_folder(clips)
    assert [path.name for path in tmp_path.iterdir()] == ["clips"]


def test_shards_are_webdataset_tars_in_the_order_of_the_index(clips: Path) -> None:
    import webdataset

    index = read_index(clips)
    assert index["clip_id"].is_monotonic_increasing and index["clip_id"].is_unique
    assert index.groupby("shard").size().tolist() == [12, 12, 5]
    shards = sorted(str(path) for path in clips.glob("*.tar"))
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == index["clip_id"].tolist()
    assert json.loads(samples[3]["json"])["caption"] == index["caption"][3]
    with tarfile.open(shards[0]) as tar:
        assert {(member.mtime, member.uid, member.uname) for member in tar} == {(0, 0, "")}


def test_captions_without_attributes_are_enough(team: Team, ingest_settings: IngestSettings, tmp_path: Path) -> None:
    folder = team({"a.mp4": shot(RED), "b/c.mp4": shot(WHITE)}, ["file_name,caption", "a.mp4,a dog", "b/c.mp4,a cat"])
    ingest(folder.as_uri(), tmp_path / "clips", ingest_settings)
    index = read_index(tmp_path / "clips")
    assert dict(zip(index["source"], index["caption"], strict=True)) == {"a.mp4": "a dog", "b/c.mp4": "a cat"}
    assert not set(ATTRIBUTES) & set(index.columns)
    assert not index["held_out"].any()
    assert read_quarantine(tmp_path / "clips").empty


def test_further_columns_of_the_table_are_attributes_in_its_order(
    team: Team, ingest_settings: IngestSettings, tmp_path: Path
) -> None:
    lines = ["weather,file_name,fps,caption,glaze,prompt_id", "fog,a.mp4,50,a cup, celadon ,7", "sun,b.mp4,60,a jug,,8"]
    folder = team({"a.mp4": shot(RED), "b.mp4": shot(WHITE)}, lines)
    ingest(str(folder), tmp_path / "clips", ingest_settings)
    index = read_index(tmp_path / "clips").set_index("source")
    assert attribute_columns(index) == ["weather", "glaze"]
    assert index.columns[-2:].tolist() == ["weather", "glaze"]
    assert index.loc["a.mp4", ["weather", "glaze"]].tolist() == ["fog", "celadon"]
    assert index.loc["b.mp4", ["weather", "glaze"]].tolist() == ["sun", ""]
    assert index["fps"].tolist() == [12.0, 12.0], "the clip's own, whatever the table says of its source"


def test_licence_of_a_row_goes_with_its_clips_and_is_no_attribute(
    team: Team, ingest_settings: IngestSettings, tmp_path: Path
) -> None:
    lines = ["file_name,glaze,license,caption", "a.mp4,celadon,CC-BY-4.0,a cup", "b.mp4,,,a jug"]
    folder = team({"a.mp4": shot(RED), "b.mp4": shot(WHITE)}, lines)
    ingest(str(folder), tmp_path / "clips", ingest_settings)
    index = read_index(tmp_path / "clips")
    assert dict(zip(index["source"], index["licence"], strict=True)) == {"a.mp4": "CC-BY-4.0", "b.mp4": ""}
    assert index.columns[-2:].tolist() == ["licence", "glaze"]
    assert attribute_columns(index) == ["glaze"]


def test_missing_and_unlisted_files_are_named(team: Team, ingest_settings: IngestSettings, tmp_path: Path) -> None:
    folder = team({"a.mp4": shot(RED), "b.mp4": shot(WHITE)}, ["file_name,caption", "a.mp4,x", "gone.mp4,y"])
    (folder / "README.txt").write_text("not footage, and not in metadata.csv")
    ingest(str(folder), tmp_path / "clips", ingest_settings)
    quarantine = read_quarantine(tmp_path / "clips")
    assert quarantine[["source", "reason"]].values.tolist() == [["b.mp4", "not listed"], ["gone.mp4", "missing"]]
    assert quarantine["shot"].isna().all()


def test_one_bad_shot_does_not_cost_the_others(team: Team, ingest_settings: IngestSettings, tmp_path: Path) -> None:
    still = np.repeat(shot("large, green, bar, rising, grey")[:1], 16, axis=0)
    film = np.concatenate([shot(RED), still, shot("large, pink, cross, rising, sand", frames=9), shot(WHITE)])
    folder = team({"film.mp4": film}, ["file_name,caption", "film.mp4,a film"])
    ingest(str(folder), tmp_path / "clips", ingest_settings)
    quarantine = read_quarantine(tmp_path / "clips")
    assert quarantine[["shot", "reason"]].values.tolist() == [[1, "static"], [2, "too short"]]
    starts = read_index(tmp_path / "clips")["start_s"] * 12
    assert 0 <= starts[0] <= 3
    assert 41 <= starts[1] <= 44


def test_a_window_outside_every_caption_is_refused(team: Team, ingest_settings: IngestSettings, tmp_path: Path) -> None:
    film = np.concatenate([shot(RED), shot(WHITE)])
    lines = ["file_name,caption,start_s,end_s", "film.mp4,white,1.333333,2.666667"]
    ingest(str(team({"film.mp4": film}, lines)), tmp_path / "clips", ingest_settings)
    assert read_index(tmp_path / "clips")["caption"].tolist() == ["white"]
    assert read_quarantine(tmp_path / "clips")[["shot", "reason"]].values.tolist() == [[0, "no caption"]]


def test_each_row_of_one_take_gives_clips_of_its_own(
    team: Team, ingest_settings: IngestSettings, tmp_path: Path
) -> None:
    still = shot("small, green, bar, bouncing, grey", frames=1)[0]
    film = np.stack([np.roll(still, frame, axis=1) for frame in range(60)])
    lines = [
        "file_name,caption,start_s,end_s,held_out",
        "take.mp4,first,0,2,false",
        "take.mp4,second,2,4,true",
        "take.mp4,third,4,5,false",
        "take.mp4,,3,3.5,",
        "take.mp4,after the end,9,12,false",
        "take.mp4,all of it,,,false",
    ]
    settings = ingest_settings.model_copy(update={"duplicate_distance": 0})
    ingest(str(team({"take.mp4": film}, lines)), tmp_path / "clips", settings)
    index = read_index(tmp_path / "clips")
    assert index[["caption", "held_out"]].values.tolist() == [["first", False], ["second", True]]
    assert (index["start_s"] >= [0, 2]).all() and (index["end_s"] <= [2, 4]).all()
    quarantine = read_quarantine(tmp_path / "clips")
    assert dict(zip(quarantine["line"], quarantine["reason"], strict=True)) == {
        4: "too short",
        5: "no caption",
        6: "outside the file",
        7: "captioned otherwise",
    }


@pytest.mark.parametrize(
    ("on_disk", "listed"),
    [
        ("T\u00f6pfer.mp4", "To\u0308pfer.mp4"),
        ("To\u0308pfer.mp4", "T\u00f6pfer.mp4"),
        ("a/b.mp4", "a\\b.mp4"),
        (".a.mp4", ".a.mp4"),
    ],
)
def test_a_name_means_its_file_however_letters_and_slashes_are_written(
    team: Team, ingest_settings: IngestSettings, tmp_path: Path, on_disk: str, listed: str
) -> None:
    folder = team({on_disk: shot(RED)}, ["file_name,caption", f"{listed},x"])
    ingest(str(folder), tmp_path / "clips", ingest_settings)
    assert read_index(tmp_path / "clips")["source"].tolist() == [on_disk]
    assert read_quarantine(tmp_path / "clips").empty


def test_long_shots_give_several_evenly_spaced_clips(
    team: Team, ingest_settings: IngestSettings, tmp_path: Path
) -> None:
    still = shot("small, green, bar, bouncing, grey", frames=1)[0]
    film = np.stack([np.roll(still, frame, axis=1) for frame in range(60)])
    folder = team({"long.mp4": film}, ["file_name,caption", "long.mp4,x"])
    settings = ingest_settings.model_copy(update={"clips_per_shot": 3, "duplicate_distance": 0})
    ingest(str(folder), tmp_path / "clips", settings)
    starts = (read_index(tmp_path / "clips")["start_s"] * 12).round().astype(int).tolist()
    assert len(starts) == 3
    assert min(np.diff(starts)) >= 13 and starts[0] >= 1 and starts[-1] <= 47
    settings = ingest_settings.model_copy(update={"clips_per_shot": 9, "duplicate_distance": 0})
    ingest(str(folder), tmp_path / "clips", settings)
    assert len(read_index(tmp_path / "clips")) == 4


def test_other_rates_and_shapes_are_normalised(team: Team, ingest_settings: IngestSettings, tmp_path: Path) -> None:
    scene = shot("large, yellow, cross, sliding right, purple", frames=60, side=128)
    wide = np.concatenate([scene, scene[:, :, :64]], axis=2)
    folder = team({"wide.mp4": wide}, ["file_name,caption", "wide.mp4,x"], fps=30)
    ingest(str(folder), tmp_path / "clips", ingest_settings)
    clip = read_index(tmp_path / "clips").iloc[0]
    assert (clip["frames"], clip["height"], clip["width"], clip["fps"]) == (13, 64, 64, 12)
    assert clip["end_s"] - clip["start_s"] == pytest.approx(13 / 12, abs=1e-5)


def test_splits_follow_the_name_and_not_the_rest_of_the_footage() -> None:
    names = [f"day-{number:04d}.mp4" for number in range(4000)]
    splits = [split_of(name, dev_share=0.1, test_share=0.2) for name in names]
    assert splits.count("dev") / 4000 == pytest.approx(0.1, abs=0.02)
    assert splits.count("test") / 4000 == pytest.approx(0.2, abs=0.02)
    assert split_of("a/b.mov", 0.1, 0.2) == split_of("a/b.mp4", 0.1, 0.2)
    before = {name for name, split in zip(names, splits, strict=True) if split == "train"}
    after = {name for name in names if split_of(name, dev_share=0.3, test_share=0.2) == "train"}
    assert after < before


def test_asking_for_an_unknown_clip_is_refused_and_order_is_kept(clips: Path) -> None:
    ids = read_index(clips)["clip_id"].tolist()
    frames = load_frames(clips, [ids[5], ids[1]])
    assert np.array_equal(frames[1], load_frames(clips, [ids[1]])[0])
    assert not np.array_equal(frames[0], frames[1])
    with pytest.raises(StorageError, match="no clip nowhere"):
        load_frames(clips, [ids[0], "nowhere"])


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[s3fs.S3FileSystem]:
    """A file system on an S3 server on loopback, found through the environment as a real one is."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    yield s3fs.S3FileSystem()
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_footage_in_a_bucket_gives_the_same_clips_as_on_disk(
    bucket: s3fs.S3FileSystem, team: Team, ingest_settings: IngestSettings, tmp_path: Path
) -> None:
    folder = team({"a.mp4": shot(RED), "b/c.mp4": shot(WHITE)}, ["file_name,caption", "a.mp4,a dog", "b/c.mp4,a cat"])
    (folder / "empty.mp4").touch()
    bucket.mkdir("footage")
    bucket.put(f"{folder}/", "footage/team/", recursive=True)
    ingest(str(folder), tmp_path / "local", ingest_settings)
    ingest("s3://footage/team", tmp_path / "remote", ingest_settings)
    assert len(read_index(tmp_path / "remote")) == 2
    assert sha256_folder(tmp_path / "remote") == sha256_folder(tmp_path / "local")
    with pytest.raises(StorageError, match="s3://footage/nowhere"):
        ingest("s3://footage/nowhere", tmp_path / "none", ingest_settings)


def test_a_failed_ingest_leaves_the_old_clips_alone(
    clips: Path, ingest_settings: IngestSettings, tmp_path: Path
) -> None:
    shutil.copytree(clips, tmp_path / "clips")
    (tmp_path / "footage").mkdir()
    with pytest.raises(ValueError, match=r"metadata\.csv does not exist"):
        ingest(str(tmp_path / "footage"), tmp_path / "clips", ingest_settings)
    assert sha256_folder(tmp_path / "clips") == sha256_folder(clips)
