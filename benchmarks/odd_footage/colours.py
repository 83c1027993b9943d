"""Films whose colours are stored otherwise than the rest: each must look as its card."""

from collections.abc import Iterator

import numpy as np

from .odd import FFV1, H264, HEVC, MJPEG, PRORES, VP9, Odd, filmed

_FLAGS = "flags=accurate_rnd+full_chroma_int+full_chroma_inp"
_SDR = ("bt709", "bt709", "bt709")  # matrix, primaries, transfer
_FROM_RGB = "zscale=primariesin=709:transferin=709:matrixin=gbr"
_VP9_10 = f"{VP9} -profile:v 2 -pix_fmt yuv420p10le"
_HOLE = "format=rgba,geq=r='r(X,Y)':g='g(X,Y)':b='b(X,Y)':a='255*gt(max(abs(X-W/2),abs(Y-H/2)),0.15*H)'"


def odd() -> Iterator[Odd]:
    """All of them."""
    yield from _matrices()
    yield from _primaries()
    yield from _depths()
    yield from _grey_and_palettes()
    yield from _transparent()
    yield from _high_dynamic_range()


def _tags(matrix: str, primaries: str, transfer: str, full: bool = False) -> str:
    """The filter that names how the pixels are to be read."""
    extent = "pc" if full else "tv"
    return f"setparams=colorspace={matrix}:color_primaries={primaries}:color_trc={transfer}:range={extent}"


def _in(
    matrix: str, primaries: str, transfer: str, pixels: str = "yuv420p", full: bool = False, codec: str = H264
) -> str:
    """Options of a film in this matrix, and tagged so."""
    coefficients = {"bt470bg": "bt601", "bt2020nc": "bt2020"}.get(matrix, matrix)
    scale = f"scale=out_color_matrix={coefficients}:out_range={'pc' if full else 'tv'}:{_FLAGS},format={pixels}"
    return f"{codec} -pix_fmt {pixels} -vf {scale},{_tags(matrix, primaries, transfer, full)}"


def _matrices() -> Iterator[Odd]:
    """SDR in every matrix and range that a file can name."""
    what = "SDR in this matrix and range"
    for name, options in {
        "bt709.mp4": _in(*_SDR),
        "bt709.mkv": _in(*_SDR),
        "bt709.webm": _in(*_SDR, codec=VP9),
        "bt601-pal.mp4": _in("bt470bg", "bt470bg", "bt470bg"),
        "bt601-ntsc.mp4": _in("smpte170m", "smpte170m", "smpte170m"),
        "smpte240m.mp4": _in("smpte240m", "smpte240m", "smpte240m"),
        "fcc.mp4": _in("fcc", "bt709", "bt709"),
        "bt2020.mp4": _in("bt2020nc", "bt709", "bt709"),
        "srgb.mp4": _in("bt709", "bt709", "iec61966-2-1"),
        "full-range.mp4": _in(*_SDR, full=True),
        "full-range.mov": _in("smpte170m", "bt709", "iec61966-2-1", "yuvj420p", full=True),
        "full-range.avi": MJPEG,
    }.items():
        yield Odd(f"colour/{name}", what, filmed(options))
    turned = f"format=gbrp,zscale=matrix=ycgco:range=tv,format=yuv420p,{_tags('ycgco', 'bt709', 'bt709')}"
    yield Odd("colour/ycgco.mp4", what, filmed(f"{H264} -vf {turned}"))
    constant = f"format=gbrp16le,{_FROM_RGB}:primaries=2020:transfer=2020_10:matrix=2020_cl:range=tv"
    tagged = f"{constant},format=yuv420p10le,{_tags('bt2020c', 'bt2020', 'bt2020-10')}"
    yield Odd("colour/bt2020-constant.mp4", what, filmed(f"{H264} -pix_fmt yuv420p10le -vf {tagged}"))


def _primaries() -> Iterator[Odd]:
    """SDR with primaries that reach further than a screen's."""
    for name, primaries in {"p3.mov": "smpte432", "bt2020.mp4": "bt2020", "ntsc-1953.mkv": "bt470m"}.items():
        scale = f"format=gbrp10le,{_FROM_RGB}:primaries={primaries}:transfer=709:matrix=709,format=yuv420p10le"
        options = f"{H264} -pix_fmt yuv420p10le -vf {scale},{_tags('bt709', primaries, 'bt709')}"
        yield Odd(f"colour/primaries-{name}", "SDR with wider primaries than a screen's", filmed(options))


def _depths() -> Iterator[Odd]:
    """More bits, other subsampling."""
    for name, pixels in {
        "422.mp4": "yuv422p", "444.mp4": "yuv444p", "10-bit.mp4": "yuv420p10le", "422-10-bit.mov": "yuv422p10le",
        "444-10-bit.mkv": "yuv444p10le",
    }.items():  # fmt: skip
        yield Odd(f"depth/{name}", "more bits or other subsampling, and no HDR", filmed(_in(*_SDR, pixels)))
    for name, pixels in {"hevc-10-bit.mp4": "yuv420p10le", "hevc-12-bit.mkv": "yuv444p12le"}.items():
        yield Odd(f"depth/{name}", "more bits or other subsampling, and no HDR", filmed(_in(*_SDR, pixels, codec=HEVC)))
    yield Odd("depth/vp9-10-bit.webm", "more bits or other subsampling, and no HDR", filmed(_VP9_10))
    yield Odd("depth/411.avi", "more bits or other subsampling, and no HDR", filmed("-c:v rawvideo -pix_fmt yuv411p"))
    yield Odd("depth/rgb.mp4", "RGB", filmed("-c:v libx264rgb -preset veryfast -crf 10"))
    yield Odd("depth/rgb-48.mkv", "RGB", filmed(f"{FFV1} -pix_fmt gbrp16le"))


def _grey_and_palettes() -> Iterator[Odd]:
    for name, options in {
        "grey.mp4": f"{H264} -pix_fmt gray -vf scale=out_range=tv,format=gray",
        "grey-10-bit.mp4": f"{H264} -pix_fmt gray10le -vf scale=out_range=tv,format=gray10le",
        "grey-16-bit.mkv": f"{FFV1} -pix_fmt gray16le",
        "grey.avi": f"{FFV1} -pix_fmt gray",
    }.items():
        yield Odd(f"depth/{name}", "grey only", filmed(options), looks="grey")
    yield Odd("depth/15-bit.avi", "RGB", filmed("-c:v msvideo1 -pix_fmt rgb555le"))
    palette = '-filter_complex "split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=none" -c:v png -pix_fmt pal8'
    yield Odd("depth/palette.mov", "a palette of 256 colours", filmed(palette))


def _transparent() -> Iterator[Odd]:
    for name, options in {
        "prores-4444.mov": f'{PRORES} -pix_fmt yuva444p10le -vf "{_HOLE},scale=out_color_matrix=bt709"',
        "ffv1.mkv": f'{FFV1} -pix_fmt yuva444p -vf "{_HOLE}"',
        "png.mov": f'-c:v png -pix_fmt rgba -vf "{_HOLE}"',
        "animation.mov": f'-c:v qtrle -pix_fmt argb -vf "{_HOLE}"',
    }.items():
        yield Odd(f"alpha/{name}", "a transparent square, which becomes black", filmed(options), looks="hole")
    layer = filmed(f'{VP9} -pix_fmt yuva420p -auto-alt-ref 0 -vf "{_HOLE}"')
    yield Odd("alpha/vp9.webm", "transparency in a second layer of WebM", layer, 0, ["transparen"])


def _high_dynamic_range() -> Iterator[Odd]:
    """HDR as cameras write it, the card's white at 203 nits (ITU-R BT.2408)."""
    for name, codec, transfer, what in (
        ("pq.mp4", f"{HEVC} -tag:v hvc1", "smpte2084", "HDR10"),
        ("pq.mkv", H264, "smpte2084", "PQ and BT.2020"),
        ("pq.webm", _VP9_10, "smpte2084", "PQ and BT.2020"),
        ("pq.ts", H264, "smpte2084", "PQ and BT.2020"),
        ("hlg.mp4", f"{HEVC} -tag:v hvc1", "arib-std-b67", "HLG, as telephones write it"),
        ("hlg.mov", H264, "arib-std-b67", "HLG and BT.2020"),
    ):
        options = _in("bt2020nc", "bt2020", transfer, "yuv420p10le", codec=codec)
        yield Odd(f"hdr/{name}", what, filmed(options, change=_hlg if name.startswith("hlg") else _pq))
    linear = filmed(_in("bt709", "bt709", "linear", "yuv420p10le"), change=lambda frame: _stored((frame / 255) ** 2.4))
    yield Odd("hdr/linear.mkv", "light stored linearly", linear)


def _light(frame: np.ndarray) -> np.ndarray:
    """The card as light of BT.2020's primaries, 1 = 10,000 nits."""
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    return (frame / 255) ** 2.4 @ to_2020.T * 0.0203


def _pq(frame: np.ndarray) -> np.ndarray:
    power = _light(frame) ** 0.1593017578125
    return _stored(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


def _hlg(frame: np.ndarray) -> np.ndarray:
    light = _light(frame) * 10  # of a screen of 1,000 nits
    luminance = light @ np.array([0.2627, 0.6780, 0.0593])
    scene = light * (luminance[..., None] + 1e-9) ** (1 / 1.2 - 1)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return _stored(np.where(scene <= 1 / 12, np.sqrt(3 * scene), high))


def _stored(signal: np.ndarray) -> np.ndarray:
    """A signal in [0, 1] as 16 bits."""
    return (signal * 65535).round().astype(np.uint16)
