from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from onestep.core.storage import read_json, sha256_folder
from onestep.training.adversarial import EVENTS, train_adversarial
from onestep.training.adversarial_settings import AdversarialSettings, GuardSettings
from onestep.training.trainer import TrainingFailed
from onestep.training.watch import Generate, Measure, NothingToSelectBy, Seen, Watch
from tests.training.conftest import ADVERSARIAL, GUARD
from tests.training.test_resume import WEIGHTS, Killed, interrupted

STRICT = GuardSettings(window=2, one_sided=0.1, gap=5.0, floor=0.5, rollbacks=1, rate_factor=0.5)


def train(
    root: Path, name: str, base: Path, latents: Path, settings: AdversarialSettings, measure: Measure | None
) -> Path:
    out = root / name
    watch = (lambda *_: measure) if measure else None
    train_adversarial(latents, base, base, out, root / f"{name}-d", root / f"curves-{name}", settings, watch)
    return out


def scripted(*looks: dict[str, float]) -> Measure:
    """Metrics by turn, each for every average, whatever the samples are; the first is of the start, where all are one."""
    waiting = [looks[0], *(look for look in looks[1:] for _ in ADVERSARIAL.ema)] if looks else []
    return lambda generate: Seen(waiting.pop(0))


def by_samples() -> Measure:
    def measure(generate) -> Seen:
        noise = torch.randn((2, 4, 2, 4, 4), generator=torch.Generator().manual_seed(0))
        states = torch.randn((2, 16, 16), generator=torch.Generator().manual_seed(1))
        score = generate(noise, states).square().mean().item()
        return Seen({"score": score}, {"score": np.linspace(0.9, 1.1, 5) * score})

    return measure


def record(root: Path, name: str) -> dict:
    return read_json(root / f"curves-{name}" / EVENTS)


def test_the_best_look_is_saved_and_not_the_last(base: Path, latents: Path, tmp_path: Path) -> None:
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


class Alone:
    """A method with one average, whose samples nobody looks at."""

    rate = 1.0

    def generators(self) -> dict[str, Generate]:
        return {"ema": lambda noise, text: noise}


@pytest.mark.parametrize(("certainty", "kept"), [(0.5, [0, 1, 3]), (0.75, [0, 3]), (1.0, [0])])
def test_what_is_better_by_chance_alone_does_not_take_the_bests_place(certainty: float, kept: list[int]) -> None:
    looks = [
        Seen({"score": 1.0}, {"score": np.array([1.0, 1.0, 1.0, 1.0])}),
        Seen({"score": 0.9}, {"score": np.array([0.5, 0.7, 1.1, 1.3])}),  # better in half of the resamples
        Seen({"score": 1.1}, {"score": np.array([1.1, 1.1, 1.1, 1.1])}),
        Seen({"score": 0.8}, {"score": np.array([0.4, 0.6, 0.8, 1.4])}),  # in three of four
    ]
    watch = Watch(lambda generate: looks[len(watch.looks)], 1, {"score": 1.0}, certainty, STRICT)
    assert [step for step in range(len(looks)) if watch.look(step, Alone())[0]] == kept
    assert watch.best is not None and watch.best["step"] == kept[-1]


def test_without_certainty_the_last_look_is_kept_unless_it_is_in_trouble() -> None:
    looks = [
        Seen({"score": 1.0, "motion": 1.0}),
        Seen({"score": 2.0, "motion": 1.0}),
        Seen({"score": 0.0, "motion": 0.1}),
    ]
    watch = Watch(lambda generate: looks[len(watch.looks)], 1, {"score": 1.0}, 0.0, STRICT)
    assert [watch.look(step, Alone())[0] for step in range(len(looks))] == [True, True, False]


def test_what_the_samples_do_not_have_is_said_and_nothing_at_all_is_refused(
    base: Path, latents: Path, tmp_path: Path, capsys
) -> None:
    settings = ADVERSARIAL.model_copy(update={"select": {"score": 1.0, "fidelity": -1.0}})
    train(tmp_path, "some", base, latents, settings, by_samples())
    assert record(tmp_path, "some")["unmeasured"] == ["fidelity"]
    assert "looks go without fidelity" in capsys.readouterr().out
    settings = ADVERSARIAL.model_copy(update={"select": {"fidelity": -1.0}})
    with pytest.raises(NothingToSelectBy, match="none of fidelity can be measured on this footage; what can: score"):
        train(tmp_path, "none", base, latents, settings, by_samples())


def test_no_look_is_spent_on_updates_that_leave_the_generator_alone(base: Path, latents: Path, tmp_path: Path) -> None:
    settings = ADVERSARIAL.model_copy(update={"discriminator_warmup": 3})
    train(tmp_path, "out", base, latents, settings, by_samples())
    looks = record(tmp_path, "out")["looks"]
    assert sorted({look["step"] for look in looks}) == [0, 4, 6]
    assert looks[0]["score"] not in {look["score"] for look in looks[1:]}


def test_a_watched_run_makes_the_same_updates_as_an_unwatched_one(base: Path, latents: Path, tmp_path: Path) -> None:
    def noisy(generate) -> Seen:
        torch.rand(7)
        return by_samples()(generate)

    train(tmp_path, "watched", base, latents, ADVERSARIAL, noisy)
    train(tmp_path, "alone", base, latents, ADVERSARIAL, None)
    assert sha256_folder(tmp_path / "watched-d") == sha256_folder(tmp_path / "alone-d")


def test_a_collapse_goes_back_to_the_last_good_state_at_a_lower_rate(base: Path, latents: Path, tmp_path: Path) -> None:
    settings = ADVERSARIAL.model_copy(update={"guard": STRICT.model_copy(update={"one_sided": 0.0, "gap": 1e6})})
    start, good, collapsed = {"score": 9.0}, {"score": 1.0, "diversity": 0.9}, {"score": 0.5, "diversity": 0.2}
    looks = scripted(start, good, collapsed, {"score": 1.0}, {"score": 2.0})
    train(tmp_path, "out", base, latents, settings, looks)
    (event,) = record(tmp_path, "out")["events"]
    assert event["step"] == 4
    assert event["action"] == "rolled back to update 2"
    assert event["rate"] == 0.5
    assert "diversity 0.20" in event["reason"]


def test_a_run_that_keeps_collapsing_stops_with_the_reason_and_its_best(
    base: Path, latents: Path, tmp_path: Path
) -> None:
    settings = ADVERSARIAL.model_copy(update={"guard": STRICT.model_copy(update={"one_sided": 0.0, "gap": 1e6})})
    looks = scripted({"score": 9.0}, {"score": 1.0}, *[{"score": 2.0, "motion": 0.1}] * 2)
    out = train(tmp_path, "out", base, latents, settings, looks)
    events = record(tmp_path, "out")["events"]
    assert [event["action"] for event in events] == ["rolled back to update 2", "stopped"]
    assert record(tmp_path, "out")["best"]["step"] == 2
    assert (out / WEIGHTS).is_file()


def test_without_a_watch_a_number_that_is_not_finite_ends_the_run(base: Path, latents: Path, tmp_path: Path) -> None:
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
    found = Watch(scripted(), 1, {}, 0.95, STRICT).trouble(losses)
    assert (found is None) if reason is None else (reason in found)


def test_resumed_watched_run_equals_uninterrupted_run(base: Path, latents: Path, tmp_path: Path, monkeypatch) -> None:
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

        def look(generate) -> Seen:
            seen.append(1)
            collapsed = 3 < len(seen) <= 5 and first
            return Seen(by_samples()(generate).metrics | {"diversity": 0.1 if collapsed else 1.0})

        return look

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
