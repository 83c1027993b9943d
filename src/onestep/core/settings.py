"""What every group of settings is: frozen, strict, and in agreement with itself. How a file is read is in `params`."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from onestep.core.values import within


class Settings(BaseModel):
    """One group of a settings file: frozen, unknown keys are refused, and its values must agree with each other."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """What does not fit together: the key to change, dotted, and a sentence with its nearest legal value."""
        yield from ()

    @model_validator(mode="after")
    def _agrees(self) -> "Settings":
        for key, sentence in self.conflicts():
            raise PydanticCustomError("conflict", "{sentence}", {"key": key, "sentence": sentence})
        return self


class MachineSettings(Settings):
    """What every stage does alike on this machine."""

    threads: Annotated[int, within(1, 1024, "no machine has more cores")]
