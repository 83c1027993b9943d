"""Whether a video file ends before its container says it does: read from the container's own sizes, not from frames.

A container that states no size (MPEG-TS, MPEG-PS, a live recording) counts as whole: what is there can be used.
"""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_ASF_NO_PACKETS = 50  # bytes of a data object's own header
_STRUCTURE = (b"moov", b"moof")


def missing_bytes(path: Path, samples: bool = False) -> str | None:
    """What a file's container promises beyond the file's end, in words; None where nothing is missing or nothing said.

    samples: whether the samples of an MP4 count as well; of one that could be opened, the track's index says more.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        file.seek(0)
        for fits, walk in _KINDS:
            if fits(head):
                try:
                    end = _boxes(file, size, samples) if walk is _boxes else walk(file, size)
                except (struct.error, IndexError):  # a header was cut in two
                    end = None
                return None if end is None or end <= size else f"its container ends at byte {end}, the file at {size}"
    return None


def gif_size(path: Path) -> tuple[int, int] | None:
    """Width and height of a GIF's screen, which its decoder would allocate at once; None for another kind of file."""
    with path.open("rb") as file:
        head = file.read(10)
    if head[:4] != b"GIF8" or len(head) < 10:
        return None
    width, height = struct.unpack("<HH", head[6:10])
    return width, height


def _boxes(file: BinaryIO, size: int, samples: bool = False) -> int | None:
    """MP4 and MOV: where a box of structure, or of samples, ends that the file does not hold whole."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length == 1:
            length = struct.unpack(">Q", file.read(8))[0]
        if length == 0 or length < 8:
            return None
        samples = samples or kind == b"moof"  # what a fragment's samples are cut off from is not in any index
        if at + length > size:
            return at + length if kind in _STRUCTURE or (samples and kind == b"mdat") else None
        at += length
    return None


def _ebml(file: BinaryIO, size: int) -> int | None:
    """Matroska and WebM: the end of the last segment, where its size is known."""
    at, end = 0, None
    while at + 2 <= size:
        file.seek(at)
        kind, after = _number(file.read(8), keep_marker=True)
        file.seek(at + after)
        head = file.read(8)
        length, wide = _number(head, keep_marker=False)
        if kind not in (_EBML, _SEGMENT) or length == (1 << (7 * wide)) - 1:
            return end
        at += after + wide + length
        if kind == _SEGMENT:
            end = at
    return end


def misread_at(path: Path) -> int | None:
    """Where the chain of a Matroska file's elements is broken: its demuxer leaps over that, or gives up, without an error."""
    size = path.stat().st_size
    at, end, sized = 0, size, False
    with path.open("rb") as file:
        if file.read(4) != _EBML.to_bytes(4):
            return None
        while at < end:
            file.seek(at)
            head = file.read(12)
            try:
                kind, after = _number(head, keep_marker=True)
                length, wide = _number(head[after:], keep_marker=False)
            except IndexError:  # a recording without a size was cut off here
                return at if sized else None
            if after > 4:
                return at
            inside, unknown = at + after + wide, length == (1 << (7 * wide)) - 1
            if kind == _SEGMENT and not unknown:
                sized, end = True, min(inside + length, size)
            if kind not in (_SEGMENT, _CLUSTER):
                if unknown or inside + length > end:
                    return at if sized else None
                inside += length
            at = inside
    return None


def _number(data: bytes, keep_marker: bool) -> tuple[int, int]:
    """A number of variable length and how many bytes it takes; `IndexError` where it is cut in two."""
    wide = 9 - data[0].bit_length()
    data[wide - 1]
    value = int.from_bytes(data[:wide])
    return (value if keep_marker else value & ((1 << (7 * wide)) - 1)), wide


def _riff(file: BinaryIO, size: int) -> int | None:
    """AVI: the end of the last RIFF chunk; a size of 0 was never filled in."""
    at, end = 0, None
    while at + 12 <= size:
        file.seek(at)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind != b"RIFF" or length in (0, 0xFFFFFFFF):
            return end
        at += 8 + length + length % 2
        end = at - length % 2
    return end


def _flv(file: BinaryIO, size: int) -> int | None:
    """FLV: the end of the last tag."""
    file.seek(5)
    at = struct.unpack(">I", file.read(4))[0] + 4
    while at + 11 <= size:
        file.seek(at)
        head = file.read(4)
        if head[0] & 0x1F not in (8, 9, 18):
            return None
        at += 11 + int.from_bytes(head[1:4])
        if at > size:
            return at
        at += 4
    return size + 1 if at < size else None


def _asf(file: BinaryIO, size: int) -> int | None:
    """ASF (WMV): the end of the header or the data object; a live recording's data object states no size."""
    at = 0
    while at + 24 <= size:
        file.seek(at)
        kind, length = struct.unpack("<16sQ", file.read(24))
        if kind == _ASF_DATA:
            return at + length if length > _ASF_NO_PACKETS else None
        if length < 24 or at + length > size:
            return at + length if kind == _ASF_HEADER else None
        at += length
    return size + 1


def _ogg(file: BinaryIO, size: int) -> int | None:
    """Ogg: the end of the last page."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(27)
        if head[:4] != b"OggS":
            return None
        if len(head) < 27:
            return at + 27
        lacing = file.read(head[26])
        at += 27 + head[26] + sum(lacing)
        if len(lacing) < head[26] or at > size:
            return max(at, size + 1)
    return at


def _gif(file: BinaryIO, size: int) -> int | None:
    """GIF: one more than the file where a block is cut in two; a missing trailer alone is no loss."""
    data = file.read(13)
    at = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    file.seek(at)
    while kind := file.read(1):
        if kind == b"!":
            file.read(1)
        elif kind == b",":
            place = file.read(9)
            if len(place) < 9:
                return size + 1
            colours = 3 << ((place[8] & 7) + 1) if place[8] & 0x80 else 0
            file.seek(colours + 1, os.SEEK_CUR)
        else:
            return None
        while length := (file.read(1) or b"\xff")[0]:
            file.seek(length, os.SEEK_CUR)
            if file.tell() > size:
                return file.tell()
    return None


_KINDS: tuple[tuple[Callable[[bytes], bool], Callable[[BinaryIO, int], int | None]], ...] = (
    (lambda head: head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp"), _boxes),
    (lambda head: head[:4] == _EBML.to_bytes(4), _ebml),
    (lambda head: head[:4] == b"RIFF", _riff),
    (lambda head: head[:3] == b"FLV", _flv),
    (lambda head: head == _ASF_HEADER, _asf),
    (lambda head: head[:4] == b"OggS", _ogg),
    (lambda head: head[:4] == b"GIF8", _gif),
)
