"""What follows a promotion: steps in order, each one function. The promotion stands whatever becomes of them."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onestep.nightly.publish import merge_into
from onestep.nightly.workspace import Workspace
from onestep.registry.change import ChampionChange

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]


@dataclass(frozen=True)
class Promoted:
    """A published promotion: the clone that it was made in, with the model's files, and the branch that it shall reach."""

    workspace: Workspace
    promotion: ChampionChange
    into: str


class StepFailed(Exception):
    """A step could not be done; the message says why, and what a person types instead."""


Step = Callable[[Promoted], str]  # returns one sentence for the summary; whatever it raises only fails this step


def merge(promoted: Promoted) -> str:
    """Merge lock and pin into the branch that runs start from; a conflict delays only this."""
    merged = merge_into(promoted.workspace, promoted.promotion.branch, promoted.into)
    if not merged.merged:
        raise StepFailed(merged.sentence)
    return merged.sentence


STEPS: tuple[Step, ...] = (merge,)


def follow_up(promoted: Promoted, log: Log, steps: Sequence[Step] = STEPS) -> list[str]:
    """Take every step, and return its sentence or why it failed, in order."""
    notes = []
    for step in steps:
        try:
            notes.append(step(promoted))
            log.info(notes[-1])
        except StepFailed as failure:
            notes.append(str(failure))
            log.warning(notes[-1])
        except Exception as error:
            notes.append(f"{step.__name__} failed after the promotion, which stands: {error}")
            log.warning(notes[-1])
    return notes
