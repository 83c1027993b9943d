"""Files that are no films, or no longer whole: all but a few end in quarantine."""

import io
import random
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from .card import Card
from .odd import (
    AAC,
    BT601,
    EXACT,
    H264,
    MJPEG,
    MPEG2,
    MPEG4,
    PRORES,
    THEORA,
    VP9,
    WMV,
    Odd,
    film,
    filmed,
    run,
    spoiled,
    written,
)

_SHORT = f"{H264} -g 10"
_DAMAGE = "truncated|damaged"


def odd() -> Iterator[Odd]:
    """All of them."""
    yield from _truncated()
    yield from _damaged()
    yield from _unreadable()
    yield from _joined()
    yield from _tagged()
    yield from _renamed()
    yield from _pointing()
    yield from _worthless()


def kept(share: float) -> Callable[[bytes], bytes]:
    """The first part of a file."""
    return lambda data: data[: int(len(data) * share)]


def noise(share: float, length: float, zeros: bool = False) -> Callable[[bytes], bytes]:
    """Bytes from `share` of the file on, for `length` of it, are replaced by noise or by zeros."""

    def change(data: bytes) -> bytes:
        first, last = int(len(data) * share), int(len(data) * (share + length))
        filling = bytes(last - first) if zeros else random.Random(16).randbytes(last - first)
        return data[:first] + filling + data[last:]

    return change


def _truncated() -> Iterator[Odd]:
    faststart = "-movflags +faststart"
    most = kept(0.6)
    for ending, options in {
        "mp4": f"{_SHORT} {faststart}", "mkv": _SHORT, "webm": VP9, "flv": _SHORT, "avi": MJPEG, "wmv": WMV,
        "ogv": THEORA, "mov": f"{PRORES} {faststart}",
    }.items():  # fmt: skip
        half = spoiled(most, filmed(options))
        yield Odd(f"truncated/most.{ending}", "lacks its last 40 %", half, 0, [_DAMAGE])
    for ending in ("mkv", "flv"):
        half = spoiled(most, filmed(f"{_SHORT} {AAC}", sound_s=2.6))
        yield Odd(f"truncated/sound.{ending}", "lacks its last 40 %, with longer sound", half, 0, [_DAMAGE])
    for ending, options in {"ts": _SHORT, "mpg": MPEG2}.items():
        card = Card(f"truncated/most.{ending}", seconds=3.0)
        what = "lacks its last 30 %: a stream promises no length, and what is there is whole"
        yield Odd(card.name, what, spoiled(kept(0.7), filmed(options)), card=card)
    fragments = filmed(f"{_SHORT} -movflags +frag_keyframe+empty_moov")
    yield Odd("truncated/fragment.mp4", "fragmented, breaks off in a fragment", spoiled(most, fragments), 0, [_DAMAGE])
    what = "recording cut off before its index"
    yield Odd("truncated/no-index.mp4", what, spoiled(most), 0, [f"not a video|{_DAMAGE}"])
    for ending in ("mp4", "mkv"):
        header = spoiled(lambda data: data[:1024], filmed(f"{_SHORT} {faststart if ending == 'mp4' else ''}"))
        yield Odd(f"truncated/header.{ending}", "its first kilobyte", header, 0, [f"not a video|{_DAMAGE}"])
    last = spoiled(lambda data: data[:-100], filmed(f"{_SHORT} {faststart}"))
    yield Odd("truncated/last-bytes.mp4", "lacks its last hundred bytes", last, 0, [_DAMAGE])


_FILMS = {
    "mp4": filmed(f"{_SHORT} -movflags +faststart"), "mkv": filmed(_SHORT), "ts": filmed(_SHORT), "webm": filmed(VP9),
    "mpg": filmed(MPEG2), "avi": filmed(MPEG4), "flv": filmed(_SHORT),
}  # fmt: skip


def _damaged() -> Iterator[Odd]:
    for ending, maker in _FILMS.items():
        noisy, zeroed = spoiled(noise(0.45, 0.1), maker), spoiled(noise(0.45, 0.1, zeros=True), maker)
        yield Odd(f"damaged/noise.{ending}", "noise in its middle tenth", noisy, 0, [_DAMAGE])
        yield Odd(f"damaged/zeros.{ending}", "zeros in its middle tenth", zeroed, 0, [_DAMAGE])
    for ending in ("mp4", "mkv", "avi"):
        more = spoiled(lambda data: data + random.Random(16).randbytes(3000), _FILMS[ending])
        yield Odd(f"damaged/appended.{ending}", "noise after its end, which players do not see", more)
    twice = spoiled(lambda data: data + data, _FILMS["mp4"])
    yield Odd("damaged/twice.mp4", "appended to itself: players show it once", twice)


def _unreadable() -> Iterator[Odd]:
    for ending, code, other, what in (
        ("mp4", b"avc1", b"xyz1", "a track of an unknown codec"),
        ("mkv", b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/XYZ", "a track of an unknown codec"),
        ("avi", b"FMP4", b"XYZ4", "a track of an unknown codec"),
        ("mov", b"avcC", b"xyzC", "a track without its decoder's settings"),
    ):
        unknown = spoiled(_replacing(code, other), _FILMS.get(ending, _FILMS["mp4"]))
        yield Odd(f"damaged/codec.{ending}", what, unknown, 0, [f"not a video|codec|decoder|{_DAMAGE}"])
    key = "00112233445566778899aabbccddeeff"
    secret = filmed(f"{_SHORT} -encryption_scheme cenc-aes-ctr -encryption_key {key} -encryption_kid {key}")
    yield Odd("damaged/encrypted.mp4", "encrypted, without its key", secret, 0, [f"encrypted|{_DAMAGE}"])


def _replacing(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data.replace(old, new)


def _joined() -> Iterator[Odd]:
    for name, what, size in (
        ("sizes.ts", "two of different sizes joined by `cat`: two shots", (240, 200)),
        ("clocks.ts", "two joined by `cat`, so that its clock steps back: two shots", (160, 120)),
    ):

        def joined(path: Path, card: Card, size: tuple[int, int] = size) -> None:
            film(path, replace(card, seconds=2.0, cuts=False))
            first = path.read_bytes()
            film(path, Card(f"{card.name} at the end", *size))
            path.write_bytes(first + path.read_bytes())

        card = Card(f"joined/{name}", seconds=4.0, cuts=True)
        yield Odd(card.name, what, joined, 2, card=card)


def _tagged() -> Iterator[Odd]:
    for ending, codec in {"mkv": H264, "mp4": H264, "avi": H264, "flv": H264, "mov": H264, "wmv": WMV}.items():
        title = spoiled(_latin, filmed(f"{codec} -metadata title=CAFETITLE"))
        yield Odd(f"tag/title.{ending}", "a title that is not UTF-8", title)
    handler = spoiled(_replacing(b"VideoHandler", b"Vid\xe9oHandler"))
    yield Odd("tag/handler.mp4", "a track whose name is not UTF-8", handler)
    many = " ".join(f"-metadata comment{number}={'x' * 200}" for number in range(300))
    yield Odd("tag/many.mkv", "300 long tags", filmed(f"{H264} {many}"))
    shell = '-metadata "title=%n%s\n\x1b[31mred" -metadata "comment=\'; rm -rf ~"'
    yield Odd("tag/shell.mkv", "tags with a new line, an escape and a command", filmed(f"{H264} {shell}"))


def _latin(data: bytes) -> bytes:
    if b"CAFETITLE" in data:
        return data.replace(b"CAFETITLE", b"CAF\xe9TITLE")
    wide = "CAFETITLE".encode("utf-16-le")  # ASF: half of a surrogate pair
    return data.replace(wide, b"\x00\xd8" + wide[2:])


def _renamed() -> Iterator[Odd]:
    page = "<!DOCTYPE html><html><head><title>Sign in</title></head><body><video src='a.mp4'></video></body></html>\n"
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as handle:
        handle.writestr(zipfile.ZipInfo("film.mp4", (2026, 1, 1, 0, 0, 0)), b"not here" * 100)
    for name, content, what in (
        ("empty.mp4", b"", "zero bytes"),
        ("one-byte.mp4", b"\0", "one byte"),
        ("text.mp4", "These are the minutes of a meeting, renamed by mistake.\n" * 20, "text"),
        ("page.mp4", page, "the sign-in page of a download"),
        ("archive.mkv", archive.getvalue(), "a ZIP archive"),
        ("words.webm", "1\n00:00:00,000 --> 00:00:02,000\nThe wheel turns.\n", "subtitles"),
        ("pointer.mp4", pointer, "a pointer of Git LFS"),
        ("zeros.mov", bytes(100_000), "a hundred thousand zeros, as a full disk leaves them"),
        ("noise.ts", random.Random(16).randbytes(100_000), "noise"),
    ):
        yield Odd(f"renamed/{name}", what, written(content), 0, ["empty file" if not content else "not a video"])
    for name, codec, what in (("jpeg.mp4", "mjpeg", "a JPEG"), ("png.gif", "png", "a PNG")):
        still = filmed(f"-frames:v 1 -f image2 -update 1 -c:v {codec}")
        yield Odd(f"renamed/{name}", what, still, 0, ["not a video"])

    def sound(path: Path, _card: Card) -> None:
        run(f"-f lavfi -i sine=d=2 -f wav {EXACT}", path)

    yield Odd("renamed/sound.avi", "a WAV", sound, 0, ["not a video"])


def _pointing() -> Iterator[Odd]:
    """Small texts that make ffmpeg open other files, if it is let: here a film of the same folder."""
    film_there = "../sound/longer.mp4"
    session = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    manifest = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT2S">'
        '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
        f"<BaseURL>{film_there}</BaseURL></Representation></AdaptationSet></Period></MPD>\n"
    )
    drawing = '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><image href="/etc/passwd"/></svg>\n'
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{film_there}\n#EXT-X-ENDLIST\n"
    for name, content in {
        "hls-playlist.mp4": playlist,
        "concat-script.mp4": f"ffconcat version 1.0\nfile '{film_there}'\n",
        "sdp-session.mkv": f"{session}a=rtpmap:96 H264/90000\n",
        "dash-manifest.mp4": manifest,
        "avisynth-script.avi": f'AviSource("{film_there}")\n',
        "svg-drawing.mov": drawing,
        "asx-shortcut.wmv": f'<asx version="3.0"><entry><ref href="{film_there}"/></entry></asx>\n',
        "reference.mov": f"[Reference]\nRef1={film_there}\n",
    }.items():
        what = "a text that names another film, for ffmpeg to open"
        yield Odd(f"pointing/{name}", what, written(content), 0, ["not a video"])


def _worthless() -> Iterator[Odd]:
    black = filmed(change=lambda frame: frame * 0)
    yield Odd("worthless/black.mp4", "black", black, 0, ["black"])
    still = filmed(f"{H264} -vf loop=50:1,{BT601} -frames:v 50")
    yield Odd("worthless/static.mp4", "nothing moves", still, 0, ["static"])
    for name, seconds, what in (("short", 1.0, "a second, where a clip needs 13/12"), ("one-frame", 0.04, "one frame")):
        card = Card(f"worthless/{name}.mp4", seconds=seconds)
        yield Odd(card.name, what, filmed(), 0, ["too short"], card=card)
    first = Card("worthless/film.mp4")
    yield Odd(first.name, "a film that the next one repeats", filmed())
    again = filmed(f"{H264} -crf 24")
    yield Odd("worthless/film-again.mp4", "the film before it, encoded worse", again, 0, ["duplicate"], card=first)
