"""Taking a recorded run into the branch that is checked out: git's fast-forward, and nothing of a person's is lost by it."""

import os
from collections.abc import Mapping, Sequence

from onestep.core.redaction import SafeError
from onestep.vcs import blobs
from onestep.vcs.git import Repository
from onestep.vcs.git_process import settings
from onestep.vcs.project import Project

_UNHOOKED = settings({"core.hooksPath": os.devnull, "merge.verifySignatures": "false"})


class MergeDelayed(SafeError):
    """The branch was not taken in, and what was promoted stays promoted; one sentence says what stands in the way."""

    exit_code = 3


def merge(project: Project, branch: str) -> None:
    """Fast-forward the user's branch to `runs/<id>`, keeping everything in the working tree and index that is theirs.

    The run's own files lie in the working tree as the run left them, which git would call open work: they count as the
    branch's where they are a version that the branch has. Raises `MergeDelayed` when the user's branch has moved on, or
    when a file that the record brings was changed since.
    """
    repository = project.top.git
    head, target = repository.head(), repository.git("rev-parse", "--verify", f"refs/heads/{branch}^{{commit}}")
    if repository.git("merge-base", head, target) != head:
        raise MergeDelayed(f"your branch has moved on since {branch} started from it: run git merge {branch}")
    names = repository.git("diff", "--name-only", "--no-renames", "-z", head, target).split("\0")
    paths = [path for path in names if path]
    history = [blobs.tracked(repository, commit) for commit in (head, *_between(repository, head, target))]
    staged, working = _staged(repository), _working(repository, paths)
    for path in paths:
        known = {tree.get(path) for tree in history}
        if working.get(path) not in known or staged.get(path) not in known:
            raise MergeDelayed(f"{path} was changed since the promotion: commit it, then run git merge {branch}")
    goal = blobs.tracked(repository, target)
    brought = [path for path in paths if path in goal and _is_open(path, staged, working, history[0])]
    if brought:
        listed = "\0".join(f":(top,literal){path}" for path in brought)
        take = ("checkout", "--quiet", target, "--pathspec-from-file=-", "--pathspec-file-nul")
        repository.git(*_UNHOOKED, *take, stdin=listed)
    forward = ("merge", "--ff-only", "--no-autostash", "--quiet", target)
    repository.git(*_UNHOOKED, *forward, env={"GIT_REFLOG_ACTION": f"merge {branch}"})


def _between(repository: Repository, head: str, target: str) -> list[str]:
    return repository.git("rev-list", f"{head}..{target}").split()


def _is_open(path: str, staged: Mapping[str, str], working: Mapping[str, str], head: Mapping[str, str]) -> bool:
    """Whether git sees work on a file: it is staged or lies here other than in the user's commit."""
    return staged.get(path) != head.get(path) or working.get(path) != head.get(path)


def _staged(repository: Repository) -> dict[str, str]:
    """The index: blobs by path; a file in conflict is none."""
    found = {}
    for line in repository.git("ls-files", "--stage", "-z").split("\0"):
        meta, _, path = line.partition("\t")
        if path:
            found[path] = meta.split()[1] if meta.endswith(" 0") else ""
    return found


def _working(repository: Repository, paths: Sequence[str]) -> dict[str, str]:
    """The files of the working tree as git would add them: blobs by path."""
    present = [path for path in paths if (repository.root / path).is_file()]
    if not present:
        return {}
    return dict(zip(present, repository.git("hash-object", "--", *present).splitlines(), strict=True))
