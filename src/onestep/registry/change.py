"""What a promotion and a rollback share: another model goes into production with all that belongs to it, or not at all.

Each is one transaction of refs: the branch `runs/…` with the *pin* (`data/production.json` with the new champion, which is
what a later run is judged against), the ledger, whose new head every tag carries, and the tags in GTO's grammar.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from onestep.core.paths import MODEL, PIN, PRODUCTION
from onestep.gate.pin import PinnedChampion, read_pin
from onestep.provenance import ledger
from onestep.provenance.entries import Entry
from onestep.provenance.signing import PublicKey, SigningKey, sign_tag
from onestep.registry.champion import champion
from onestep.vcs.git import GitError, RefUpdate
from onestep.vcs.project import Project
from onestep.vcs.transaction import RegistryBusy, move, registry_lock
from onestep.vcs.versions import InStage, next_number


class PromotionRefused(RuntimeError):
    """The model may not be promoted; one sentence says why. `exit_code` is the command's."""

    exit_code = 3


class AlreadyChampion(PromotionRefused):
    """The model is in production already: nothing to do, and no failure."""

    exit_code = 0


class PromotionRace(PromotionRefused):
    """The champion or the ledger is not, or no longer, the one that the verdict was judged against."""

    exit_code = 5


@dataclass(frozen=True)
class ChampionChange:
    """What went into production: the run's branch and commit, the tags, the previous champion, who signed, if data was pushed."""

    run: str
    branch: str
    commit: str
    version_tag: str
    stage_tag: str
    sha256: str
    previous: InStage | None
    pushed: bool
    signer: PublicKey | None = None


def standing(project: Project) -> tuple[list[Entry], InStage | None]:
    """The ledger and the champion, never as another promotion leaves them between two of its refs."""
    with registry_lock(project.git):
        return ledger.read(project.git), champion(project)


@contextmanager
def told_of_race(project: Project, entries: Sequence[Entry], previous: InStage | None) -> Iterator[None]:
    """What fails because another promotion moved ledger or champion meanwhile is a `PromotionRace`; all else stays as it is."""
    try:
        yield
    except (PromotionRace, RegistryBusy):
        raise
    except RuntimeError as error:
        current = standing(project)
        if current == (entries, previous):
            raise
        raise _race(current[1], previous, error) from error


def move_or_race(project: Project, updates: Sequence[RefUpdate], previous: InStage | None) -> None:
    """Move all refs, or none; raises `PromotionRace` where another process moved one of them first, be it a run's branch."""
    try:
        move(project.git, updates)
    except GitError as error:
        if all(project.git.resolve(update.name) == update.old for update in updates):
            raise
        raise _race(standing(project)[1], previous, error) from error


def _race(current: InStage | None, previous: InStage | None, error: Exception) -> PromotionRace:
    """What a promotion that came second is told."""
    name = current.version_tag if current else "none"
    what = "the ledger moved meanwhile" if current == previous else "another promotion was faster"
    return PromotionRace(f"{what}, the champion is now {name}; nothing was changed by this one ({error})")


def next_stage_tag(project: Project) -> str:
    """The tag that puts the next model into production."""
    return f"{MODEL}#{PRODUCTION}#{next_number(project.git, MODEL)}"


def signed_tag(
    project: Project,
    name: str,
    commit: str,
    message: str,
    head: str,
    previous: InStage | None,
    key: SigningKey | None,
) -> RefUpdate:
    """The update that sets an annotated tag, which carries the ledger's head and the champion before."""
    before = f"\nprevious: {previous.version_tag}" if previous else ""
    content = project.git.tag_content(name, commit, f"{message}\n{ledger.trailer(head)}{before}")
    return RefUpdate(f"refs/tags/{name}", project.git.write_tag(sign_tag(content, key)))


def pin_commit(project: Project, parent: str, pinned: PinnedChampion, head: str, subject: str) -> str:
    """A commit on `parent` that pins another champion for later runs; no ref names it yet."""
    pin = read_pin(project.root / PIN).model_copy(update={"champion": pinned})
    content = json.dumps(pin.content(), indent=2, sort_keys=True) + "\n"
    tree = project.git.tree_with(parent, PIN, content.encode())
    return project.git.commit(tree, parent, f"{subject}\n\n{ledger.trailer(head)}\n")
