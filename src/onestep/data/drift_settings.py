"""When the footage counts as drifted."""

from typing import Annotated

from onestep.core.settings import Settings
from onestep.core.values import Share, within


class DriftSettings(Settings):
    """When the footage counts as drifted from that of the model in production."""

    distance: Annotated[float, within(1e-9, 1e6, "a distance in spreads of a column; at 0 every footage has drifted")]
    share: Share
