"""The trainer runs updates and calls callbacks; it knows none of them."""

import ast
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from onestep.training import callbacks, trainer
from onestep.training.batches import Batches
from onestep.training.state import copied, state_of
from onestep.training.trainer import Callback, Trainer


class Counting:
    """A method whose one weight is the number of its updates."""

    def __init__(self) -> None:
        self.modules = {"one": torch.nn.Linear(1, 1, bias=False)}
        torch.nn.init.zeros_(self.modules["one"].weight)
        self.optimizers, self.emas, self.snapshots, self.lr_scale = {}, {}, {}, 1.0

    def update(self, step: int, batches: Batches) -> dict[str, float]:
        with torch.no_grad():
            self.modules["one"].weight += 1
        return {"step": float(step)}

    def preview(self) -> torch.Tensor:
        return torch.zeros(1)


class Noting(Callback):
    """Notes the hooks that are called."""

    def __init__(self) -> None:
        self.called: list[tuple[str, int]] = []

    def setup(self, trainer: Trainer) -> None:
        self.called.append(("setup", trainer.step))

    def on_train_start(self, trainer: Trainer) -> None:
        self.called.append(("start", trainer.step))

    def on_update_end(self, trainer: Trainer) -> None:
        self.called.append(("update", trainer.step))

    def on_rollback(self, trainer: Trainer) -> None:
        self.called.append(("rollback", trainer.step))

    def on_train_end(self, trainer: Trainer) -> None:
        self.called.append(("end", trainer.step))


class RollBackOnce(Callback):
    """Goes back from update 3 to update 1, once."""

    done = False

    def on_update_end(self, trainer: Trainer) -> None:
        if trainer.step == 1:
            self.good = copied(state_of(trainer.method))
        if trainer.step == 3 and not self.done:
            self.done = True
            trainer.roll_back(1, self.good)


class StopAt(Callback):
    """Stops the run after an update."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_update_end(self, trainer: Trainer) -> None:
        if trainer.step == self.step:
            trainer.stop()


def fit(*used: Callback, updates: int = 3) -> tuple[Trainer, Counting]:
    method = Counting()
    run = Trainer("stage", updates, Accelerator(cpu=True), used)
    run.fit(method, None)
    return run, method


def test_callbacks_are_called_around_every_update() -> None:
    noting = Noting()
    fit(noting, updates=2)
    assert noting.called == [("setup", 0), ("start", 0), ("update", 1), ("update", 2), ("end", 2)]


def test_an_update_that_is_rolled_back_is_not_shown_to_later_callbacks_and_made_again() -> None:
    noting = Noting()
    run, method = fit(RollBackOnce(), noting)
    assert [call for call in noting.called if call[0] in ("update", "rollback")] == [
        ("update", 1), ("update", 2), ("rollback", 1), ("update", 2), ("update", 3),
    ]  # fmt: skip
    assert method.modules["one"].weight.item() == 3
    assert [numbers["step"] for numbers in run.history] == [0, 1, 2]


def test_a_run_that_is_stopped_makes_no_further_update() -> None:
    noting = Noting()
    _, method = fit(StopAt(2), noting)
    assert noting.called[-2:] == [("update", 1), ("end", 2)]
    assert method.modules["one"].weight.item() == 2


def test_the_state_of_a_run_holds_that_of_its_callbacks_under_their_names() -> None:
    class Stateful(Callback):
        kept = 0

        def state(self):
            return {"kept": self.kept}, {"group": {"tensor": torch.tensor(self.kept)}}

        def restore(self, progress, groups):
            self.kept = progress["kept"] + int(groups["group"]["tensor"])

    one = Stateful()
    one.kept = 3
    run, _ = fit(one)
    other, method = fit(Stateful(), updates=0)
    other.restore(*run.state())
    assert other.callbacks[0].kept == 6
    assert other.step == 3
    assert method.modules["one"].weight.item() == 3


@pytest.mark.parametrize("module", sorted(path.stem for path in Path(callbacks.__path__[0]).glob("[!_]*.py")))
def test_the_trainer_names_no_callback(module: str) -> None:
    tree = ast.parse(Path(trainer.__file__).read_text())
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not any("callbacks" in name for name in imported)
    own = ast.parse((Path(callbacks.__path__[0]) / f"{module}.py").read_text())
    names = {node.name for node in ast.walk(own) if isinstance(node, ast.ClassDef)} - {"Sampled"}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not names & used
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Call) and "isinstance" in ast.dump(node.func)]
