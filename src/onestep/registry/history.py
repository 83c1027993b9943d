"""Earlier trials, and how the next one is entered: the ledger as a scheduler needs it.

A trial names its clips, its settings and its code before its result is seen, and gets one verdict. Here a trial whose run
died on the way is taken up again instead of spending another share of alpha, since the same inputs and the same noise
give the same result.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onestep.core.paths import CLIPS, PIN, RUNS
from onestep.core.storage import write_json
from onestep.data.schema import INDEX
from onestep.gate.pin import Pin, read_pin
from onestep.gate.settings import GateSettings
from onestep.provenance import ledger
from onestep.provenance.entries import Entry, Promotion, Trial, Verdict, head_of, of_kind, standing_verdict
from onestep.registry.champion import champion, pinned_as
from onestep.registry.trials import next_pin, offer
from onestep.vcs.project import Project

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class JudgedTrial:
    """One trial that has its verdict: the verdict that stands, and the run that recorded it."""

    trial: Trial
    verdict: str
    run: str | None


def judged_trials(entries: Sequence[Entry]) -> list[JudgedTrial]:
    """All trials with a verdict, newest first."""
    runs = {said.comparison: said.run for said in of_kind(entries, Verdict)}
    found = []
    for trial in of_kind(entries, Trial):
        said = standing_verdict(entries, trial.comparison)
        if said is not None:
            found.append(JudgedTrial(trial, said.verdict, runs.get(trial.comparison)))
    return found[::-1]


def waiting(entries: Sequence[Entry]) -> str | None:
    """The run of the last comparison, where its verdict is `promote` and it has not been promoted; else null."""
    last = next(iter(judged_trials(entries)), None)
    if last is None or last.verdict != "promote" or last.run is None:
        return None
    newest = [trial.comparison for trial in of_kind(entries, Trial)][-1]
    promoted = {entry.comparison for entry in of_kind(entries, Promotion)}
    comparison = last.trial.comparison
    return last.run if comparison == newest and comparison not in promoted else None


def enter(project: Project, settings: GateSettings, judge: str | None) -> Pin:
    """Enter the trial that the working copy is about to make, and pin it; or take up the last one, if it is the same.

    Raises `TrialRefused` without clips, `LedgerMoved` where another run was faster.
    """
    entries = ledger.read(project.git)
    trial, pin = next_pin(project, entries, settings, judge)
    last = entries[-1].content if entries else None
    if not isinstance(last, Trial) or last.question != trial.question:
        offered = offer(project, settings, judge)
        assert offered is not None  # it was not asked to look whether anything changed
        return offered
    before = [earlier.data for earlier in of_kind(entries[:-1], Trial)]
    again = {
        "ledger": head_of(entries),
        "comparison": last.comparison,
        "alpha": last.alpha,
        "seed": last.seed,
        "last_data": before[-1] if before else None,
    }
    pin = pin.model_copy(update=again)
    write_json(project.root / PIN, pin.content())
    return pin


def pin_champion(project: Project) -> bool:
    """Pin the model in production, where the file pins another: its merge was delayed. True where it had to be."""
    pinned = pinned_as(champion(project))
    pin = read_pin(project.root / PIN)
    if pin.champion == pinned:
        return False
    write_json(project.root / PIN, pin.model_copy(update={"champion": pinned}).content())
    return True


def clips_of_last_trial(project: Project, found: Sequence[JudgedTrial]) -> "pd.DataFrame | None":
    """The index of the clips that the newest recorded trial learned from, else the champion's; null without either."""
    commits = [commit for each in found if each.run and (commit := project.git.branch(f"{RUNS}{each.run}"))]
    now = champion(project)
    if not commits and now is not None:
        commits = [now.commit]
    return clips_at(project, commits[0]) if commits else None


def clips_at(project: Project, revision: str) -> "pd.DataFrame | None":
    """The index of the clips at a revision, from cache or remote; null where neither has it."""
    import pandas as pd

    path = f"{project.artifact(CLIPS, revision)}/{INDEX}"
    try:
        with project.files_at(revision).open(path, "rb") as file:
            return pd.read_parquet(file)
    except Exception:  # every kind of cache and remote fails in its own way
        return None
