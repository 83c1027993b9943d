"""The settings of footage to clips."""

from collections.abc import Iterator
from typing import Annotated, Literal

from onestep.core.settings import Settings
from onestep.core.values import Count, FramesPerSecond, Share, within
from onestep.models.sizes import Frames, Side


class LimitSettings(Settings):
    """What one file of footage may take; a file that wants more is quarantined, and the limit is named."""

    pixels: Annotated[int, within(4096, 1 << 32, "a frame that no decoder holds")]
    frames: Annotated[int, within(1, 1_000_000_000, "a year of frames")]
    seconds: Annotated[float, within(0.1, 10_000_000, "four months of film")]
    memory_gb: Annotated[float, within(2, 4096, "below 2 GB the decoder's own libraries do not load")]
    deadline_s: Annotated[float, within(1, 1_000_000, "eleven days for one file")]


class IngestSettings(Settings):
    """Footage to clips."""

    fps: FramesPerSecond
    frames: Frames
    height: Side
    width: Side
    fit: Literal["crop", "pad"]
    clips_per_shot: Count
    cut_threshold: Annotated[float, within(0.01, 255, "a difference of 8-bit pixels: every frame cuts, or none")]
    min_brightness: Share
    min_movement: Share
    duplicate_distance: Annotated[int, within(0, 64, "bits of a 64-bit hash")]
    crf: Annotated[int, within(0, 51, "what x264 takes")]
    dev_share: Share
    test_share: Share
    shard_clips: Count
    workers: Annotated[int, within(0, 1024, "0 is one per core, and no machine has more cores")]
    limits: LimitSettings

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Clips that could not be: nothing left to train on, one frame that moves."""
        if self.dev_share + self.test_share >= 1.0:
            yield (
                "dev_share",
                f"dev_share + test_share = {self.dev_share + self.test_share:g} leave no clips to train on: "
                "keep the sum below 1",
            )
        if self.limits.seconds < self.frames / self.fps:
            yield (
                "limits.seconds",
                f"a clip lasts longer than that; the nearest legal value is {self.frames / self.fps:.3f}",
            )
        if self.frames == 1 and self.min_movement > 0:
            yield "min_movement", "clips of one frame have no movement; the nearest legal value is 0"
