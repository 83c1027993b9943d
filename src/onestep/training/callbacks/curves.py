"""The curves and the sample sheets of a run, which the main process writes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from onestep.training.trainer import Callback, Trainer, TrainingFailed

SHEETS = "samples-*.png"  # the sample sheets, in the folder of the curves


class Curves(Callback):
    """dvclive's curves, written anew from the history on a resume or a rollback, so that no point stands twice."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._live: Any = None

    def on_train_start(self, trainer: Trainer) -> None:
        """Write the history so far."""
        if trainer.accelerator.is_main_process:
            self.open(trainer.history)

    def on_update_end(self, trainer: Trainer) -> None:
        """Add the last update's numbers."""
        if self._live:
            self._add(trainer.history[-1])

    def on_rollback(self, trainer: Trainer) -> None:
        """Write the history that is left."""
        if self._live:
            self.open(trainer.history)

    def on_train_end(self, trainer: Trainer) -> None:
        """Close the files."""
        if self._live:
            self._live.end()

    def open(self, history: Sequence[Mapping[str, float]]) -> None:
        """Begin the curves with this history; raises `TrainingFailed` in a repository without a commit."""
        from dvclive import Live
        from scmrepo.exceptions import SCMError

        try:
            self._live = Live(dir=str(self.folder), save_dvc_exp=False, dvcyaml=None, report=None, cache_images=False)
        except SCMError as error:
            raise TrainingFailed(
                f"dvclive cannot name this run ({error}): a git repository needs at least one commit, "
                "so run `git commit` first"
            ) from error
        for numbers in history:
            self._add(numbers)

    def _add(self, numbers: Mapping[str, float]) -> None:
        for name, value in sorted(numbers.items()):  # JSON forgets their order, and a resume must not show
            self._live.log_metric(name, value)
        self._live.next_step()


class SampleSheets(Callback):
    """A sheet of samples of a few fixed captions, every so many updates and at the end."""

    def __init__(self, folder: Path, every: int, decode: Callable[[Tensor], Any], captions: Sequence[str]) -> None:
        """decode: latents `[N, C, T, H, W]` to uint8 clips `[N, T, H, W, 3]`."""
        self.folder, self.every, self.decode, self.captions = folder, every, decode, captions

    def on_update_end(self, trainer: Trainer) -> None:
        """Draw the sheet where it is time."""
        from onestep.media.pictures import contact_sheet

        step = trainer.step
        if trainer.accelerator.is_main_process and (step % self.every == 0 or step == trainer.updates):
            clips = self.decode(trainer.method.preview())
            contact_sheet(list(zip(self.captions, clips, strict=True)), self.folder / f"samples-{step:05d}.png")
