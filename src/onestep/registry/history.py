"""What was tried before, and how the next try is entered: the ledger's attempts, as a scheduler needs them.

The ledger is the truth: an attempt names its clips, its settings and its code before its result is seen, and gets one
verdict. Here an attempt whose run died on the way is taken up again instead of spending another share of alpha, since the
same inputs and the same noise give the same result.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onestep.core.storage import write_json
from onestep.gate.pin import Pin, PinnedChampion, read_pin
from onestep.gate.settings import GateSettings
from onestep.provenance import ledger
from onestep.provenance.ledger import Attempt, Entry, Promotion, Verdict, of_kind, standing_verdict
from onestep.registry.champion import CLIPS, INDEX, champion
from onestep.registry.trials import PIN, next_pin, offer
from onestep.vcs.git import Repository
from onestep.vcs.graph import artifact_path

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Tried:
    """One attempt that has its verdict: what it was made of, the verdict that stands, and the run that recorded it."""

    comparison: int
    verdict: str
    run: str | None
    data: str | None
    params: str
    code: str


def tried(entries: Sequence[Entry]) -> list[Tried]:
    """All attempts with a verdict, newest first."""
    runs = {said.comparison: said.run for said in of_kind(entries, Verdict)}
    found = []
    for attempt in of_kind(entries, Attempt):
        said = standing_verdict(entries, attempt.comparison)
        if said is not None:
            run = runs.get(attempt.comparison)
            made_of = (attempt.data, attempt.params, attempt.code)
            found.append(Tried(attempt.comparison, said.verdict, run, *made_of))
    return found[::-1]


def waiting(entries: Sequence[Entry]) -> str | None:
    """The run of the last comparison, where its verdict is `promote` and it has not been promoted; else null."""
    last = next(iter(tried(entries)), None)
    if last is None or last.verdict != "promote" or last.run is None:
        return None
    newest = [attempt.comparison for attempt in of_kind(entries, Attempt)][-1]
    promoted = {entry.comparison for entry in of_kind(entries, Promotion)}
    return last.run if last.comparison == newest and last.comparison not in promoted else None


def enter(root: Path, settings: GateSettings, judge: str | None) -> Pin:
    """Enter the attempt that the working copy is about to make, and pin it; or take up the last one, if it is the same.

    Raises `AttemptRefused` without clips, `LedgerMoved` where somebody else was faster.
    """
    entries = ledger.read(Repository(root))
    attempt, pin = next_pin(root, entries, settings, judge)
    last = entries[-1].content if entries else None
    if not isinstance(last, Attempt) or _made_of(last) != _made_of(attempt):
        offered = offer(root, settings, judge)
        assert offered is not None  # it was not asked to look whether anything changed
        return offered
    before = [earlier.data for earlier in of_kind(entries[:-1], Attempt)]
    again = {
        "ledger": ledger.head_of(entries),
        "comparison": last.comparison,
        "alpha": last.alpha,
        "seed": last.seed,
        "last_data": before[-1] if before else None,
    }
    pin = pin.model_copy(update=again)
    write_json(root / PIN, pin.content())
    return pin


def pin_champion(root: Path) -> bool:
    """Pin the model in production, where the file pins another: its merge was delayed. True where it had to be."""
    now = champion(root)
    pinned = PinnedChampion(tag=now.version_tag, sha256=now.sha256) if now else None
    pin = read_pin(root / PIN)
    if pin.champion == pinned:
        return False
    write_json(root / PIN, pin.model_copy(update={"champion": pinned}).content())
    return True


def clips_of_last_attempt(root: Path, found: Sequence[Tried]) -> "pd.DataFrame | None":
    """The index of the clips that the newest recorded attempt learned from, else the champion's; null without either."""
    repository = Repository(root)
    commits = [commit for each in found if each.run and (commit := repository.branch(f"runs/{each.run}"))]
    now = champion(root)
    if not commits and now is not None:
        commits = [now.commit]
    return clips_at(root, commits[0]) if commits else None


def clips_at(root: Path, revision: str) -> "pd.DataFrame | None":
    """The index of the clips at a revision, from cache or remote; null where neither has it."""
    import pandas as pd
    from dvc.api import DVCFileSystem

    path = f"{artifact_path(Repository(root), CLIPS, revision)}/{INDEX}"
    try:
        with DVCFileSystem(str(root), rev=revision).open(path, "rb") as file:
            return pd.read_parquet(file)
    except Exception:  # every kind of cache and remote fails in its own way
        return None


def _made_of(attempt: Attempt) -> tuple[str | None, ...]:
    return attempt.data, attempt.params, attempt.code, attempt.champion
