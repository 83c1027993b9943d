"""The settings of clips to latents."""

from onestep.core.settings import Settings
from onestep.core.values import Batch, Count, TextTokens


class EncodeSettings(Settings):
    """Clips to latents."""

    batch: Batch
    text_tokens: TextTokens
    shard_latents: Count
