"""What every check of a record looks at."""

from collections.abc import Sequence
from dataclasses import dataclass

from onestep.redaction import SafeError
from onestep.registry.ledger import Entry
from onestep.registry.lineage.records import Found
from onestep.registry.objects import Objects
from onestep.registry.record import Record
from onestep.registry.repository import Repository
from onestep.registry.signing import PublicKey


class Broken(SafeError):
    """Something is not as it was recorded; the message names it."""


@dataclass(frozen=True)
class Case:
    """One record, and where everything that it names should be; `keys` are the trusted ones, empty where none is."""

    repository: Repository
    found: Found
    entries: Sequence[Entry]
    objects: Objects
    keys: Sequence[PublicKey]

    @property
    def record(self) -> Record:
        """What is being checked."""
        return self.found.record
