"""How generation is timed."""

from typing import Annotated

from onestep.core.settings import Settings
from onestep.core.values import Batch, within


class LatencySettings(Settings):
    """How generation is timed."""

    repeats: Annotated[int, within(1, 100_000, "timed runs of each setting")]
    batch: Batch
