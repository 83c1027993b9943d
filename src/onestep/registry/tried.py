"""Attempts: which runs trained a candidate, from what, and what the verdict was; read from the branches `runs/*`.

The record is the run's own commit: its lock, its clips and its verdict are all there, and its message says in three
lines what a scheduler has to know before it tries the same again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onestep.registry.graph import artifact_path
from onestep.registry.production import CLIPS, INDEX, PinnedChampion, champion, pin_content, read_pin
from onestep.registry.promotion import PIN
from onestep.registry.repository import Repository
from onestep.storage import write_json

if TYPE_CHECKING:
    import pandas as pd

_END = "\x01"
_FIELDS = ("run", "verdict", "inputs")


@dataclass(frozen=True)
class Attempt:
    """One recorded run: its id, commit, verdict, and the digest of what made its model (`inputs.model_inputs`)."""

    run: str
    commit: str
    verdict: str
    inputs: str

    def trailers(self) -> dict[str, str]:
        """The lines of the commit's message that say so."""
        return {"run": self.run, "verdict": self.verdict, "inputs": self.inputs}


def attempts(root: Path) -> list[Attempt]:
    """All recorded attempts that this repository or its remotes know, newest first."""
    lines = Repository(root).git(
        "log", "--all", "--grep=^inputs: [0-9a-f]\\{64\\}$", f"--format=%H%n%B{_END}", "--date-order"
    )
    found = []
    for part in lines.split(_END):
        commit, _, message = part.strip().partition("\n")
        pairs = (line.split(": ", 1) for line in message.splitlines() if ": " in line)
        values = {key: value for key, value in pairs if key in _FIELDS}
        if len(values) == len(_FIELDS):
            found.append(Attempt(commit=commit, **values))
    return found


def tried_before(found: Iterable[Attempt], inputs: str) -> Attempt | None:
    """The attempt that had the same inputs, where there is one: trying again would make the same model."""
    return next((attempt for attempt in found if attempt.inputs == inputs), None)


def clips_of_last_attempt(root: Path, found: list[Attempt]) -> "pd.DataFrame | None":
    """The index of the clips that the last attempt learned from; before any, those of the champion; else null.

    Null too where cache and remote have lost them.
    """
    now = champion(root)
    commits = [attempt.commit for attempt in found[:1]] or ([now.commit] if now else [])
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


def pin_champion(root: Path, pin: str = PIN) -> bool:
    """Pin the model in production as what this run is judged against; true where the pin was another one."""
    now = champion(root)
    pinned = PinnedChampion(tag=now.version_tag, sha256=now.sha256) if now else None
    if read_pin(root / pin) == pinned:
        return False
    write_json(root / pin, pin_content(pinned))
    return True
