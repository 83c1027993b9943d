"""The settings of the rendered demo world."""

from typing import Annotated

from onestep.core.settings import Settings
from onestep.core.values import FramesPerSecond, Seed, within


class FootageSettings(Settings):
    """The rendered demo world."""

    seed: Seed
    shots: Annotated[int, within(1, 10_000_000, "shots that are rendered to a disk")]
    evaluation_seed: Seed
    evaluation_shots: Annotated[int, within(0, 10_000_000, "shots that are rendered to a disk")]
    side: Annotated[int, within(8, 4096, "pixels of a drawn frame")]
    fps: FramesPerSecond
    bad_files: bool
