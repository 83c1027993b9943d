"""The settings of when a scheduled run retrains."""

from typing import Annotated

from onestep.core.settings import Settings
from onestep.core.values import Count, within


class RetrainSettings(Settings):
    """When a scheduled run retrains: any of these is reason enough."""

    min_new_clips: Count
    on_drift: bool
    max_champion_age_days: Annotated[float, within(1e-3, 36_500, "days; null is any age")] | None
    on_new_recipe: bool
