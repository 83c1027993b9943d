"""The sizes of a clip that some model can encode, for settings: checked before any stage runs and any model is loaded.

The strides are the finest that the known families have, those of Wan. A model with wider ones refuses at `encode` what
passes here; `VideoPipeline.latent_shape` knows each folder's own.
"""

from typing import Annotated

from pydantic import AfterValidator

from onestep.core.values import within

TEMPORAL_STRIDE = 4  # frames that one latent frame stands for, after the first
PIXEL_STRIDE = 16  # pixels to one transformer token, per side: VAE compression times patch


def nearest_frames(frames: int) -> int:
    """The nearest legal number of frames, 4k+1 (the VAE silently drops the rest otherwise)."""
    return max(TEMPORAL_STRIDE * round((frames - 1) / TEMPORAL_STRIDE), 0) + 1


def nearest_side(pixels: int) -> int:
    """The nearest legal height or width: a positive multiple of 16."""
    return max(round(pixels / PIXEL_STRIDE), 1) * PIXEL_STRIDE


def legal_frames(frames: int) -> int:
    """A number of frames that the VAE can encode whole."""
    if frames != nearest_frames(frames):
        raise ValueError(f"{frames} frames are not 4k+1; the nearest legal value is {nearest_frames(frames)}")
    return frames


def legal_side(pixels: int) -> int:
    """A height or width that is whole tokens."""
    if pixels != nearest_side(pixels):
        raise ValueError(
            f"{pixels} pixels are not a multiple of {PIXEL_STRIDE}; the nearest legal value is {nearest_side(pixels)}"
        )
    return pixels


Frames = Annotated[int, within(1, 4097, "frames of one clip"), AfterValidator(legal_frames)]
Side = Annotated[int, within(16, 8192, "pixels of one clip's side"), AfterValidator(legal_side)]
