"""The loop that every training stage shares.

A method says what one update is; the trainer runs the updates and calls callbacks. Evaluation, selection, the collapse
guard, curves, sample sheets and resume are callbacks (`training/callbacks/`), and the trainer knows none of them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from accelerate import Accelerator
from torch import Tensor

from onestep.training.batches import Batches
from onestep.training.measurement import Evaluation
from onestep.training.state import Groups, Stateful, load_state, state_of


class TrainingFailed(RuntimeError):
    """Training cannot go on; the message says at which update and why."""


class Method(Stateful, Protocol):
    """What a training stage does in one update. Its `snapshots` are named weights put aside for later."""

    lr_scale: float  # factor on every learning rate; the collapse guard lowers it

    def update(self, step: int, batches: Batches) -> dict[str, float]:
        """One optimiser step (all its micro-batches); returns the numbers to plot."""
        ...

    def preview(self) -> Tensor:
        """Latents `[N, C, T, H, W]` of a few fixed captions from fixed noise, for the sample sheet."""
        ...


class Callback:
    """What is done around the updates; a callback overrides the hooks that it needs."""

    def setup(self, trainer: "Trainer") -> None:
        """Before everything else: a resume restores the run here."""

    def on_train_start(self, trainer: "Trainer") -> None:
        """Before the first update of this process."""

    def on_update_end(self, trainer: "Trainer") -> None:
        """After an update. Where a callback rolls it back or stops the run, the callbacks after it are not called."""

    def on_evaluate_end(self, trainer: "Trainer", evaluations: Sequence[Evaluation]) -> None:
        """After a callback measured the method's samples (`Trainer.evaluated`)."""

    def on_rollback(self, trainer: "Trainer") -> None:
        """After the run went back to an earlier update."""

    def on_train_end(self, trainer: "Trainer") -> None:
        """After the last update."""

    def state(self) -> tuple[dict[str, Any], Groups]:
        """What an exact resume needs of the callback: JSON, and groups of tensors."""
        return {}, {}

    def restore(self, progress: dict[str, Any], groups: Groups) -> None:
        """The inverse of `state`."""


class Trainer:
    """One training run: its progress so far, and what callbacks may do to it."""

    def __init__(self, name: str, updates: int, accelerator: Accelerator, callbacks: Sequence[Callback]) -> None:
        """name: of the stage, for messages; callbacks: in the order in which they are called."""
        self.name, self.updates, self.accelerator, self.callbacks = name, updates, accelerator, callbacks
        self.method: Method
        self.history: list[dict[str, float]] = []  # the numbers of every update
        self.stopped = False

    @property
    def step(self) -> int:
        """Updates made."""
        return len(self.history)

    def fit(self, method: Method, batches: Batches) -> None:
        """Run the updates; raises what a callback raises (`TrainingFailed`, `ResumeRefused`)."""
        self.method = method
        self._call(lambda callback: callback.setup(self))
        self._call(lambda callback: callback.on_train_start(self))
        with self._progress_bar() as show:
            while self.step < self.updates and not self.stopped:
                self.history.append(method.update(self.step, batches))
                self._end_update()
                show(self.step)
                self.accelerator.wait_for_everyone()
        self._call(lambda callback: callback.on_train_end(self))

    def evaluated(self, evaluations: Sequence[Evaluation]) -> None:
        """Hand measurements of the method's samples to all callbacks."""
        self._call(lambda callback: callback.on_evaluate_end(self, evaluations))

    def roll_back(self, step: int, groups: Groups) -> None:
        """Go back to the method's state after update `step`, as `state_of` gave it."""
        load_state(self.method, groups)
        del self.history[step:]
        self._call(lambda callback: callback.on_rollback(self))

    def stop(self) -> None:
        """Make no further update."""
        self.stopped = True

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Everything that an exact resume needs: JSON, and groups of tensors; the callbacks' under their class names."""
        progress: dict[str, Any] = {"history": self.history, "lr_scale": self.method.lr_scale, "callbacks": {}}
        groups: dict[str, Any] = state_of(self.method)
        for callback in self.callbacks:
            name = type(callback).__name__
            progress["callbacks"][name], own = callback.state()
            groups |= {f"{name}.{group}": tensors for group, tensors in own.items()}
        return progress, groups

    def restore(self, progress: dict[str, Any], groups: Groups) -> None:
        """The inverse of `state`."""
        load_state(self.method, groups)
        self.history, self.method.lr_scale = list(progress["history"]), progress["lr_scale"]
        for callback in self.callbacks:
            name = type(callback).__name__
            own = {key.removeprefix(f"{name}."): group for key, group in groups.items() if key.startswith(f"{name}.")}
            callback.restore(progress["callbacks"][name], own)

    def _end_update(self) -> None:
        step = self.step
        for callback in self.callbacks:
            callback.on_update_end(self)
            if self.stopped or self.step < step:
                return

    def _call(self, hook: Callable[[Callback], None]) -> None:
        for callback in self.callbacks:
            hook(callback)

    @contextmanager
    def _progress_bar(self) -> Iterator[Callable[[int], None]]:
        """The progress bar of the main process: call it with the updates made."""
        from rich.progress import Progress

        with Progress(disable=not self.accelerator.is_main_process) as bar:
            task = bar.add_task(self.name, total=self.updates, completed=self.step)
            yield lambda updates: bar.update(task, completed=updates)
