"""A clip's brightness, movement, perceptual hash and colours in a few bytes, and which clips look the same by them."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

_HASHED = (0.0, 0.5, 1.0)  # which frames are hashed, as fractions of the clip
_GRID = 4  # colours are compared in this many cells a side
_COLOUR_TOLERANCE = 14  # levels of 255 that a cell may differ by; re-encoding moves it by less than half of that
_LUMA = np.array([0.299, 0.587, 0.114])
_HASH_BITS = 64 * len(_HASHED)


@dataclass(frozen=True)
class Fingerprint:
    """What is measured of one clip's pixels."""

    brightness: float  # mean luma in [0, 1]
    movement: float  # mean absolute RGB difference of neighbouring frames in [0, 1]; luma misses red on grey
    phash: str  # hex, 64 bits for each of the first, middle and last frame
    colours: np.ndarray  # mean RGB of the cells of those frames, uint8 [3 * 4 * 4 * 3]

    def to_json(self) -> dict[str, Any]:
        """The fingerprint as JSON."""
        return {**vars(self), "colours": self.colours.tolist()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(**{**content, "colours": np.array(content["colours"], dtype=np.uint8)})


def fingerprint_of(frames: np.ndarray) -> Fingerprint:
    """Measure a clip `[T, H, W, 3]` uint8 RGB, at least 4 pixels a side."""
    import imagehash
    from PIL import Image

    brightness = float(frames.mean(axis=(0, 1, 2)) @ _LUMA) / 255
    movement = float(abs(np.diff(frames.astype(np.int16), axis=0)).mean()) / 255 if len(frames) > 1 else 0.0
    chosen = [frames[round(part * (len(frames) - 1))] for part in _HASHED]
    phash = "".join(str(imagehash.phash(Image.fromarray(frame))) for frame in chosen)
    colours = [np.asarray(Image.fromarray(frame).resize((_GRID, _GRID), Image.Resampling.BOX)) for frame in chosen]
    return Fingerprint(round(brightness, 6), round(movement, 6), phash, np.stack(colours).ravel())


def find_duplicates(fingerprints: Sequence[Fingerprint], captions: Sequence[str], distance: int) -> dict[int, int]:
    """Which clips repeat an earlier one: index of the repeat to index of the one that is kept.

    Two clips are the same when their hashes differ by at most `distance` bits and their colours are alike (the hash
    knows no colour), or when hash and caption are equal. Clips within `distance` bits of each other agree exactly in
    one of `distance + 1` bands of the hash, so only clips that share a band are compared.
    """
    bits = np.array([np.frombuffer(bytes.fromhex(fingerprint.phash), dtype=np.uint8) for fingerprint in fingerprints])
    words = bits.view(np.uint64) if len(fingerprints) else bits
    unpacked = np.unpackbits(bits, axis=1) if len(fingerprints) else bits
    edges = np.linspace(0, _HASH_BITS, distance + 2).astype(int)
    kept: dict[tuple[int, bytes], list[int]] = {}
    repeats: dict[int, int] = {}
    for index, fingerprint in enumerate(fingerprints):
        bands = [
            (band, unpacked[index, first:last].tobytes())
            for band, (first, last) in enumerate(itertools.pairwise(edges))
        ]
        near = np.unique(np.concatenate([np.array(kept.get(band, []), dtype=np.int64) for band in bands]))
        apart = np.bitwise_count(words[near] ^ words[index]).sum(axis=1) if len(near) else near
        for other, bits_apart in zip(near[apart <= distance], apart[apart <= distance], strict=True):
            alike = (
                abs(fingerprints[other].colours.astype(int) - fingerprint.colours.astype(int)).max()
                <= _COLOUR_TOLERANCE
            )
            if alike or (bits_apart == 0 and captions[other] == captions[index]):
                repeats[index] = int(other)
                break
        else:
            for band in bands:
                kept.setdefault(band, []).append(index)
    return repeats
