"""Opening a video file, choosing its film among its streams, and decoding that once, in bounded memory.

Footage is untrusted: only real container formats are opened (no playlist that names other files), over the file
protocol alone.
"""

import io
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from onestep.media.containers import gif_size, misread_at, missing_bytes
from onestep.media.errors import VideoError, message_of
from onestep.media.limits import Limits, check_length, check_pixels, probed

_CONTAINERS = "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf,gif"
_PICTURES = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
_STILL_CODECS = ("mjpeg", "png", "bmp", "tiff", "webp", "jpegls", "ppm", "pgm")  # of covers, where a film is beside it
_JUMPING = ("mpegts", "mpeg")  # clocks of these start anew where recordings were joined
_REORDERED = 4  # frames that may be shown after one that was stored before them
_LONGEST_GAP_S = 10.0  # in such a file: a longer one is a joint, as ffmpeg has it
_ENDS_IN_PIECES = 3  # packets at the end of such a file that may be cut in two
_SILENT_FIELDS = ("rawvideo", "huffyuv", "ffvhuff", "ffv1", "v210", "v308", "v408", "v410", "r210", "png", "qtrle")


@dataclass(frozen=True)
class VideoInfo:
    """What a file's header says and what its frames turned out to be."""

    frames: int  # decoded
    declared: int  # of the picture track as its container counts them; 0 where it holds no count
    fps: float  # on average
    height: int  # pixels, as stored: a phone's film may be turned
    width: int  # pixels
    duration_s: float  # of the decoded frames
    damage: str | None = None  # what is missing or could not be decoded
    stream: int = 0  # index of the film among the file's streams
    time_base: Fraction = Fraction(1)  # seconds of a tick
    start_s: float = 0.0  # when the file starts, on its own clock
    ticks: "array[int]" = field(default_factory=lambda: array("q"), compare=False, repr=False)  # of each frame, rising
    keys: "array[int]" = field(default_factory=lambda: array("q"), compare=False, repr=False)  # numbers of key frames
    breaks: tuple[int, ...] = ()  # numbers of frames before which size, format or clock change
    exact: bool = False  # whether the ticks are the file's own, all rising
    deinterlace: str | None = None  # settings of the deinterlacer where fields were stored

    @property
    def truncated(self) -> bool:
        """Whether pictures that the file promises are missing or damaged."""
        return self.damage is not None

    def time_s(self, number: int) -> float:
        """When a frame is shown, in seconds from the file's start."""
        return self.ticks[number] * self.time_base.numerator / self.time_base.denominator - self.start_s

    def first_from(self, time_s: float) -> int:
        """The number of the first frame that is shown at this time, in seconds from the file's start, or later."""
        ticks = (time_s + self.start_s) * self.time_base.denominator / self.time_base.numerator
        return bisect_left(self.ticks, ticks)


@contextmanager
def opened(source: Path | bytes, limits: Limits | None = None, index: int | None = None) -> Iterator[tuple[Any, Any]]:
    """The container and the film's stream of a file or of its bytes, or the stream of that index; raises `VideoError`."""
    name = name_of(source)
    guard = {"format_whitelist": _CONTAINERS}
    if not isinstance(source, bytes):
        guard["protocol_whitelist"] = "file"
        if limits and (size := gif_size(source)):
            check_pixels(name, size[0], size[1], limits)
    if limits:
        guard["max_pixels"] = probed(limits)
    file = io.BytesIO(source) if isinstance(source, bytes) else f"file:{Path(source).absolute()}"
    try:
        container = av.open(file, mode="r", options=guard, metadata_errors="replace")
    except MemoryError:
        raise
    except (av.error.FFmpegError, OSError) as error:
        if not isinstance(source, bytes) and (missing := missing_bytes(source, samples=True)):
            raise VideoError(f"{name} cannot be opened: {missing}", "truncated") from error
        raise VideoError(f"{name} is not a video that can be opened: {message_of(error)}", "not a video") from error
    with container:
        stream: Any = _film(name, container) if index is None else container.streams[index]
        stream.thread_type = "NONE"
        if limits:
            check_pixels(name, stream.width, stream.height, limits)
            known_s = 0 if container.format.name in _JUMPING else (container.duration or 0) / 1_000_000
            check_length(name, stream.frames, known_s, limits)
            stream.codec_context.options = {"max_pixels": probed(limits)}
        yield container, stream


def scan(
    source: Path | bytes, visit: Callable[[float, av.VideoFrame], None], limits: Limits | None = None
) -> VideoInfo:
    """Decode every frame once, pass each with its time in seconds from the file's start to `visit`, and count.

    Raises `VideoError` when there is no film to open or a limit is passed; damage is reported in the result.
    """
    with opened(source, limits) as (container, stream):
        clock = _Clock(container, stream)
        pictures = Pictures(container, stream)
        seen = _Seen(stream)
        for frame in pictures:
            time_s = clock.tick(frame)
            if limits:
                check_pixels(name_of(source), frame.width, frame.height, limits)
                check_length(name_of(source), len(clock.ticks), time_s, limits)
            seen.note(frame, clock)
            visit(time_s, frame)
        damage = _missing(source, pictures) or pictures.damage
        return VideoInfo(
            frames=len(clock.ticks),
            declared=stream.frames,
            fps=clock.rate,
            height=stream.height,
            width=stream.width,
            duration_s=clock.end_s,
            damage=damage,
            stream=stream.index,
            time_base=clock.time_base,
            start_s=clock.start_s,
            ticks=clock.ticks,
            keys=seen.keys,
            breaks=tuple(sorted(clock.joints | seen.changes)),
            exact=clock.exact,
            deinterlace=seen.deinterlace,
        )


class Pictures:
    """The frames of a stream in the order they are shown; packets that cannot be decoded are counted and left out."""

    def __init__(self, container: Any, stream: Any) -> None:
        self.container, self.stream = container, stream
        self.packets = self.bad = self.bad_at_the_end = self.count = self.concealed = 0
        self.begun = False  # a recording that was joined in the middle begins with packets that nothing can decode
        self.held: list[av.VideoFrame] = []
        self.words = ""
        self.broke_off: str | None = None

    def __iter__(self) -> Iterator[av.VideoFrame]:
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, ValueError) as error:
                self.broke_off = message_of(error)
                return
            if packet is None:
                return
            self.packets += packet.size > 0
            if packet.size == 0 and packet.dts is not None:
                continue  # Theora and AVI: the picture before stays
            try:
                frames = packet.decode()
            except (av.error.EOFError, MemoryError) as error:
                if isinstance(error, MemoryError):
                    raise
                continue
            except (av.error.FFmpegError, ValueError) as error:
                self.words = message_of(error)
                if self.begun:
                    self.bad, self.bad_at_the_end = self.bad + 1, self.bad_at_the_end + 1
                continue
            self.begun = True
            for frame in frames:
                yield from self._past_the_cut(frame)

    def _past_the_cut(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """The frame, or what was held back before it: a stream that was cut off ends with one in pieces."""
        if self.held or (frame.is_corrupt and self.container.format.name in _JUMPING):
            self.held.append(frame)
            frames = self.held if len(self.held) > _REORDERED else []
        else:
            frames = [frame]
        for shown in frames:
            self.count, self.bad_at_the_end = self.count + 1, 0
            self.concealed += shown.is_corrupt
            yield shown
        if frames is self.held:
            self.held = []

    @property
    def damage(self) -> str | None:
        """What could not be decoded; a transport or program stream may end in the middle of a picture."""
        if self.broke_off:
            return f"it breaks off after {self.count} frames: {self.broke_off}"
        pieces = self.bad_at_the_end if self.bad_at_the_end <= _ENDS_IN_PIECES else 0
        bad = self.bad - (pieces if self.container.format.name in _JUMPING else 0)
        if bad:
            return f"{bad} of its packets could not be decoded: {self.words}"
        return f"{self.concealed} of its pictures are damaged" if self.concealed else None


class _Clock:
    """The time of each frame in ticks that always rise, whatever a file's own time stamps do."""

    def __init__(self, container: Any, stream: Any) -> None:
        self.time_base: Fraction = stream.time_base or Fraction(1, 1000)
        rate = stream.average_rate or stream.guessed_rate
        self.fps = float(rate or 0) or 1.0
        self.step = max(round(1 / self.fps / self.time_base), 1)
        self.start_s = (container.start_time or 0) / 1_000_000
        self.jumping = container.format.name in _JUMPING
        self.ticks: array[int] = array("q")
        self.joints: set[int] = set()
        self.exact = True
        self.shift = 0
        self.last_step = 0

    def tick(self, frame: Any) -> float:
        """Take the next frame; its time in seconds from the file's start."""
        last = self.ticks[-1] if self.ticks else None
        if frame.pts is None:
            ticks = round(self.start_s / self.time_base) if last is None else last + self.step
            self.exact = False
        else:
            ticks = frame.pts + self.shift
            gap_s = 0.0 if last is None else float((ticks - last) * self.time_base)
            if self.jumping and (gap_s > _LONGEST_GAP_S or gap_s < -1.0):
                self.joints.add(len(self.ticks))
                self.shift += last + self.step - ticks if last is not None else 0
                ticks = frame.pts + self.shift
                self.exact = False
        if last is not None and ticks <= last:
            ticks, self.exact = last + 1, False
        self.ticks.append(ticks)
        self.last_step = frame.duration or 0
        return ticks * self.time_base.numerator / self.time_base.denominator - self.start_s

    @property
    def end_s(self) -> float:
        """When the last frame has been shown, in seconds from the file's start."""
        if not self.ticks:
            return 0.0
        last = self.ticks[-1] * self.time_base.numerator / self.time_base.denominator - self.start_s
        return last + max(float(self.last_step * self.time_base), 1 / self.rate)

    @property
    def rate(self) -> float:
        """Frames per second, as the frames' times have it where the header is far from that (AVI)."""
        if len(self.ticks) < 2:
            return self.fps
        found = (len(self.ticks) - 1) / float((self.ticks[-1] - self.ticks[0]) * self.time_base)
        return self.fps if 0.5 < found / self.fps < 2 else found


class _Seen:
    """What changes from frame to frame: size and format, key frames, stored fields."""

    def __init__(self, stream: Any) -> None:
        self.keys: array[int] = array("q")
        self.changes: set[int] = set()
        self.deinterlace: str | None = None
        if stream.codec_context.name in _SILENT_FIELDS and stream.codec_context.field_order in (2, 3, 4, 5):
            parity = "tff" if stream.codec_context.field_order in (2, 5) else "bff"
            self.deinterlace = f"mode=send_frame:deint=all:parity={parity}"
        self.form: tuple[Any, ...] | None = None

    def note(self, frame: Any, clock: _Clock) -> None:
        """Take the next frame, whose time the clock has."""
        number = len(clock.ticks) - 1
        form = (frame.width, frame.height, frame.format.name)
        if self.form not in (None, form):
            self.changes.add(number)
        self.form = form
        if frame.key_frame:
            self.keys.append(number)
        if frame.interlaced_frame and self.deinterlace is None:
            self.deinterlace = "mode=send_frame:deint=interlaced"


def name_of(source: Path | bytes) -> str:
    """How a message calls a source."""
    return "the clip" if isinstance(source, bytes) else str(source)


def _film(name: str, container: Any) -> Any:
    """The stream to use: no cover picture; of several the one that is not coded as stills, the default, the first."""
    streams = [stream for stream in container.streams.video if stream.codec_context is not None]
    films = [stream for stream in streams if not stream.disposition & _PICTURES]
    if not films:
        has = "no film, but a cover picture" if streams else "no video stream that can be decoded"
        raise VideoError(f"{name} holds {has}", "not a video")

    def rank(stream: Any) -> tuple[bool, bool, bool, int]:
        still = stream.codec_context.name in _STILL_CODECS
        return stream.frames == 1, still, not stream.disposition & Disposition.default, stream.index

    return min(films, key=rank)


def _missing(source: Path | bytes, pictures: Pictures) -> str | None:
    """What the picture track's own index or the container's own sizes promise beyond the end of the file."""
    if isinstance(source, bytes):
        return None
    stream, lost = pictures.stream, None
    if pictures.container.format.name.startswith("mov"):
        size = source.stat().st_size
        entries = stream.index_entries
        beyond = sum(entry.pos + entry.size > size for entry in entries)
        if lost_pictures := max(beyond, len(entries) - pictures.packets):
            lost = f"{lost_pictures} of its {len(entries)} pictures are not there"
    lost = lost or missing_bytes(source)
    if not lost and (at := misread_at(source)) is not None:
        lost = f"it is damaged at byte {at}"
    if lost and stream.frames > pictures.count:
        return f"{pictures.count} of {stream.frames} declared frames could be decoded"
    return lost
