from pathlib import Path

import torch

from onestep.core.machine import this_machine
from onestep.core.storage import read_json
from onestep.inference.latency import latency, measure
from onestep.inference.latency_settings import LatencySettings
from onestep.inference.settings import SamplingSettings
from tests.tiny import TOKENS, save_pipeline


def test_functions_are_timed_in_turn_after_one_untimed_round():
    order = []
    found = measure({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=3)
    assert order == ["a", "b"] * 4
    assert set(found) == {"a", "b"}


def test_the_median_lies_between_the_quartiles_and_slow_is_slower():
    found = measure({"nothing": lambda: None, "work": lambda: sum(range(200_000))}, repeats=5)
    for times in found.values():
        assert 0 <= times["low"] <= times["value"] <= times["high"]
    assert found["work"]["value"] > found["nothing"]["value"]


def test_timings_carry_the_machine_that_they_were_measured_on(tmp_path: Path) -> None:
    base, out, machine = save_pipeline(tmp_path / "base"), tmp_path / "latency.json", tmp_path / "own" / "machine.json"
    settings = SamplingSettings(prompts=4, teacher=((2, 1.0),), batch=1)
    latency(base, base, out, machine, TOKENS, settings, LatencySettings(repeats=1, batch=1))
    found = read_json(out)
    assert set(found["models"]) == {"onestep", "teacher-2"}
    assert found["machine"] == read_json(machine) == this_machine(torch.get_num_threads())
