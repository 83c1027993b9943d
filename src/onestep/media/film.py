"""Frames of a file by their numbers: from the key frame before where one is near, else decoded from the start."""

import itertools
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av

from onestep.media.colour import GRAY
from onestep.media.decoding import Pictures, VideoInfo, opened
from onestep.media.errors import VideoError

_KEYED = (
    "h264", "hevc", "vp8", "vp9", "av1", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4", "msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2",
    "wmv3", "vc1", "flv1", "h263", "theora", "prores", "mjpeg", "dnxhd",
)  # fmt: skip
_WORTH_A_SEEK = 48  # frames that are rather decoded than jumped over
_STEPS_BACK = (0, 1, 3, 8)  # key frames to go back, until what comes out lies before what is wanted


class Film:
    """One stream of a file, opened to read frames whose numbers rise; a file that cannot be sought costs one decoding."""

    def __init__(self, source: Path, info: VideoInfo) -> None:
        self.source, self.info = source, info
        self._stack = ExitStack()
        self._frames: Iterator[Any] = iter(())
        self._next, self._sought = 0, False
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def frames(self, numbers: Sequence[int]) -> Iterator[Any]:
        """The frames of these rising numbers, deinterlaced where fields are stored; a number may repeat.

        Raises `VideoError` when the file no longer holds what was found in it.
        """
        run = self._run(numbers[0], numbers[-1])
        frames = self._whole(run) if self.info.deinterlace else run
        wanted = dict.fromkeys(numbers)
        count = {number: numbers.count(number) for number in wanted}
        for number, frame in zip(range(numbers[0], numbers[-1] + 1), frames, strict=True):
            for _ in range(count.get(number, 0)):
                yield frame

    def _run(self, first: int, last: int) -> Iterator[Any]:
        self._go_near(first)
        while self._next <= last:
            number, frame = self._next, self._advance()
            if number >= first:
                yield frame

    def _advance(self) -> Any:
        number = self._next
        frame = next(self._frames, None)
        if self._sought and (frame is None or frame.pts != self.info.ticks[number]):
            self._open()
            frame = next(itertools.islice(self._frames, number, None), None)
        if frame is None:
            raise VideoError(f"{self.source} shows no frame {number} any more: it had {self.info.frames}")
        self._next = number + 1
        return frame

    def _go_near(self, number: int) -> None:
        keys = self.info.keys
        last = bisect_right(keys, number) - 1
        back = number < self._next
        keyed = self.info.exact and self.stream.codec_context.name in _KEYED and last >= 0
        if keyed and (back or keys[last] > self._next + _WORTH_A_SEEK):
            for step in _STEPS_BACK:
                if last >= step and keys[last - step] > 0 and self._seek(keys[last - step], number):
                    return
            back = True
        if back:
            self._open()

    def _seek(self, key: int, number: int) -> bool:
        try:
            self.container.seek(self.info.ticks[key], stream=self.stream)
            frames = iter(Pictures(self.container, self.stream))
            for frame in itertools.islice(frames, _WORTH_A_SEEK):
                if frame.key_frame and frame.pts is not None:
                    found = bisect_right(self.info.ticks, frame.pts) - 1
                    if not 0 <= found <= number or self.info.ticks[found] != frame.pts:
                        return False
                    self._frames, self._next, self._sought = itertools.chain([frame], frames), found, True
                    return True
        except (av.error.FFmpegError, ValueError):
            pass
        return False

    def _open(self) -> None:
        self._stack.close()
        self.container, self.stream = self._stack.enter_context(opened(self.source, index=self.info.stream))
        self._frames = iter(Pictures(self.container, self.stream))
        self._next, self._sought = 0, False

    def _whole(self, frames: Iterator[Any]) -> Iterator[Any]:
        """As many frames as come in, each made of one field and what its neighbours add."""
        graph: Any = None
        source: Any = None
        sink: Any = None
        for number, frame in enumerate(frames):
            if graph is None:
                graph = av.filter.Graph()
                source = graph.add_buffer(
                    width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
                )
                bwdif, sink = graph.add("bwdif", self.info.deinterlace), graph.add("buffersink")
                source.link_to(bwdif)
                bwdif.link_to(sink)
                graph.configure()
            frame.pts, frame.time_base = number, Fraction(1, 1000)
            source.push(frame)
            yield from _pulled(sink)
        if source is not None:
            source.push(None)
            yield from _pulled(sink)


def raw_pixels(frames: Iterable[Any], pixels: str) -> Iterator[bytes]:
    """The bytes of each frame in the format `pixels`; gray is given the colour planes that it lacks."""
    encoder: Any = None
    for shown in frames:
        name = shown.format.name
        gray = GRAY.fullmatch(name)
        passes = gray or name.replace("yuvj", "yuv") == pixels
        frame = shown if passes else shown.reformat(format=pixels)
        if encoder is None:
            encoder = av.CodecContext.create("rawvideo", "w")
            encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, frame.format.name
            encoder.time_base = Fraction(1, 1000)
        data = b"".join(bytes(packet) for packet in encoder.encode(frame))
        if gray:
            neutral = 1 << (int(gray[2] or 8) - 1)
            data += neutral.to_bytes(2 if gray[2] else 1, "big" if gray[3] == "be" else "little") * (
                2 * frame.width * frame.height
            )
        yield data


def _pulled(sink: Any) -> Iterator[Any]:
    while True:
        try:
            yield sink.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
