from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from onestep.core.storage import read_json, sha256_folder
from onestep.training.adversarial import RECORD, train_adversarial
from onestep.training.adversarial_settings import AdversarialSettings, GuardSettings
from onestep.training.callbacks.best_checkpoint import BestCheckpoint, NothingToSelectBy
from onestep.training.callbacks.collapse_guard import collapse
from onestep.training.measurement import Evaluation, Measure, Measured
from onestep.training.trainer import TrainingFailed
from tests.training.conftest import ADVERSARIAL, GUARD
from tests.training.test_resume import WEIGHTS, Killed, interrupted

STRICT = GuardSettings(window=2, one_sided=0.1, gap=5.0, floor=0.5, rollbacks=1, lr_factor=0.5)


def train(
    root: Path, name: str, base: Path, latents: Path, settings: AdversarialSettings, measure: Measure | None
) -> Path:
    out = root / name
    make_measure = (lambda *_: measure) if measure else None
    train_adversarial(latents, base, base, out, root / f"{name}-d", root / f"curves-{name}", settings, make_measure)
    return out


def scripted(*metrics: dict[str, float]) -> Measure:
    """Metrics by turn, each for every EMA, whatever the samples are; the first is of the start, where all are one."""
    waiting = [metrics[0], *(each for each in metrics[1:] for _ in ADVERSARIAL.ema)] if metrics else []
    return lambda sampler: Measured(waiting.pop(0))


def by_samples() -> Measure:
    def measure(sampler) -> Measured:
        noise = torch.randn((2, 4, 2, 4, 4), generator=torch.Generator().manual_seed(0))
        states = torch.randn((2, 16, 16), generator=torch.Generator().manual_seed(1))
        score = sampler(noise, states).square().mean().item()
        return Measured({"score": score}, {"score": np.linspace(0.9, 1.1, 5) * score})

    return measure


def record(root: Path, name: str) -> dict:
    return read_json(root / f"curves-{name}" / RECORD)


def test_the_best_evaluation_is_saved_and_not_the_last(base: Path, latents: Path, tmp_path: Path) -> None:
    best_first = scripted({"score": 9.0}, {"score": 1.0}, {"score": 2.0}, {"score": 3.0})
    first = train(tmp_path, "first", base, latents, ADVERSARIAL, best_first)
    assert record(tmp_path, "first")["best"]["step"] == 2
    best_last = scripted({"score": 9.0}, {"score": 3.0}, {"score": 2.0}, {"score": 1.0})
    last = train(tmp_path, "last", base, latents, ADVERSARIAL, best_last)
    assert record(tmp_path, "last")["best"]["step"] == 6
    weights = [load_file(out / WEIGHTS) for out in (first, last)]
    assert any((weights[0][key] != weights[1][key]).any() for key in weights[0])


def test_a_run_that_only_gets_worse_saves_what_it_started_from(base: Path, latents: Path, tmp_path: Path) -> None:
    worse = scripted({"score": 1.0}, {"score": 2.0}, {"score": 3.0}, {"score": 4.0})
    out = train(tmp_path, "out", base, latents, ADVERSARIAL, worse)
    assert record(tmp_path, "out")["best"]["step"] == 0
    started, saved = (load_file(folder / WEIGHTS) for folder in (base, out))
    assert all(torch.equal(started[key], saved[key]) for key in started)


def considered(best: BestCheckpoint, *measured: Measured) -> list[bool]:
    """Of each evaluation of one EMA in turn, whether it became the best."""
    return [best.consider(Evaluation(step, "ema", each)) for step, each in enumerate(measured)]


@pytest.mark.parametrize(("certainty", "kept"), [(0.5, [0, 1, 3]), (0.75, [0, 3]), (1.0, [0])])
def test_what_is_better_by_chance_alone_does_not_take_the_bests_place(certainty: float, kept: list[int]) -> None:
    best = BestCheckpoint({"score": 1.0}, certainty, floor=0.5)
    better = considered(
        best,
        Measured({"score": 1.0}, {"score": np.array([1.0, 1.0, 1.0, 1.0])}),
        Measured({"score": 0.9}, {"score": np.array([0.5, 0.7, 1.1, 1.3])}),  # better in half of the resamples
        Measured({"score": 1.1}, {"score": np.array([1.1, 1.1, 1.1, 1.1])}),
        Measured({"score": 0.8}, {"score": np.array([0.4, 0.6, 0.8, 1.4])}),  # in three of four
    )
    assert [step for step, chosen in enumerate(better) if chosen] == kept
    assert best.best is not None and best.best["step"] == kept[-1]


def test_without_certainty_the_last_evaluation_is_kept_unless_it_is_below_the_floor() -> None:
    better = considered(
        BestCheckpoint({"score": 1.0}, 0.0, floor=0.5),
        Measured({"score": 1.0, "motion": 1.0}),
        Measured({"score": 2.0, "motion": 1.0}),
        Measured({"score": 0.0, "motion": 0.1}),
    )
    assert better == [True, True, False]


def test_what_the_samples_do_not_have_is_said_and_nothing_at_all_is_refused(
    base: Path, latents: Path, tmp_path: Path, capsys
) -> None:
    settings = ADVERSARIAL.model_copy(update={"select": {"score": 1.0, "fidelity": -1.0}})
    train(tmp_path, "some", base, latents, settings, by_samples())
    assert record(tmp_path, "some")["unmeasured"] == ["fidelity"]
    assert "evaluations go without fidelity" in capsys.readouterr().out
    settings = ADVERSARIAL.model_copy(update={"select": {"fidelity": -1.0}})
    with pytest.raises(NothingToSelectBy, match="none of fidelity can be measured on this footage; what can: score"):
        train(tmp_path, "none", base, latents, settings, by_samples())


def test_no_evaluation_is_spent_on_updates_that_leave_the_generator_alone(
    base: Path, latents: Path, tmp_path: Path
) -> None:
    settings = ADVERSARIAL.model_copy(update={"discriminator_warmup": 3})
    train(tmp_path, "out", base, latents, settings, by_samples())
    first, *later = record(tmp_path, "out")["evaluations"]
    assert sorted({each["step"] for each in (first, *later)}) == [0, 4, 6]
    assert first["score"] not in {each["score"] for each in later}


def test_an_evaluated_run_makes_the_same_updates_as_one_that_is_not(base: Path, latents: Path, tmp_path: Path) -> None:
    def noisy(sampler) -> Measured:
        torch.rand(7)
        return by_samples()(sampler)

    train(tmp_path, "evaluated", base, latents, ADVERSARIAL, noisy)
    train(tmp_path, "alone", base, latents, ADVERSARIAL, None)
    assert sha256_folder(tmp_path / "evaluated-d") == sha256_folder(tmp_path / "alone-d")


def test_a_collapse_goes_back_to_the_last_good_state_at_a_lower_rate(base: Path, latents: Path, tmp_path: Path) -> None:
    settings = ADVERSARIAL.model_copy(update={"guard": STRICT.model_copy(update={"one_sided": 0.0, "gap": 1e6})})
    start, good, collapsed = {"score": 9.0}, {"score": 1.0, "diversity": 0.9}, {"score": 0.5, "diversity": 0.2}
    measure = scripted(start, good, collapsed, {"score": 1.0}, {"score": 2.0})
    train(tmp_path, "out", base, latents, settings, measure)
    (event,) = record(tmp_path, "out")["events"]
    assert event["step"] == 4
    assert event["action"] == "rolled back to update 2"
    assert event["lr_scale"] == 0.5
    assert "diversity 0.20" in event["reason"]


def test_a_run_that_keeps_collapsing_stops_with_the_reason_and_its_best(
    base: Path, latents: Path, tmp_path: Path
) -> None:
    settings = ADVERSARIAL.model_copy(update={"guard": STRICT.model_copy(update={"one_sided": 0.0, "gap": 1e6})})
    measure = scripted({"score": 9.0}, {"score": 1.0}, *[{"score": 2.0, "motion": 0.1}] * 2)
    out = train(tmp_path, "out", base, latents, settings, measure)
    events = record(tmp_path, "out")["events"]
    assert [event["action"] for event in events] == ["rolled back to update 2", "stopped"]
    assert record(tmp_path, "out")["best"]["step"] == 2
    assert (out / WEIGHTS).is_file()


def test_without_a_guard_a_number_that_is_not_finite_ends_the_run(base: Path, latents: Path, tmp_path: Path) -> None:
    settings = ADVERSARIAL.model_copy(update={"generator_lr": 1e30, "discriminator_lr": 1e30})
    with pytest.raises(TrainingFailed, match="not finite at update"):
        train(tmp_path, "out", base, latents, settings, None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        ([{"discriminator_loss": 0.05, "logit_gap": 1.0}] * 4, "one-sided"),
        ([{"discriminator_loss": 0.5, "logit_gap": float(gap)} for gap in (4, 5, 6, 7)], "gap 6.5 is above 5"),
        ([{"discriminator_loss": float("nan"), "logit_gap": 1.0}], "discriminator_loss is not finite"),
        ([{"discriminator_loss": 0.5, "logit_gap": 7.0}] * 4, None),
        ([{"discriminator_loss": 0.05, "logit_gap": 1.0}] * 3, None),
    ],
)
def test_the_losses_that_count_as_a_collapse(losses: list[dict[str, float]], reason: str | None) -> None:
    found = collapse(losses, 0, STRICT)
    assert (found is None) if reason is None else (reason in found)


def test_resumed_evaluated_run_equals_uninterrupted_run(base: Path, latents: Path, tmp_path: Path, monkeypatch) -> None:
    settings = ADVERSARIAL.model_copy(update={"updates": 8, "end_game": 3, "checkpoint_every": 3})
    train(tmp_path, "whole", base, latents, settings, by_samples())
    for at in (4, 7):
        with monkeypatch.context() as patch:
            interrupted(patch, "onestep.training.adversarial.Adversarial", at)
            with pytest.raises(Killed):
                train(tmp_path, "resumed", base, latents, settings, by_samples())
    train(tmp_path, "resumed", base, latents, settings, by_samples())
    for name in ("{}", "{}-d", "curves-{}"):
        assert sha256_folder(tmp_path / name.format("whole")) == sha256_folder(tmp_path / name.format("resumed")), name


def test_a_run_resumed_after_a_rollback_equals_uninterrupted_run(
    base: Path, latents: Path, tmp_path: Path, monkeypatch
) -> None:
    guard = GUARD.model_copy(update={"floor": 0.5})
    settings = ADVERSARIAL.model_copy(update={"updates": 8, "guard": guard, "checkpoint_every": 1})

    def measure() -> Measure:
        seen: list[int] = []

        def measured(sampler) -> Measured:
            seen.append(1)
            collapsed = 3 < len(seen) <= 5 and first
            return Measured(by_samples()(sampler).metrics | {"diversity": 0.1 if collapsed else 1.0})

        return measured

    first = True
    train(tmp_path, "whole", base, latents, settings, measure())
    with monkeypatch.context() as patch:
        interrupted(patch, "onestep.training.adversarial.Adversarial", 5)
        with pytest.raises(Killed):
            train(tmp_path, "resumed", base, latents, settings, measure())
    first = False
    train(tmp_path, "resumed", base, latents, settings, measure())
    assert record(tmp_path, "whole") == record(tmp_path, "resumed")
    assert sha256_folder(tmp_path / "whole") == sha256_folder(tmp_path / "resumed")
