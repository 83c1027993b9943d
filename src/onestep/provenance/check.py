"""What every check of a record looks at."""

from collections.abc import Sequence
from dataclasses import dataclass

from onestep.core.redaction import SafeError
from onestep.provenance.entries import Entry
from onestep.provenance.record import Record
from onestep.provenance.signing import PublicKey
from onestep.provenance.store import Found
from onestep.vcs.objects import Objects
from onestep.vcs.project import Project


class CheckFailed(SafeError):
    """Something is not as it was recorded; the message names it."""


@dataclass(frozen=True)
class CheckContext:
    """One record, and where everything that it names should be; `keys` are the trusted ones, empty where none is."""

    project: Project
    found: Found
    entries: Sequence[Entry]
    objects: Objects
    keys: Sequence[PublicKey]

    @property
    def record(self) -> Record:
        """What is being checked."""
        return self.found.record
