"""What every run keeps of itself, and when: curves, sample sheets and resume points."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import Tensor

from onestep.training.callbacks.curves import SHEETS, Curves, SampleSheets
from onestep.training.callbacks.finite import RequireFinite
from onestep.training.callbacks.resume import Resume, ResumePoint
from onestep.training.trainer import Callback, Trainer


@dataclass(frozen=True)
class Plan:
    """The length of a run, and what is kept of it."""

    stage: str
    request: Mapping[str, Any]  # settings and input fingerprints: what a resume must match
    updates: int
    samples_every: int
    checkpoint_every: int
    curves: Path  # folder of dvclive's curves and the sample sheets
    decode: Callable[[Tensor], Any]  # latents to uint8 clips, for the sample sheet
    captions: Sequence[str] = field(default_factory=list)


def make_trainer(plan: Plan, accelerator: Accelerator, callbacks: Sequence[Callback] = ()) -> Trainer:
    """A trainer that keeps what the plan says; callbacks: that judge the run, `RequireFinite` where there are none."""
    records = [
        Curves(plan.curves),
        SampleSheets(plan.curves, plan.samples_every, plan.decode, plan.captions),
        Resume(ResumePoint(plan.stage, plan.request), plan.checkpoint_every, plan.curves, SHEETS),
    ]
    return Trainer(plan.stage, plan.updates, accelerator, [*(callbacks or [RequireFinite()]), *records])


def finish(plan: Plan) -> None:
    """Forget the resume point: call once the outs are written."""
    ResumePoint(plan.stage, plan.request).clear()
