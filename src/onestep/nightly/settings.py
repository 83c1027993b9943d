"""When a night trains."""

from typing import Annotated

from onestep.core.settings import Settings
from onestep.core.values import Count, within


class RetrainSettings(Settings):
    """When a night trains."""

    min_new_clips: Count
    on_drift: bool
    max_champion_age_days: Annotated[float, within(1e-3, 36_500, "days; null is any age")] | None
    on_new_recipe: bool
