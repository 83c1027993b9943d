"""What one odd file is, and how films of the card are written."""

import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onestep.media.video import ffmpeg_executable

from .card import Card

Maker = Callable[[Path, Card], None]  # writes the file, or does not
Row = Mapping[str, str]  # columns of metadata.csv but for `file_name`
MAIN, SMALL = "footage", "small-limits"  # the second folder is ingested with small limits


@dataclass(frozen=True)
class Odd:
    """One file of odd footage with its rows, and what must become of it: clips, or quarantine with its reason."""

    name: str
    what: str  # one sentence: what is odd about it
    make: Maker
    clips: int = 1
    refused: Sequence[str] = ()  # for each row of the quarantine a pattern that its reason and detail must hold
    rows: Sequence[Row] | None = None  # None: one with a caption of its own
    card: Card | None = None  # None: the usual one
    looks: str = "right"  # right | grey | hole | colours | unknown: what the clips must show
    shift_s: float | None = 0.0  # the card's time at the file's start; None where it is not known
    folder: str = MAIN
    listed_as: str | None = None  # the file's name in metadata.csv, where that is another
    source: str | None = None  # what the index and the quarantine call it, where that is neither
    root_reads: bool = False  # only users without root meet the refusal

    @property
    def picture(self) -> Card:
        """The card that it shows."""
        return self.card or Card(self.name)

    @property
    def table(self) -> Sequence[Row]:
        """Its rows of `metadata.csv`."""
        return [{"caption": f"the card of {self.name!r}"}] if self.rows is None else self.rows

    @property
    def called(self) -> str:
        """What the index and the quarantine call it."""
        return self.source or self.name


def run(options: str, *more: str | Path, data: bytes | None = None) -> None:
    """Run the bundled ffmpeg; raises when it fails."""
    arguments = [*shlex.split(options), *map(str, more)]
    command = [ffmpeg_executable(), *shlex.split("-hide_banner -loglevel error -y"), *arguments]
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ffmpeg {shlex.join(arguments)}: {done.stderr.decode(errors='replace')}")


EXACT = "-fflags +bitexact -flags:v +bitexact -flags:a +bitexact -threads 1"
BT601 = "scale=out_color_matrix=bt601:out_range=tv:flags=accurate_rnd+full_chroma_int"
H264 = "-c:v libx264 -preset veryfast -crf 12 -pix_fmt yuv420p"
HEVC = "-c:v libx265 -preset ultrafast -crf 14 -x265-params log-level=none:pools=1:frame-threads=1 -pix_fmt yuv420p"
VP9 = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -crf 20 -b:v 0 -pix_fmt yuv420p"
VP8 = "-c:v libvpx -deadline realtime -cpu-used 8 -b:v 2M -pix_fmt yuv420p"
MPEG2 = "-c:v mpeg2video -q:v 2 -pix_fmt yuv420p"
MPEG4 = "-c:v mpeg4 -q:v 2"
MJPEG = "-c:v mjpeg -q:v 2 -pix_fmt yuvj420p"
FFV1 = "-c:v ffv1 -level 3"
PRORES = "-c:v prores_ks -pix_fmt yuv422p10le"
THEORA = "-c:v libtheora -q:v 10 -pix_fmt yuv420p"
WMV = "-c:v wmv2 -q:v 2"
AAC = "-c:a aac -b:a 64k -ac 2"
Change = Callable[[np.ndarray], np.ndarray]  # what is stored for a frame `[H, W, 3]` of the card


def film(path: Path, card: Card, options: str = H264, *, sound_s: float = 0.0, change: Change = np.asarray) -> None:
    """Write a film of the card by ffmpeg with these options of its output; with a tone where `sound_s` is not 0."""
    frames = [change(frame) for frame in card.frames()]
    height, width = frames[0].shape[:2]
    pixels = "rgb48le" if frames[0].dtype == np.uint16 else "rgb24"
    pictures = f"-f rawvideo -pix_fmt {pixels} -s {width}x{height} -r {card.fps:g} -i pipe:"
    sound = f"-f lavfi -i sine=d={sound_s}" if sound_s else ""
    given = shlex.split(options)
    usual = [] if {"-vf", "-filter_complex"} & set(given) else ["-vf", BT601]
    run(f"{pictures} {sound} {EXACT}", *usual, *given, path, data=np.stack(frames).tobytes())


def filmed(options: str = H264, *, sound_s: float = 0.0, change: Change = np.asarray) -> Maker:
    """A maker that films the card with these options."""
    return lambda path, card: film(path, card, options, sound_s=sound_s, change=change)


def remade(
    again: str,
    *,
    before: str = "",
    first: str = H264,
    ending: str = "mp4",
    sound_s: float = 0.0,
    change: Change = np.asarray,
) -> Maker:
    """A maker that films the card, then passes the film through ffmpeg with options before and after its name."""

    def make(path: Path, card: Card) -> None:
        whole = path.with_name(f"whole.{ending}")
        film(whole, card, first, sound_s=sound_s, change=change)
        run(before, "-i", whole, *shlex.split(f"{again} {EXACT}"), path)
        whole.unlink()

    return make


def spoiled(change: Callable[[bytes], bytes], maker: Maker | None = None) -> Maker:
    """A maker that films the card and changes the file's bytes."""

    def make(path: Path, card: Card) -> None:
        (maker or filmed())(path, card)
        path.write_bytes(change(path.read_bytes()))

    return make


def written(content: bytes | str) -> Maker:
    """A maker that writes these bytes."""
    raw = content.encode() if isinstance(content, str) else content
    return lambda path, _card: path.write_bytes(raw) and None


def nothing(_path: Path, _card: Card) -> None:
    """A maker of what is not there."""
