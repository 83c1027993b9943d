"""Video files of every kind for tests: made by the ffmpeg of the wheel, their colours computed here and not by it."""

import subprocess
from pathlib import Path

import numpy as np

from onestep.media.video import ffmpeg_executable

PATCHES = np.array([(200, 60, 50), (40, 170, 80), (60, 80, 190), (128, 128, 128)], dtype=np.uint8)
SIDE = 64
_WEIGHTS = {  # Kr and Kb
    "bt709": (0.2126, 0.0722), "smpte170m": (0.299, 0.114), "bt470bg": (0.299, 0.114), "smpte240m": (0.212, 0.087),
    "fcc": (0.30, 0.11), "bt2020nc": (0.2627, 0.0593),
}  # fmt: skip
TO_2020 = np.array(  # linear light, ITU-R BT.2087
    [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
)


def ffmpeg(*arguments: str | Path, stdin: bytes | None = None) -> None:
    """Run ffmpeg quietly; the test fails with its words."""
    command = [ffmpeg_executable(), "-y", "-hide_banner", "-loglevel", "error", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")


def quadrants(colours: np.ndarray, side: int = SIDE) -> np.ndarray:
    """A picture of four colours `[4, C]`, one in each quarter: `[side, side, C]`."""
    rows, columns = np.mgrid[0:side, 0:side] * 2 // side
    return colours[rows * 2 + columns]


def patches_of(picture: np.ndarray) -> np.ndarray:
    """The mean colour in the middle of each quarter: `[4, C]`."""
    side = picture.shape[0]
    quarter, rim = side // 2, side // 8
    corners = [(0, 0), (0, quarter), (quarter, 0), (quarter, quarter)]
    inner = [picture[y + rim : y + quarter - rim, x + rim : x + quarter - rim] for y, x in corners]
    return np.stack([part.reshape(-1, picture.shape[2]).astype(float).mean(axis=0) for part in inner])


def ycbcr(rgb: np.ndarray, matrix: str, full: bool = False, bits: int = 8) -> np.ndarray:
    """Code values of Y'CbCr for R'G'B' from 0 to 1, `[N, 3]`, by the formulas of ITU-T H.273."""
    red, green, blue = rgb.T
    if matrix == "ycgco":
        luma, first, second = (red + 2 * green + blue) / 4, (2 * green - red - blue) / 4, (red - blue) / 2
    else:
        kr, kb = _WEIGHTS[matrix]
        luma = kr * red + (1 - kr - kb) * green + kb * blue
        first, second = (blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr)
    chroma, top, unit = np.stack([first, second], 1), (1 << bits) - 1, 1 << (bits - 8)
    if full:
        codes = np.column_stack([luma * top, chroma * top + (1 << (bits - 1))])
    else:
        codes = np.column_stack([(219 * luma + 16) * unit, (224 * chroma + 128) * unit])
    return np.rint(codes).clip(0, top).astype(np.uint16 if bits > 8 else np.uint8)


def hdr(rgb: np.ndarray, transfer: str, white_cd: float = 203.0) -> np.ndarray:
    """R'G'B' of BT.2020 for SDR colours from 0 to 1 (BT.1886 display) whose white lies at `white_cd`, as BT.2408 has it."""
    light = rgb**2.4 @ TO_2020.T * white_cd
    if transfer == "smpte2084":
        power = (light / 10_000).clip(0) ** 0.1593017578125
        return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    display = light / 1000
    scene_luma = (display @ np.array([0.2627, 0.6780, 0.0593])) ** (1 / 1.2)
    scene = display * (scene_luma ** (1 - 1.2))[:, None]
    upper = 0.17883277 * np.log((12 * scene - 0.28466892).clip(1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene.clip(0)), upper)


def write_raw(path: Path, codes: np.ndarray, pixels: str, tags: str, *options: str, frames: int = 8) -> None:
    """Encode four patches of code values as planar 4:4:4 with these tags (`setparams` of ffmpeg)."""
    picture = quadrants(codes)
    planes = np.concatenate([picture[..., plane].ravel() for plane in range(picture.shape[2])])
    ffmpeg(
        "-f", "rawvideo", "-pix_fmt", pixels, "-video_size", f"{SIDE}x{SIDE}", "-framerate", "12", "-i", "pipe:",
        "-vf", f"setparams={tags}", *options, path, stdin=planes.tobytes() * frames,
    )  # fmt: skip
