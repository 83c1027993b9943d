"""What the clips must be like before anything trains on them."""

from collections.abc import Iterator

from onestep.core.settings import Settings
from onestep.core.values import Count, CountOrNone, Range, Share
from onestep.data.ingest_settings import IngestSettings


class ValidateSettings(Settings):
    """What the clips must be like before anything trains on them."""

    min_train_clips: Count
    min_test_clips: CountOrNone
    brightness: Range
    movement: Range
    max_quarantine_rate: Share


def clips_pass(ingest: IngestSettings, validate: ValidateSettings) -> Iterator[tuple[str, str]]:
    """Limits of the check that no clip could meet which ingest lets through."""
    for name, least in (("brightness", ingest.min_brightness), ("movement", ingest.min_movement)):
        low, high = getattr(validate, name)
        if high < least:
            yield (
                f"validate.{name}",
                f"no clip could pass: ingest.min_{name} = {least:g} is above its upper end; "
                f"the nearest legal value is [{low:g}, {least:g}]",
            )
    if ingest.frames == 1 and validate.movement[0] > 0:
        yield (
            "validate.movement",
            f"no clip could pass: clips of one frame have no movement; the nearest legal value is [0, {validate.movement[1]:g}]",
        )
