"""The settings of what is generated for every comparison."""

from typing import Annotated

from onestep.core.settings import Settings
from onestep.core.values import Batch, Guidance, Seed, Steps, distinct, within
from onestep.inference.rows import teacher_row

Teacher = Annotated[tuple[tuple[Steps, Guidance], ...], distinct(lambda setting: teacher_row(setting[0], setting[1]))]


class SamplingSettings(Settings):
    """What is generated for every comparison."""

    prompts: Annotated[int, within(4, 1_000_000, "fewer prompts give no intervals")]
    teacher: Teacher
    batch: Batch

    def with_seed(self, seed: int) -> "SamplesSettings":
        """The settings of one comparison: its seed comes from `data/production.json`, not from here."""
        return SamplesSettings(**self.model_dump(), seed=seed)


class SamplesSettings(SamplingSettings):
    """What is generated for one comparison; the seed is that of the noise and of the choice of prompts."""

    seed: Seed
