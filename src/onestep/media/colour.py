"""From the colours, fields and turns a file may store to what a clip holds: BT.709 colours, squares, upright.

Every kind is either converted by the rule that docs/your-own-footage.md states, or refused by name.
"""

import re
import struct
from dataclasses import dataclass, replace
from typing import Any

from onestep.media.errors import VideoError

_HD_HEIGHT, _HD_WIDTH = 720, 1280  # from here on, video without a matrix tag is BT.709; below, BT.601
_WHITE_CD = 203  # ITU-R BT.2408: where graphics white of HDR lies, which becomes SDR white
_PEAK_CD = 1000
_KNEE = 0.8  # linear light up to which HDR is kept as it is; above, highlights are compressed

_PIXELS = re.compile(
    r"yuv(a?)(420|422|440|444|410|411)p((9|10|12|14|16)(le|be))?|nv(12|16|20le|20be|21|24|42)|"
    r"[py][024]1[026](le|be)|yuyv422|uyvy422|yvyu422|uyyvyy411|xv30le|v30xle|vuy[axr]|vyu444|ayuv(64(le|be))?|"
    r"gbr(a?)p((9|10|12|14|16)(le|be))?|rgb(24|48le|48be)|bgr(24|48le|48be)|rgba(64le|64be)?|bgra(64le|64be)?|"
    r"argb|abgr|0rgb|0bgr|rgb0|bgr0|x2rgb10le|x2bgr10le"
)
_VIA_RGBA = ("pal8", "ya8", "ya16le", "ya16be")
_VIA_RGB = ("monow", "monob", "rgb8", "bgr8", "rgb4_byte", "bgr4_byte", "rgb565le", "rgb565be", "rgb555le", "rgb555be")
GRAY = re.compile(r"gray((9|10|12|14|16)(le|be))?")
_LIMITED_GRAY = ("h264", "hevc", "vvc", "av1", "vp9", "mpeg4", "mpeg2video", "mpeg1video", "prores", "dnxhd")

# Numbers of ITU-T H.273 and the names that ffmpeg has for them
_MATRICES = {
    0: "gbr", 1: "bt709", 2: "unknown", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco",
    9: "bt2020nc", 10: "bt2020c", 12: "chroma-derived-nc", 13: "chroma-derived-c", 14: "ictcp",
}  # fmt: skip
_PRIMARIES = {
    1: "bt709", 2: "unknown", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film", 9: "bt2020",
    11: "smpte431", 12: "smpte432", 22: "ebu3213",
}  # fmt: skip
_TRANSFERS = {
    1: "bt709", 2: "unknown", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "linear", 9: "log100",
    10: "log316", 11: "iec61966-2-4", 13: "iec61966-2-1", 14: "bt2020-10", 15: "bt2020-12", 16: "smpte2084",
    18: "arib-std-b67",
}  # fmt: skip
_RANGES = {0: "unknown", 1: "tv", 2: "pc"}
_HDR = (16, 18)
_WIDE_PRIMARIES = (4, 8, 9, 11, 12)  # others lie so near to BT.709 that they are taken for it
_ODD_TRANSFERS = (8, 9, 10)
_ODD_MATRICES = (8, 10, 12, 13, 14)  # swscale has no coefficients for these; zimg has
_HDR_MATRICES = {2: 9}
_HDR_PRIMARIES = {2: 9}


@dataclass(frozen=True)
class Signal:
    """How the pixels of a frame are to be read."""

    pixels: str  # ffmpeg's name of the format
    width: int
    height: int
    matrix: int  # these three by the numbers of ITU-T H.273
    primaries: int
    transfer: int
    range: int  # 0 unknown, 1 limited, 2 full
    aspect: tuple[int, int] = (1, 1)  # width to height of a pixel
    turn: tuple[str, ...] = ()  # filters that bring the picture upright


def signal_of(frame: Any, stream: Any) -> Signal:
    """The signal of one decoded frame; raises `VideoError` for what is refused by name, without the file's name."""
    name = frame.format.name
    full = 2 if name.startswith("yuvj") else int(frame.color_range)
    if GRAY.fullmatch(name) and full == 0:
        full = 1 if stream.codec_context.name in _LIMITED_GRAY else 2
    aspect = stream.sample_aspect_ratio
    signal = Signal(
        pixels=pixels_of(name),
        width=frame.width,
        height=frame.height,
        matrix=_specified(frame.colorspace, nothing=(2, 3)),
        primaries=_specified(frame.color_primaries),
        transfer=_specified(frame.color_trc),
        range=full,
        aspect=(aspect.numerator, aspect.denominator) if aspect else (1, 1),
        turn=_upright(frame),
    )
    rgb = re.search("rgb|bgr|gbr", signal.pixels) is not None
    if rgb and signal.range == 1:
        raise _refused("it is RGB in limited range")
    if not rgb and signal.matrix == 0:
        raise _refused("its pixels are YCbCr and its colour matrix is tagged RGB")
    _refuse(signal, stream)
    return replace(signal, matrix=0) if rgb else signal


def pixels_of(name: str) -> str:
    """The format that a frame's pixels are passed on in; raises `VideoError` for one that has no rule."""
    name = name.replace("yuvj", "yuv")
    if _PIXELS.fullmatch(name):
        return name
    if match := GRAY.fullmatch(name):
        return f"yuv444p{match[1] or ''}"
    if name in _VIA_RGBA:
        return "rgba"
    if name in _VIA_RGB:
        return "rgb24"
    raise _refused(f"its pixel format {name} has no rule")


def filters_of(signal: Signal) -> list[str]:
    """The filters that bring a signal to upright SDR pictures with BT.709 primaries."""
    hdr = signal.transfer in _HDR
    odd = (
        hdr
        or signal.matrix in _ODD_MATRICES
        or signal.primaries in _WIDE_PRIMARIES
        or signal.transfer in _ODD_TRANSFERS
    )
    tags = _tags(signal, hdr, odd)
    filters = [f"setparams={tags}"] if tags else []
    if signal.aspect != (1, 1):
        filters.append(f"setsar={signal.aspect[0]}/{signal.aspect[1]}")
    filters += signal.turn
    if signal.pixels.startswith(("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ayuv", "vuya")):
        filters.append("premultiply=inplace=1")
        filters.append("format=gbrp16le" if signal.matrix == 0 else "format=yuv444p16le")
    if odd:
        filters += ["crop=trunc(iw/2)*2:trunc(ih/2)*2:0:0", *(_tone_mapped() if hdr else _regraded(signal))]
    return filters


def display_size(signal: Signal) -> tuple[float, float]:
    """Width and height of the picture upright, in square pixels."""
    width, height = signal.width * signal.aspect[0] / signal.aspect[1], float(signal.height)
    return (height, width) if any(step.startswith("transpose") for step in signal.turn) else (width, height)


def _tags(signal: Signal, hdr: bool, odd: bool) -> str:
    matrix, primaries, transfer, full = signal.matrix, signal.primaries, signal.transfer, signal.range
    if hdr:
        matrix, primaries = _HDR_MATRICES.get(matrix, matrix), _HDR_PRIMARIES.get(primaries, primaries)
    tall, wide = max(display_size(signal)), min(display_size(signal))
    if matrix == 2 and (wide >= _HD_HEIGHT or tall >= _HD_WIDTH):
        matrix = 1
    if odd:
        matrix = 6 if matrix == 2 else matrix
        primaries, transfer = (1 if primaries == 2 else primaries), (1 if transfer == 2 else transfer)
        full = (2 if matrix == 0 else 1) if full == 0 else full
    parts = {
        "range": _RANGES[full],
        "color_primaries": _PRIMARIES[primaries],
        "color_trc": _TRANSFERS[transfer],
        "colorspace": _MATRICES[matrix],
    }
    return ":".join(f"{key}={value}" for key, value in parts.items() if value != "unknown")


def _tone_mapped() -> list[str]:
    """BT.2408: graphics white to SDR white, linear below the knee, hues kept above it, gamut clipped to BT.709."""
    return [
        f"zscale=transfer=linear:npl={_WHITE_CD}:agamma=false",
        "format=gbrpf32le",
        "zscale=primaries=bt709",
        f"tonemap=mobius:param={_KNEE}:peak={_PEAK_CD / _WHITE_CD:.6f}:desat=0",
        "zscale=transfer=bt709:matrix=gbr:range=full",
        "format=gbrp16le",
    ]


def _regraded(signal: Signal) -> list[str]:
    transfer = ":transfer=bt709" if signal.transfer in _ODD_TRANSFERS else ""
    return [f"zscale=primaries=bt709:matrix=gbr:range=full{transfer}", "format=gbrp16le"]


def _upright(frame: Any) -> tuple[str, ...]:
    """The turns and mirrors of a display matrix, as ffmpeg's own command applies them."""
    for data in frame.side_data.keys() if frame.side_data else ():
        if data.type.name != "DISPLAYMATRIX":
            continue
        matrix = struct.unpack("=9i", bytes(data)[:36])
        least = max(map(abs, matrix[:6])) / 1000
        a, b, c, d = (value if abs(value) > least else 0 for value in (matrix[0], matrix[1], matrix[3], matrix[4]))
        if b == c == 0:
            return tuple(name for name, value in (("hflip", a), ("vflip", d)) if value < 0)
        if a == d == 0:
            if b > 0:
                return ("transpose=cclock_flip",) if c > 0 else ("transpose=clock",)
            return ("transpose=cclock",) if c > 0 else ("transpose=clock_flip",)
        raise _refused("it is to be shown turned by something else than quarters of a circle")
    return ()


def _refuse(signal: Signal, stream: Any) -> None:
    for kind, value, known in (
        ("colour matrix", signal.matrix, _MATRICES),
        ("colour primaries", signal.primaries, _PRIMARIES),
        ("transfer characteristics", signal.transfer, _TRANSFERS),
    ):
        if value not in known:
            raise _refused(f"its {kind} {value} (ITU-T H.273) have no rule")
    if signal.matrix == 14 and signal.transfer not in _HDR:
        raise _refused("it is ICtCp without PQ or HLG")
    if stream.codec_context.name in ("vp8", "vp9") and stream.metadata.get("alpha_mode") == "1":
        raise VideoError("its transparency lies in a layer of WebM that is not read", "transparent")


def _refused(why: str) -> VideoError:
    return VideoError(why, "unknown colours")


def _specified(number: int, nothing: tuple[int, ...] = (0, 2, 3)) -> int:
    """Reserved numbers, as old files have them, say nothing."""
    return 2 if number in nothing else number
