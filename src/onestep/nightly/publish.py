"""How a run leaves its clone: data first, then all refs in one step; and how a promotion is merged into main.

Nothing is half-published: an unreachable remote moves no ref, and refs are pushed atomically, the ledger with them, so
that of two runs at once the upstream takes one and refuses the other whole.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from onestep.gate.pin import Pin
from onestep.gate.settings import GateSettings
from onestep.nightly.workspace import Workspace, WorkspaceError
from onestep.provenance import ledger
from onestep.provenance.ledger import LedgerMoved
from onestep.registry.change import ChampionChange, PromotionRace
from onestep.registry.history import enter
from onestep.registry.merge import MergeDelayed, merge
from onestep.registry.trials import override
from onestep.vcs.git import GitError, PushRefused, Repository
from onestep.vcs.project import Project

TRIES = 3  # to enter a trial, where other runs' are entered first
_LEDGER = f"{ledger.REF}:{ledger.REF}"


@dataclass(frozen=True)
class MergeResult:
    """Whether a branch was merged, and one sentence that says why not, or into what."""

    merged: bool
    sentence: str


def refresh(workspace: Workspace) -> None:
    """Fetch the upstream's ledger and tags. Raises `WorkspaceError`."""
    repository = workspace.clone.git
    try:
        repository.git("fetch", "--quiet", "--tags", "origin")
        if repository.resolve("refs/remotes/origin/ledger"):
            repository.git("fetch", "--quiet", "origin", f"+{_LEDGER}")
    except GitError as error:
        raise WorkspaceError(f"{workspace.upstream} cannot be asked: {error}") from error


def enter_and_publish(workspace: Workspace, settings: GateSettings, judge: str | None) -> Pin:
    """Enter this run's trial in the upstream's ledger, before it has a result.

    Raises `LedgerMoved` when other runs were faster three times, `WorkspaceError` when the upstream cannot be reached or refuses.
    """
    for _ in range(TRIES):
        refresh(workspace)
        pin = enter(workspace.clone, settings, judge)
        try:
            _push(workspace, _LEDGER)
            return pin
        except GitError as error:
            if not _stale(error):
                raise WorkspaceError(f"the trial was not entered in the ledger: {error}") from error
    raise LedgerMoved(f"the ledger of {workspace.upstream} takes no entry: other runs were faster, {TRIES} times")


def publish_refusal(workspace: Workspace, reason: str) -> None:
    """Enter an approver's no to the candidate in the clone as a verdict of its own, and push the ledger.

    Raises what `trials.override` raises, `WorkspaceError` when the upstream does not take it.
    """
    override(workspace.clone, "reject", reason)
    try:
        _push(workspace, _LEDGER)
    except GitError as error:
        raise WorkspaceError(f"the refusal was not published: {error}") from error


def publish(workspace: Workspace, branch: str) -> None:
    """Push a recorded run: its branch, and the ledger with its verdict. Its data must be pushed already.

    Raises `LedgerMoved` when another trial was entered meanwhile, `WorkspaceError` otherwise; no ref has moved then.
    """
    try:
        _push(workspace, f"refs/heads/{branch}:refs/heads/{branch}", _LEDGER)
    except GitError as error:
        if _stale(error) and _upstreams_ledger_is_ahead(workspace):
            raise LedgerMoved(f"{branch} was not published: another run was entered in the ledger meanwhile") from error
        raise WorkspaceError(f"{branch} was not published, and no ref has moved: {error}") from error


def publish_promotion(workspace: Workspace, promotion: ChampionChange) -> None:
    """Push a promotion that was made in the clone: its tags, the ledger, and its pin as the tip of the run's branch.

    Raises `PromotionRace` when another run or champion got there first, `WorkspaceError` when the upstream cannot be reached;
    no ref has moved then.
    """
    tags = (promotion.version_tag, promotion.stage_tag)
    refs = [f"refs/heads/{promotion.branch}:refs/heads/{promotion.branch}", _LEDGER]
    refs += [f"refs/tags/{tag}:refs/tags/{tag}" for tag in tags]
    try:
        _push(workspace, *refs)
    except GitError as error:
        taken = [tag for tag in tags if _stale(error) and _has(workspace, f"refs/tags/{tag}")]
        if taken or (_stale(error) and _upstreams_ledger_is_ahead(workspace)):
            what = f"{workspace.upstream} has {', '.join(taken)} already" if taken else "the ledger has moved"
            raise PromotionRace(f"another run was faster: {what}; nothing was changed by this one") from error
        raise WorkspaceError(f"{promotion.version_tag} was not published, and no ref has moved: {error}") from error


def merge_into(workspace: Workspace, branch: str, into: str) -> MergeResult:
    """Merge a published branch into `into` of the upstream; nothing of either is lost, and a conflict only delays it."""
    repository = workspace.clone.git
    later = f"later, by hand: git merge {branch}"
    try:
        for name in (into, branch):
            repository.git("fetch", "--quiet", "origin", f"+refs/heads/{name}:refs/remotes/origin/{name}")
        theirs = repository.git("rev-parse", f"refs/remotes/origin/{into}")
        ours = repository.git("rev-parse", f"refs/remotes/origin/{branch}")
        base = repository.git("merge-base", theirs, ours)
    except GitError as error:
        return MergeResult(False, f"not merged into {into}: {error}; {later}")
    if base == ours:
        return MergeResult(True, f"{into} has it already")
    try:
        target = ours if base == theirs else _merged(repository, theirs, ours, f"Merge {branch} into {into}\n")
    except GitError as conflict:
        return MergeResult(False, f"not merged into {into}, which has moved on: {conflict}; {later}")
    try:
        if into == _checked_out(workspace.upstream):
            _merge_where_it_is_checked_out(workspace, target)
        else:
            _push(workspace, f"{target}:refs/heads/{into}")
    except (GitError, MergeDelayed) as delay:
        return MergeResult(False, f"not merged into {into}: {delay}; {later}")
    return MergeResult(True, f"merged into {into}")


def _push(workspace: Workspace, *refs: str) -> None:
    workspace.clone.git.push(*refs)


def _stale(error: GitError) -> bool:
    """Whether the upstream refused only because it has something newer: then another run was faster."""
    return isinstance(error, PushRefused) and error.stale


def _has(workspace: Workspace, ref: str) -> bool:
    try:
        return bool(workspace.clone.git.git("ls-remote", "origin", ref))
    except GitError:
        return False


def _upstreams_ledger_is_ahead(workspace: Workspace) -> bool:
    repository = workspace.clone.git
    try:
        theirs = repository.git("ls-remote", "origin", ledger.REF).split()
        if not theirs:
            return False
        repository.git("fetch", "--quiet", "origin", ledger.REF)
        ours = repository.resolve(ledger.REF)
        return ours is None or repository.git("merge-base", "--all", ours, theirs[0]) != theirs[0]
    except GitError:
        return False


def _merged(repository: Repository, theirs: str, ours: str, message: str) -> str:
    """A merge commit of both, made without any working tree; raises `GitError` on a conflict."""
    try:
        tree = repository.git("merge-tree", "--write-tree", "--name-only", theirs, ours).splitlines()[0]
    except GitError as error:
        if error.code != 1:
            raise
        raise GitError("both changed the same lines") from error
    return repository.git("commit-tree", tree, "-p", theirs, "-p", ours, "-F", "-", stdin=message)


def _checked_out(upstream: str) -> str | None:
    """The branch that the upstream has in a working tree; null for a bare repository or a URL."""
    if not Path(upstream).is_dir():
        return None
    repository = Project(Path(upstream)).git
    with suppress(GitError):
        if repository.git("rev-parse", "--is-bare-repository") == "false":
            return repository.git("symbolic-ref", "--quiet", "--short", "HEAD")
    return None


def _merge_where_it_is_checked_out(workspace: Workspace, target: str) -> None:
    """Fast-forward a branch together with its working tree, by way of a branch that exists for this moment only."""
    passing = f"merges/{workspace.id}"
    _push(workspace, f"{target}:refs/heads/{passing}")
    try:
        merge(Project(Path(workspace.upstream)), passing)
    finally:
        with suppress(GitError):
            _push(workspace, f":refs/heads/{passing}")
