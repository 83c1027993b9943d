"""Whole films in odd codecs, at odd rates and with odd groups of pictures: all of them are clips."""

from collections.abc import Iterator
from fractions import Fraction

from .card import Card
from .odd import BT601, FFV1, H264, HEVC, MJPEG, MPEG2, MPEG4, PRORES, THEORA, VP8, VP9, WMV, Odd, film, filmed


def odd() -> Iterator[Odd]:
    """All of them."""
    yield from _rates()
    yield from _groups()
    yield from _codecs()
    yield from _names()


def _rates() -> Iterator[Odd]:
    some = f"-vf \"select='not(mod(n,7))+not(mod(n,3))+lt(n,12)',{BT601}\" -fps_mode vfr"
    for ending in ("mkv", "webm", "mp4", "mov", "flv"):
        card = Card(f"rate/variable.{ending}", seconds=3.0, fps=50.0)
        varied = filmed(f"{VP9 if ending == 'webm' else H264} {some}")
        yield Odd(card.name, "a variable frame rate: 50 frames a second, then 21", varied, card=card)
    for name, rate in {
        "1": 1, "5": 5, "23.976": Fraction(24000, 1001), "29.97": Fraction(30000, 1001), "60": 60, "120": 120, "240": 240,
    }.items():  # fmt: skip
        fps = float(rate)
        card = Card(f"rate/{name}.mp4", seconds=5.0 if fps <= 5 else 2.0, fps=fps)
        looks = "right" if fps > 5 else "colours"
        yield Odd(card.name, "frames a second, in the name", filmed(), card=card, looks=looks)
    card = Card("rate/gap.mkv", seconds=6.0)
    gap = filmed(f"{H264} -vf \"select='lt(t,1)+gt(t,4)',{BT601}\" -fps_mode vfr")
    yield Odd(card.name, "one frame shown for three seconds in the middle", gap, 0, ["static"], card=card)
    slow = filmed(f"{H264} -vf setpts=PTS*10,{BT601} -fps_mode vfr")
    yield Odd("rate/slow-motion.mkv", "ten times slower by time stamps alone", slow, looks="unknown")


def _groups() -> Iterator[Odd]:
    for name, options, what in (
        ("50.ts", f"{H264} -g 50", "a keyframe every 50 frames"),
        ("50.mpg", f"{MPEG2} -g 50", "a keyframe every 50 frames"),
        ("250.ts", f"{H264} -g 250", "one keyframe, ffmpeg's default"),
        ("250.mpg", f"{MPEG2} -g 250", "one keyframe, ffmpeg's default"),
        ("250.mkv", f"{H264} -g 250", "one keyframe, ffmpeg's default"),
        ("250.flv", f"{H264} -g 250", "one keyframe, ffmpeg's default"),
        ("250.avi", f"{MPEG4} -g 250 -bf 2", "one keyframe and packed B-frames"),
        ("open.ts", f"{H264} -g 25 -bf 3 -x264-params open-gop=1", "open groups of pictures"),
        ("open.mp4", f"{H264} -g 25 -bf 3 -x264-params open-gop=1", "open groups of pictures"),
        ("pyramid.mkv", f"{H264} -g 50 -bf 5 -x264-params b-pyramid=normal", "a pyramid of B-frames"),
        ("refresh.ts", f"{H264} -g 25 -x264-params intra-refresh=1", "intra refresh in the place of keyframes"),
        ("one.mp4", f"{H264} -g 1", "keyframes only"),
    ):
        card = Card(f"gop/{name}", seconds=4.0)
        yield Odd(card.name, what, filmed(options), card=card)


def _codecs() -> Iterator[Odd]:
    for name, options in {
        "theora.ogv": f"{THEORA} -c:a libvorbis -ac 2",
        "wmv2.wmv": f"{WMV} -c:a wmav2",
        "mpeg1.mpg": "-c:v mpeg1video -q:v 2 -c:a mp2 -ac 2",
        "mpeg2.mpeg": f"{MPEG2} -c:a mp2 -ac 2",
        "mpeg2.ts": f"{MPEG2} -c:a mp2 -ac 2",
        "mjpeg.avi": f"{MJPEG} -c:a pcm_s16le",
        "prores.mov": f"{PRORES} -c:a pcm_s16le",
        "ffv1.mkv": f"{FFV1} -pix_fmt yuv420p -c:a pcm_s16le",
        "av1.mp4": "-c:v libsvtav1 -preset 12 -crf 20 -svtav1-params lp=1 -pix_fmt yuv420p",
        "av1.webm": "-c:v libaom-av1 -cpu-used 8 -usage realtime -crf 16 -pix_fmt yuv420p",
        "vp8.webm": VP8,
        "vp9.mp4": VP9,
        "vp9-hidden-frames.webm": f"{VP9} -deadline good -auto-alt-ref 1 -lag-in-frames 25",
        "hevc.mp4": f"{HEVC} -tag:v hvc1",
        "hevc.ts": HEVC,
        "xvid.avi": "-c:v libxvid -q:v 2",
        "h264.avi": H264,
        "sorenson.flv": "-c:v flv -q:v 2",
        "animation.mov": "-c:v qtrle",
        "huffyuv.avi": "-c:v huffyuv -pix_fmt yuv422p",
        "raw.avi": "-c:v rawvideo -pix_fmt yuv420p",
        "raw-bottom-up.avi": "-c:v rawvideo -pix_fmt bgr24",
        "png.mov": "-c:v png -pix_fmt rgb24",
        "cinepak.mov": "-c:v cinepak -q:v 1",
    }.items():
        maker = filmed(options, sound_s=2.0 if "-c:a" in options else 0.0)
        yield Odd(f"codec/{name}", "codecs of cameras, editors and the web", maker)
    card = Card("codec/dv.avi", 720, 576, seconds=1.6, stretch=16 / 15)
    tape = filmed("-c:v dvvideo -pix_fmt yuv420p -aspect 4:3")
    yield Odd(card.name, "DV of a PAL camera: interlaced, pixels of 16:15", tape, card=card)


def _names() -> Iterator[Odd]:
    def as_container(container: str) -> object:
        return lambda path, card: film(path, card, f"{H264} -f {container}")

    yield Odd("codec/UPPER.MP4", "an ending in capital letters", filmed())
    yield Odd("codec/no-ending", "no ending, but listed", as_container("mp4"))
    yield Odd("codec/wrong.avi", "MKV that is called AVI", as_container("matroska"))
