from pathlib import Path

import av
import numpy as np
import pytest

from onestep.media.video import Framing, VideoError, decode, probe, transcode, write_gif, write_video


def counting_frames(count: int, height: int = 64, width: int = 64) -> np.ndarray:
    """Frames that show their number in binary, as eight upright bars."""
    bits = np.unpackbits(np.arange(count, dtype=np.uint8)[:, None], axis=1)
    bars = np.repeat(bits, width // 8, axis=1) * 200 + 20
    return np.broadcast_to(bars[:, None, :, None], (count, height, width, 3)).astype(np.uint8)


def numbers_of(frames: np.ndarray) -> list[int]:
    count, _, width, _ = frames.shape
    bars = frames.mean(axis=(1, 3)).reshape(count, 8, width // 8).mean(axis=2)
    return np.packbits((bars > 120).astype(np.uint8), axis=1)[:, 0].tolist()


def cut(path: Path, windows: list[tuple[float, float]], targets: list[Path], framing: Framing) -> None:
    transcode(path, probe(path), windows, targets, framing)


def write_matroska(path: Path, frames: np.ndarray, fps: int) -> None:
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (9, 32, 48, 3), dtype=np.uint8)
    for name in ("one.mp4", "two.mp4"):
        write_video(frames, tmp_path / name, 12)
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


def test_written_frames_come_back_from_a_path_and_from_bytes(tmp_path: Path) -> None:
    y, x = np.mgrid[0:48, 0:64]
    frames = np.stack([np.stack([x * 3, y * 4, np.full_like(x, 20 * t)], -1) for t in range(9)]).astype(np.uint8)
    write_video(frames, tmp_path / "clip.mp4", 12, crf=4)
    decoded = decode(tmp_path / "clip.mp4")
    assert decoded.shape == frames.shape and decoded.dtype == np.uint8
    assert abs(decoded.astype(int) - frames).mean() < 3
    assert np.array_equal(decode((tmp_path / "clip.mp4").read_bytes()), decoded)


def test_probe_counts_frames_and_reads_size_and_rate(tmp_path: Path) -> None:
    write_video(counting_frames(25, 48, 80), tmp_path / "clip.mp4", 10)
    info = probe(tmp_path / "clip.mp4")
    assert (info.frames, info.declared, info.fps, info.height, info.width) == (25, 25, 10.0, 48, 80)
    assert info.duration_s == pytest.approx(2.5)
    assert not info.truncated


def test_a_gif_plays_every_frame(tmp_path: Path) -> None:
    write_gif(counting_frames(9), tmp_path / "clip.gif", 10)
    decoded = decode(tmp_path / "clip.gif")
    assert numbers_of(decoded) == list(range(9))


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_a_file_cut_off_in_the_middle_is_noticed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"long.{kind}"
    frames = np.random.default_rng(1).integers(0, 256, (60, 64, 64, 3), dtype=np.uint8)
    if kind == "mp4":
        write_video(frames, path, 12)
    else:
        write_matroska(path, frames, 12)
    assert not probe(path).truncated
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    info = probe(path)
    assert 0 < info.frames < 60
    assert info.truncated


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile secret.mp4\n",
    ],
    ids=["hls", "concat"],
)
def test_a_playlist_cannot_reach_other_files(tmp_path: Path, text: str) -> None:
    write_video(counting_frames(5), tmp_path / "secret.mp4", 12)
    playlist = tmp_path / "innocent.mp4"
    playlist.write_text(text)
    with pytest.raises(VideoError, match=r"innocent\.mp4"):
        probe(playlist)
    with pytest.raises(VideoError, match=r"innocent\.mp4"):
        info = probe(tmp_path / "secret.mp4")
        transcode(playlist, info, [(0.0, 0.4)], [tmp_path / "out.mp4"], Framing(12, 5, 64, 64, "crop", 12))
    assert not (tmp_path / "out.mp4").exists()


def test_transcoding_cuts_exactly_at_the_asked_frames(tmp_path: Path) -> None:
    """More windows than one ffmpeg call takes, so that the calls that seek are cut exactly as well."""
    write_video(counting_frames(200), tmp_path / "long.mp4", 12, crf=1)
    starts = list(range(3, 190, 9))
    targets = [tmp_path / f"{start}.mp4" for start in starts]
    windows = [(start / 12, (start + 5) / 12) for start in starts]
    cut(tmp_path / "long.mp4", windows, targets, Framing(12, 5, 64, 64, "crop", 1))
    for start, target in zip(starts, targets, strict=True):
        assert numbers_of(decode(target)) == list(range(start, start + 5))


def test_transcoding_changes_rate_and_keeps_the_count_exact(tmp_path: Path) -> None:
    write_video(counting_frames(100), tmp_path / "fast.mp4", 24, crf=1)
    cut(tmp_path / "fast.mp4", [(10 / 24, 80 / 24)], [tmp_path / "slow.mp4"], Framing(12, 13, 64, 64, "crop", 1))
    assert probe(tmp_path / "slow.mp4").fps == 12
    numbers = numbers_of(decode(tmp_path / "slow.mp4"))
    assert len(numbers) == 13
    assert np.diff(numbers).tolist() == [2] * 12
    assert numbers[0] in (10, 11)


def test_crop_fills_the_frame_and_pad_shows_all_of_it(tmp_path: Path) -> None:
    wide = np.zeros((5, 64, 128, 3), dtype=np.uint8)
    wide[:, :, :32], wide[:, :, 32:96], wide[:, :, 96:] = (200, 30, 30), (30, 200, 30), (30, 30, 200)
    write_video(wide, tmp_path / "wide.mp4", 12, crf=1)
    results = {}
    for fit in ("crop", "pad"):
        cut(tmp_path / "wide.mp4", [(0, 5 / 12)], [tmp_path / "out.mp4"], Framing(12, 5, 64, 64, fit, 1))
        results[fit] = decode(tmp_path / "out.mp4")[2].astype(int)
    assert abs(results["crop"][4:60, 4:60] - [30, 200, 30]).max() < 12
    assert results["pad"][:14].max() < 12 and results["pad"][50:].max() < 12
    assert abs(results["pad"][20:44, 4:12] - [200, 30, 30]).max() < 12
    assert abs(results["pad"][20:44, 52:60] - [30, 30, 200]).max() < 12


def test_colours_of_a_file_tagged_bt709_survive(tmp_path: Path) -> None:
    frame = np.full((64, 64, 3), (40, 185, 70), dtype=np.uint8)
    with av.open(str(tmp_path / "hd.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=12, options={"crf": "1"})
        stream.height = stream.width = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace = 1
        stream.codec_context.color_primaries = stream.codec_context.color_trc = 1
        for _ in range(5):
            video = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
                format="yuv420p", dst_colorspace="ITU709"
            )
            container.mux(stream.encode(video))
        container.mux(stream.encode())
    cut(tmp_path / "hd.mp4", [(0, 5 / 12)], [tmp_path / "out.mp4"], Framing(12, 5, 64, 64, "crop", 1))
    assert abs(decode(tmp_path / "out.mp4").astype(int) - frame).max() < 8


def test_what_h264_cannot_hold_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="even sides"):
        write_video(np.zeros((5, 63, 64, 3), dtype=np.uint8), tmp_path / "odd.mp4", 12)
    with pytest.raises(VideoError, match=r"uint8 \[T, H, W, 3\]"):
        write_video(np.zeros((5, 64, 64, 3), dtype=np.float32), tmp_path / "float.mp4", 12)
    with pytest.raises(VideoError, match=r"breaks off|not a video"):
        decode(b"no video at all")
