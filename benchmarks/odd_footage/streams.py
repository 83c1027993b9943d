"""Whole films in odd containers, with odd beginnings, ends and companions: all but sound alone are clips."""

from collections.abc import Iterator
from pathlib import Path

from .card import Card
from .odd import AAC, EXACT, H264, MPEG2, VP8, VP9, Maker, Odd, film, filmed, remade, run, spoiled

_OPUS = "-c:a libopus -ar 48000 -ac 2"
_MP3 = "-c:a libmp3lame -ac 2"
_MP2 = "-c:a mp2 -ac 2"
_OTHER = "-f lavfi -i testsrc2=s=320x240:d=2 -map 1:v -map 0:v"  # another film, before the card's
_COVER = "-f lavfi -i color=orange:s=200x200:d=0.04 -map 1:v -map 0:v -c:v:0 mjpeg -c:v:1 copy"
_SECOND = "-disposition:v:0 0 -disposition:v:1 default"
_WORDS = "1\n00:00:00,000 --> 00:00:03,500\nThe wheel turns.\n"


def odd() -> Iterator[Odd]:
    """All of them."""
    yield from _sound()
    yield from _cuts()
    yield from _starts()
    yield from _tracks()


def _sound() -> Iterator[Odd]:
    h264 = f"{H264} {AAC}"
    for ending, options in {
        "mkv": h264, "webm": f"{VP9} {_OPUS}", "ts": h264, "flv": h264, "mp4": h264, "mov": h264,
        "avi": f"{H264} {_MP3}", "mpg": f"{MPEG2} {_MP2}",
    }.items():  # fmt: skip
        yield Odd(f"sound/longer.{ending}", "sound 0.6 s longer than the picture", filmed(options, sound_s=2.6))
    yield Odd("sound/shorter.mkv", "sound that ends a second before the picture", filmed(h264, sound_s=1.0))
    late = remade(f"-itsoffset 0.5 -f lavfi -i sine=d=2 -map 0:v -map 1:a -c:v copy {AAC}")
    yield Odd("sound/late.mp4", "sound that starts half a second after the picture", late)
    for ending, options in {"mp4": AAC, "mkv": AAC, "webm": _OPUS}.items():
        alone = _without_picture(options)
        yield Odd(f"sound/alone.{ending}", "sound without a picture", alone, 0, ["not a video"])


def _without_picture(options: str) -> Maker:
    return lambda path, _card: run(f"-f lavfi -i sine=d=2 {options} {EXACT}", path)


def _cuts() -> Iterator[Odd]:
    for ending in ("mp4", "mov", "mkv", "ts"):
        cut = remade("-t 3 -c copy", before="-ss 1.3", first=f"{H264} -g 50 {AAC}", sound_s=6)
        what = "cut by `-ss 1.3 -t 3 -c copy`: starts on the keyframe before"
        if ending in ("mp4", "mov"):
            what += ", hidden by an edit list"
        card = Card(f"cut/copied.{ending}", seconds=6.0)
        yield Odd(card.name, what, cut, card=card, shift_s=None)
    card = Card("cut/no-b-frames.mp4", seconds=4.0)
    cut = remade("-t 2 -c copy", before="-ss 1", first=f"{H264} -g 12 -bf 0")
    yield Odd(card.name, "cut by `-c copy` on a keyframe", cut, card=card, shift_s=None)

    def midway(path: Path, card: Card) -> None:
        """From the middle on, as a recorder that joins a broadcast writes it."""
        film(path, card, f"{H264} -g 25")
        whole = path.read_bytes()
        path.write_bytes(whole[len(whole) * 2 // 5 // 188 * 188 :])

    card = Card("cut/joined-midway.ts", seconds=4.0)
    yield Odd(card.name, "recording that began between two keyframes", midway, card=card, shift_s=None)


def _starts() -> Iterator[Odd]:
    for ending in ("ts", "mp4", "mkv"):
        late = filmed(f"{H264} -output_ts_offset 10")
        yield Odd(f"start/ten.{ending}", "first frame at 10 s", late)
    wraps = filmed(f"{H264} -output_ts_offset 95442.2 -muxdelay 0")
    yield Odd("start/wraps.ts", "33-bit clock that starts anew in the middle", wraps)
    for name, options, what in (
        ("fragmented.mp4", "-g 12 -movflags +frag_keyframe+empty_moov+default_base_moof", "fragmented, no duration"),
        ("fragments.mov", "-movflags +frag_every_frame+empty_moov", "a fragment for every frame"),
        ("hybrid.mp4", "-movflags +hybrid_fragmented", "fragmented while it was written"),
        ("index-last.mp4", "", "index at the end"),
        ("index-first.mp4", "-movflags +faststart", "index at the start"),
        ("live.mkv", "-live 1", "live: no size, no duration, no index"),
        ("live.webm", "-live 1", "live: no size, no duration, no index"),
        ("live.flv", "-flvflags no_duration_filesize+no_metadata", "live: no size, no duration, no index"),
    ):
        codec = VP9 if name.endswith("webm") else H264
        yield Odd(f"start/{name}", what, filmed(f"{codec} {options}"))


def _tracks() -> Iterator[Odd]:
    for ending in ("mp4", "m4v", "mkv"):
        cover = spoiled(_cover_first, remade(f"{_COVER} -disposition:v:0 attached_pic", ending="mkv"))
        yield Odd(f"track/cover-first.{ending}", "a cover picture as the first stream", cover)
    still = remade(f"{_COVER} {_SECOND}", ending="mkv")
    yield Odd("track/still-first.mkv", "a track of one still before the default one", still)
    for ending in ("mkv", "mp4", "webm", "mov"):
        first, other = (VP9, VP8) if ending == "webm" else (H264, H264)
        two = remade(f"{_OTHER} {other} -c:v:1 copy {_SECOND}", first=first, ending="mkv")
        yield Odd(f"track/second.{ending}", "two films, the second of them the default", two)
    both = remade(f"-f lavfi -i testsrc2=s=320x240:d=2 -map 0:v -map 1:v {H264} -c:v:0 copy -disposition:v default")
    yield Odd("track/both.mkv", "two films, both of them the default: the first is taken", both)
    programs = "-f lavfi -i testsrc2=s=320x240:d=2 -map 0:v -map 1:v -program st=0 -program st=1"
    yield Odd("track/programs.ts", "two programmes: the first is taken", remade(f"{programs} {H264} -c:v:0 copy"))
    for ending, codec in {"mkv": "srt", "mp4": "mov_text"}.items():

        def subtitled(path: Path, card: Card, codec: str = codec) -> None:
            text = path.with_name("words.srt")
            text.write_text(_WORDS)
            remade(f"-i {text} -map 1:s -map 0:v -c:v copy -c:s {codec}")(path, card)
            text.unlink()

        yield Odd(f"track/subtitles.{ending}", "subtitles first, which end after the picture", subtitled)
    timecode = filmed(f"{H264} -timecode 10:00:00:00")
    yield Odd("track/timecode.mov", "a track of timecodes that starts at ten hours", timecode)


def _cover_first(data: bytes) -> bytes:
    """An MP4 whose tags, with the picture, stand before its tracks; another container as it is."""
    at = data.rfind(b"moov") - 4
    if data[4:8] != b"ftyp" or at < 0:
        return data
    size = int.from_bytes(data[at : at + 4])
    boxes, place = [], at + 8
    while place < at + size:
        length = int.from_bytes(data[place : place + 4])
        boxes.append(data[place : place + length])
        place += length
    boxes.sort(key=lambda box: (b"mvhd", b"udta").index(box[4:8]) if box[4:8] in (b"mvhd", b"udta") else 2)
    return data[: at + 8] + b"".join(boxes) + data[at + size :]
