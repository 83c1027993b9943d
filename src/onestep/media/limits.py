"""What one file of footage may take, and the words for one that wants more."""

from typing import Protocol

from onestep.media.errors import VideoError

_PROBED = 4  # times the limit on pixels: decoders refuse what is larger without saying its size


class Limits(Protocol):
    """What one file may take."""

    @property
    def pixels(self) -> int:
        """Of one frame."""

    @property
    def frames(self) -> int:
        """Of the whole file."""

    @property
    def seconds(self) -> float:
        """Of the whole file."""


def probed(limits: Limits) -> str:
    """What ffmpeg itself is held to: its own largest number at most."""
    return str(min(_PROBED * limits.pixels, 2**31 - 1))


def check_pixels(name: str, width: int, height: int, limits: Limits) -> None:
    """Raise `VideoError` for a frame of more pixels than may be."""
    if width * height > limits.pixels:
        raise VideoError(
            f"{name}: a frame of {width}x{height} has {width * height} pixels, and limits.pixels allows {limits.pixels}",
            "too large",
        )


def check_length(name: str, frames: int, seconds: float, limits: Limits) -> None:
    """Raise `VideoError` for a film of more frames or seconds than may be."""
    if frames > limits.frames:
        raise VideoError(f"{name} has {frames} frames or more, and limits.frames allows {limits.frames}", "too long")
    if seconds > limits.seconds:
        raise VideoError(
            f"{name} lasts {seconds:.0f} s or more, and limits.seconds allows {limits.seconds}", "too long"
        )
