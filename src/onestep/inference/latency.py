"""How long things take, measured in turn, so that a busy moment of the machine hits all of them alike.

A time holds for the machine that it was measured on. So the stage writes a second file that names the machine and never
leaves it: git ignores it and DVC does not cache it. Another machine lacks that file, or has one of its own, and `dvc repro`
measures there anew; on the same machine nothing has changed.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch

from onestep.core.machine import this_machine
from onestep.core.storage import write_json
from onestep.inference.latency_settings import LatencySettings
from onestep.inference.rows import CANDIDATE
from onestep.inference.sampler import Setting, teacher_settings
from onestep.inference.settings import SamplingSettings
from onestep.models.pipeline import VideoPipeline, load_pipeline


def measure(functions: Mapping[str, Callable[[], None]], repeats: int) -> dict[str, dict[str, float]]:
    """Wall-clock seconds of each function: `{name: {"value", "low", "high"}}`, the median and the quartiles.

    The order is A B C A B C ..., after one untimed round that pays for compilation and cold caches. A function that
    starts work on an accelerator must wait for it to end.
    """
    for function in functions.values():
        function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    found = {name: np.quantile(times, [0.25, 0.5, 0.75]) for name, times in seconds.items()}
    return {
        name: {"value": float(middle), "low": float(low), "high": float(high)}
        for name, (low, middle, high) in found.items()
    }


def latency(
    student: Path,
    base: Path,
    out: Path,
    machine: Path,
    tokens: int,
    samples: SamplingSettings,
    settings: LatencySettings,
) -> None:
    """Time the student and every teacher setting in turn; write `latency.json` and the file that names the machine.

    `{"models": {NAME: {"denoiser_s", "end_to_end_s"}}, "batch", "device", "machine"}`, times as `measure` gives them. The
    sizes of the clips come from the student's own record.
    """
    pipelines = {"student": load_pipeline(student), "teacher": load_pipeline(base)}
    record = pipelines["student"].record
    size = (int(record["frames"]), int(record["height"]), int(record["width"]))
    denoiser: dict[str, Callable[[], None]] = {}
    whole: dict[str, Callable[[], None]] = {}
    ways = [
        ("student", Setting(CANDIDATE, 1, 1.0)),
        *(("teacher", way) for way in teacher_settings(samples.with_seed(0))),
    ]
    for role, way in ways:
        run = _Run(pipelines[role], way, size, tokens, settings.batch)
        denoiser[way.name], whole[way.name] = run.denoise, run.whole
    times = {"denoiser_s": measure(denoiser, settings.repeats), "end_to_end_s": measure(whole, settings.repeats)}
    device = pipelines["student"].device
    measured_on = this_machine(torch.get_num_threads())
    content = {
        "models": {way.name: {key: table[way.name] for key, table in times.items()} for _, way in ways},
        "batch": settings.batch,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "machine": measured_on,
    }
    write_json(out, content)
    write_json(machine, measured_on)


class _Run:
    """One setting of one pipeline as two things to time: the denoiser alone, and text to pixels."""

    def __init__(
        self, pipeline: VideoPipeline, way: Setting, size: tuple[int, int, int], tokens: int, batch: int
    ) -> None:
        pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
        self.pipeline, self.way = pipeline, way
        self.encode = partial(pipeline.encode_text, ["a clip"] * batch, tokens)
        self.text, self.empty = self.encode(), pipeline.encode_text([""], tokens)
        self.noise = torch.randn((batch, *pipeline.latent_shape(*size))).to(pipeline.device)

    def denoise(self) -> None:
        self._latents(self.text)
        self._wait()

    def whole(self) -> None:
        self.pipeline.decode_video(self._latents(self.encode()))
        self._wait()

    def _latents(self, text: torch.Tensor) -> torch.Tensor:
        return self.pipeline.denoise(self.noise, text, self.way.steps, self.way.guidance, self.empty)

    def _wait(self) -> None:
        if self.pipeline.device.type == "cuda":
            torch.cuda.synchronize()
