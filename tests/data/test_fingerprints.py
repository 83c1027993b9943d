from pathlib import Path

import numpy as np

from onestep.data.fingerprints import Fingerprint, find_duplicates, fingerprint_of
from onestep.media.video import decode, write_video
from tests.data.conftest import shot


def test_brightness_and_movement_are_measured_on_known_frames() -> None:
    frames = np.zeros((5, 16, 16, 3), dtype=np.uint8)
    frames[:, :8] = 255
    still = fingerprint_of(frames)
    assert still.brightness == 0.5
    assert still.movement == 0.0
    frames[1::2] = 255 - frames[1::2]
    assert fingerprint_of(frames).movement == 1.0


def test_movement_sees_colours_of_equal_brightness() -> None:
    """Red on grey has nearly no luma contrast; it moves all the same."""
    assert fingerprint_of(shot("small, red, cross, sliding left, grey")).movement > 0.002


def test_a_clip_encoded_again_is_a_duplicate_and_only_that(tmp_path: Path) -> None:
    frames = [
        shot("large, green, triangle, bouncing, sand"),
        shot("large, white, triangle, bouncing, sand"),
        shot("large, green, bar, bouncing, sand"),
        shot("large, green, triangle, bouncing, purple"),
        shot("large, green, triangle, bouncing, sand", seed=1),
    ]
    write_video(frames[0], tmp_path / "again.mp4", 12, crf=20)
    fingerprints = [fingerprint_of(clip) for clip in (*frames, decode(tmp_path / "again.mp4"))]
    assert find_duplicates(fingerprints, ["first", "white", "bar", "purple", "elsewhere", "first"], distance=4) == {
        5: 0
    }


def test_another_colour_of_the_same_motion_is_no_duplicate() -> None:
    fingerprints = [
        fingerprint_of(shot(f"small, {colour}, circle, rising, teal"))
        for colour in ("yellow", "white", "pink", "red", "green")
    ]
    assert find_duplicates(fingerprints, ["a", "b", "c", "d", "e"], distance=64) == {}


def test_the_same_hash_and_caption_is_a_duplicate_whatever_the_colours() -> None:
    plain, other = np.zeros(144, np.uint8), np.full(144, 90, np.uint8)
    fingerprints = [Fingerprint(0.5, 0.1, "0" * 48, plain), Fingerprint(0.5, 0.1, "0" * 48, other)]
    assert find_duplicates(fingerprints, ["a dog", "a dog"], distance=0) == {1: 0}
    assert find_duplicates(fingerprints, ["a dog", "a cat"], distance=0) == {}


def test_comparing_by_bands_finds_what_comparing_all_pairs_finds() -> None:
    rng = np.random.default_rng(4)
    base = rng.integers(0, 256, (40, 24), dtype=np.uint8)
    hashes = [base[rng.integers(40)].copy() for _ in range(300)]
    for bits in hashes:
        for place in rng.integers(0, 192, rng.integers(0, 6)):
            bits[place // 8] ^= 1 << (place % 8)
    colours = np.zeros(144, np.uint8)
    fingerprints = [Fingerprint(0.5, 0.1, bits.tobytes().hex(), colours) for bits in hashes]
    for distance in (0, 2, 5):
        expected: list[int] = []
        for index in range(len(hashes)):
            apart = [int(np.bitwise_count(hashes[index] ^ hashes[kept]).sum()) for kept in expected]
            if all(bits > distance for bits in apart):
                expected.append(index)
        repeats = find_duplicates(fingerprints, [str(i) for i in range(300)], distance)
        assert [index for index in range(300) if index not in repeats] == expected
