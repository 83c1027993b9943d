"""`data/production.json`: what one run is judged against, written before the run and moved by a commit alone.

It is the one place from which a run takes its champion, its noise and its alpha, so a verdict has no hidden input. What
ships is comparison 1 of a project without a ledger; `onestep ledger offer` writes every later one.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from onestep.core.storage import StorageError, read_json
from onestep.core.values import Sha256

VersionTag = Annotated[str, Field(pattern=r"^[\w/-]+@v\d+\.\d+\.\d+$")]


class PinnedChampion(BaseModel):
    """A model by its version tag, and the sha256 of its folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tag: VersionTag
    sha256: Sha256


class Pin(BaseModel):
    """The content of `data/production.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    champion: PinnedChampion | None
    ledger: Sha256  # the ledger's head once this comparison was entered; 64 zeros before there is a ledger
    comparison: Annotated[int, Field(ge=1)]  # counts the trials in the ledger
    alpha: Annotated[float, Field(ge=0, lt=1)]  # offered to this comparison
    seed: Annotated[int, Field(ge=0, lt=2**63)]  # of the noise, the choice of prompts and the permutations
    judge: Sha256 | None  # of the judge's folder; null = any
    last_data: Sha256 | None  # fingerprint of the data of the trial before this one

    def content(self) -> dict[str, Any]:
        """What the file holds."""
        return self.model_dump()


def read_pin(path: Path) -> Pin:
    """Read and check a `data/production.json`; raises `StorageError` that names the key."""
    try:
        return Pin.model_validate(read_json(path), strict=True)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"])) or "the file"
        reason = problem["msg"].replace("Input should be", "must be")
        raise StorageError(
            f"{path}: {key}: {reason}; git checkout {path}, or write it with onestep ledger offer"
        ) from error
