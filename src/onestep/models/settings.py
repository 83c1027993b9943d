"""Where a folder of weights comes from."""

from onestep.core.settings import Settings
from onestep.core.values import Sha256, Url


class FetchSettings(Settings):
    """A folder of weights by URL, pinned by its fingerprint when `sha256` is set."""

    url: Url
    sha256: Sha256 | None
