"""How a run leaves its clone: data first, then all refs in one step; and how main is offered what was promoted.

Nothing is half-published: an unreachable remote moves no ref, and the refs are pushed atomically, so that of two
promotions at once the upstream takes one and refuses the other whole.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from onestep.registry import graph
from onestep.registry.promotion import Promotion, PromotionRace, PromotionRefused, merge
from onestep.registry.repository import GitError, Repository
from onestep.registry.runs import Run, RunError


@dataclass(frozen=True)
class Offer:
    """What became of the offer to the branch: merged or not, and one sentence that says why."""

    merged: bool
    says: str


def publish(run: Run) -> bool:
    """Push the run's data, then its branch; false where the project has no DVC remote and the cache alone keeps it.

    Raises `GraphError` when the data cannot be pushed, `RunError` when the branch cannot; no ref has moved then.
    """
    pushed = graph.push(run.root)
    try:
        _push(run, f"refs/heads/{run.branch}:refs/heads/{run.branch}")
    except GitError as error:
        raise RunError(f"{run.branch} was not published, and no ref has moved: {error}") from error
    return pushed


def publish_promotion(run: Run, promotion: Promotion) -> None:
    """Push a promotion that was made in the clone: its tags, and its pin as the tip of the run's branch.

    Raises `PromotionRace` when another champion got there first, `RunError` when the upstream cannot be reached; no
    ref has moved then.
    """
    tags = (promotion.version_tag, promotion.stage_tag)
    refs = [f"refs/heads/{promotion.branch}:refs/heads/{run.branch}"]
    refs += [f"refs/tags/{tag}:refs/tags/{tag}" for tag in tags]
    try:
        _push(run, *refs)
    except GitError as error:
        taken = [tag for tag in tags if _has(run, f"refs/tags/{tag}")]
        if taken:
            raise PromotionRace(
                f"another promotion was faster: {run.upstream} has {', '.join(taken)} already"
            ) from error
        raise RunError(f"{promotion.version_tag} was not published, and no ref has moved: {error}") from error


def offer(run: Run, into: str) -> Offer:
    """Merge the run's branch into `into` of the upstream, without a word of theirs lost; a conflict only delays it."""
    repository = Repository(run.root)
    later = f"later, by hand: git merge {run.branch}"
    try:
        repository.git("fetch", "--quiet", "origin", f"+refs/heads/{into}:refs/remotes/origin/{into}")
        repository.git("fetch", "--quiet", "origin", f"+refs/heads/{run.branch}:refs/remotes/origin/{run.branch}")
        theirs = repository.git("rev-parse", f"refs/remotes/origin/{into}")
        ours = repository.git("rev-parse", f"refs/remotes/origin/{run.branch}")
        base = repository.git("merge-base", theirs, ours)
    except GitError as error:
        return Offer(False, f"not merged into {into}: {error}; {later}")
    if base == ours:
        return Offer(True, f"{into} has it already")
    try:
        target = ours if base == theirs else _merged(repository, theirs, ours, run.branch, into)
    except GitError as conflict:
        return Offer(False, f"not merged into {into}, which has moved on: {conflict}; {later}")
    try:
        if into == _checked_out(run.upstream):
            _merge_where_it_is_checked_out(run, target)
        else:
            _push(run, f"{target}:refs/heads/{into}")
    except (GitError, PromotionRefused) as delay:
        return Offer(False, f"not merged into {into}: {delay}; {later}")
    return Offer(True, f"merged into {into}")


def _push(run: Run, *refs: str) -> None:
    Repository(run.root).git("push", "--quiet", "--atomic", "origin", *refs)


def _has(run: Run, ref: str) -> bool:
    try:
        return bool(Repository(run.root).git("ls-remote", "origin", ref))
    except GitError:
        return False


def _merged(repository: Repository, theirs: str, ours: str, branch: str, into: str) -> str:
    """A merge commit of both, made without any working tree; raises `GitError` on a conflict."""
    try:
        tree = repository.git("merge-tree", "--write-tree", "--name-only", theirs, ours).splitlines()[0]
    except GitError as error:
        raise GitError("both changed the same lines") from error
    message = f"Merge {branch} into {into}\n"
    return repository.git("commit-tree", tree, "-p", theirs, "-p", ours, "-F", "-", stdin=message)


def _checked_out(upstream: str) -> str | None:
    """The branch that the upstream has in a working tree; null for a bare repository or a URL."""
    if not Path(upstream).is_dir():
        return None
    repository = Repository(Path(upstream))
    with suppress(GitError):
        if repository.git("rev-parse", "--is-bare-repository") == "false":
            return repository.git("symbolic-ref", "--quiet", "--short", "HEAD")
    return None


def _merge_where_it_is_checked_out(run: Run, target: str) -> None:
    """Fast-forward a branch together with its working tree, by way of a branch that exists for this moment only."""
    passing = f"merges/{run.id}"
    _push(run, f"{target}:refs/heads/{passing}")
    try:
        merge(Path(run.upstream), passing)
    finally:
        with suppress(GitError):
            _push(run, f":refs/heads/{passing}")
