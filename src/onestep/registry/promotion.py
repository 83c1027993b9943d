"""`onestep promote`: a run becomes a commit, a registered version and the model in production, or nothing changes.

What is written, in one transaction of refs:

* the branch `runs/<id>`, two commits on top of the user's: the *run* (graph, lock, parameters, code and reports as they
  made the model, and the pin it was judged against, so that the lock holds at that commit), then the *pin*
  (`data/production.json` with the new champion), which is what a later run is judged against;
* the tags `onestep@vX.Y.Z` (version) and `onestep#prod#N` (stage) on the run's commit, in GTO's grammar.

The user's branch, index and working tree stay as they are, so `dvc repro` afterwards has nothing to do. The promotion
counts for later runs once the branch is merged (`merge`, or `git merge runs/<id>`): the next `dvc repro` then compares
with the new champion. A run that was judged against another champion than the one in production is not promoted.

The refs move by compare-and-swap: of two promotions at once one wins. The stage tag moves last, so a kill in between
leaves the old champion, and the next attempt takes up what is there.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onestep.registry import graph
from onestep.registry.gates import VERDICT, read_verdict
from onestep.registry.pin import PinnedChampion, read_pin
from onestep.registry.production import (
    CLIPS,
    MODEL,
    STAGE,
    Champion,
    Registered,
    assignments,
    champion,
    registered,
)
from onestep.registry.repository import GitError, RefUpdate, Repository
from onestep.storage import sha256_folder

METRICS = "reports/metrics.json"
PIN = "data/production.json"
FIRST_VERSION = "v1.0.0"


class PromotionRefused(RuntimeError):
    """The model may not be promoted; one sentence says why. `exit_code` is the command's."""

    exit_code = 3


class AlreadyChampion(PromotionRefused):
    """The model is in production already: nothing to do, and no failure."""

    exit_code = 0


class NotReproduced(PromotionRefused):
    """The working copy is not what `dvc.lock` says, so no record of it would be true."""

    exit_code = 4


class PromotionRace(PromotionRefused):
    """The champion is not, or no longer, the one that the verdict was judged against."""

    exit_code = 5


@dataclass(frozen=True)
class Promotion:
    """What was promoted: the run's branch and commit, the tags, the previous champion, and whether data was pushed."""

    run: str
    branch: str
    commit: str
    version_tag: str
    stage_tag: str
    sha256: str
    previous: Champion | None
    pushed: bool


def promote(root: Path, verdict: str = VERDICT, metrics: str = METRICS, pin: str = PIN) -> Promotion:
    """Promote the model of the working copy; paths are relative to `root`, the folder that holds `dvc.yaml`.

    Data goes to the default DVC remote, where there is one, before any ref names it. Raises a `PromotionRefused` whose
    `exit_code` tells the cases apart (3 verdict, 4 not reproduced, 5 another champion than the verdict's, 0 already
    champion), `GraphError` when the
    push fails, `GitError` when git does.
    """
    repository = Repository(root)
    _require_promote(read_verdict(root, verdict), verdict)
    if found := graph.changes(root):
        raise NotReproduced(f"{graph.LOCK} does not match the working copy: {'; '.join(found)}; run dvc repro first")
    graph.artifact_path(repository, CLIPS)  # later runs compare their clips with these: refuse now, not then
    sha256 = sha256_folder(root / graph.artifact_path(repository, MODEL))
    previous = champion(root)
    if previous and previous.sha256 == sha256:
        raise AlreadyChampion(f"this model is in production already, as {previous.version_tag} ({previous.tag})")

    _require_judged_against(previous, read_pin(root / pin).champion, pin)
    number = max((a.number for a in assignments(root)), default=0) + 1

    head = repository.head()
    tree = repository.tree(head, graph.kept_in_git(root))
    _require_recorded(repository, tree, (graph.GRAPH, graph.LOCK, verdict, metrics))
    run = hashlib.sha256(f"{head}\n{tree}\n".encode()).hexdigest()[:12]
    pushed = graph.push(root)
    return _record(repository, _Candidate(run, head, tree, sha256, pin, number, previous), pushed)


def merge(root: Path, branch: str) -> None:
    """Fast-forward the user's branch to `runs/<id>`, keeping everything in the working tree and index that is theirs.

    Raises `PromotionRefused` when the branch has moved on, or when a file that the record brings was changed since.
    """
    repository = Repository(root)
    top = Repository(Path(repository.git("rev-parse", "--show-toplevel")))
    head, target = top.head(), top.git("rev-parse", "--verify", f"refs/heads/{branch}^{{commit}}")
    if top.git("merge-base", head, target) != head:
        raise PromotionRefused(f"your branch has moved on since {branch} started from it: run git merge {branch}")
    paths = [path for path in top.git("diff", "--name-only", "-z", head, target).split("\0") if path]
    for path in paths:
        theirs = {_blob(top, head, path), _blob(top, target, path)}
        file = top.root / path
        working = top.git("hash-object", "--", path) if file.is_file() else None
        if working not in theirs or top.resolve(f":0:{path}") not in theirs:
            raise PromotionRefused(f"{path} was changed since the promotion: commit it, then run git merge {branch}")
    for path in paths:
        if (blob := _blob(top, target, path)) is None:
            (top.root / path).unlink(missing_ok=True)
            top.git("update-index", "--force-remove", "--", path)
            continue
        mode = top.git("ls-tree", "--format=%(objectmode)", target, "--", path)
        if not (top.root / path).is_file() or top.git("hash-object", "--", path) != blob:
            (top.root / path).parent.mkdir(parents=True, exist_ok=True)
            (top.root / path).write_bytes(top.git_bytes("cat-file", "--filters", f"{target}:{path}"))
        top.git("update-index", "--add", "--cacheinfo", f"{mode},{blob},{path}")
    top.git("update-ref", "-m", f"merge {branch}: Fast-forward", "HEAD", target, head)


@dataclass(frozen=True)
class _Candidate:
    run: str
    head: str
    tree: str
    sha256: str
    pin: str
    number: int
    previous: Champion | None


def _record(repository: Repository, candidate: _Candidate, pushed: bool) -> Promotion:
    previous = candidate.previous
    branch = f"runs/{candidate.run}"
    branch_ref = f"refs/heads/{branch}"
    left = repository.resolve(branch_ref)
    version = _version_to_take_up(repository, candidate)
    commit = version.commit if version else _run_commit(repository, candidate, left)
    version_tag = version.tag if version else f"{MODEL}@{_next_version(repository.root)}"
    stage_tag = f"{MODEL}#{STAGE}#{candidate.number}"

    pinned = PinnedChampion(tag=version_tag, sha256=candidate.sha256)
    pin = read_pin(repository.root / candidate.pin).model_copy(update={"champion": pinned})
    content = json.dumps(pin.content(), indent=2, sort_keys=True) + "\n"
    pin_tree = repository.tree_with(commit, candidate.pin, content.encode())
    pin_commit = repository.commit(pin_tree, commit, f"Pin {version_tag} as the champion\n")
    message = f"sha256: {candidate.sha256}\nrun: {candidate.run}"
    updates = [RefUpdate(branch_ref, pin_commit, left)]
    if version is None:
        tag = repository.tag(version_tag, commit, f"Registered {version_tag}\n\n{message}")
        updates.append(RefUpdate(f"refs/tags/{version_tag}", tag))
    before = f"\nprevious: {previous.version_tag}" if previous else ""
    tag = repository.tag(stage_tag, commit, f"{version_tag} goes to {STAGE}\n\n{message}{before}")
    updates.append(RefUpdate(f"refs/tags/{stage_tag}", tag))
    try:
        repository.update(updates)
    except GitError as error:
        now = champion(repository.root)
        if now == previous and repository.resolve(f"refs/tags/{version_tag}") is None:
            raise
        name = now.version_tag if now else "none"
        raise PromotionRace(
            f"another promotion was faster, the champion is now {name}; nothing was changed by this one ({error})"
        ) from error
    return Promotion(candidate.run, branch, commit, version_tag, stage_tag, candidate.sha256, previous, pushed)


def _require_promote(verdict: Mapping[str, Any], path: str) -> None:
    if verdict["verdict"] != "promote":
        failing = [rule["name"] for rule in verdict["rules"] if rule["outcome"] in ("failed", "held")]
        detail = f" because of {', '.join(failing)}" if failing else ""
        raise PromotionRefused(f"{path} says {verdict['verdict']!r}, not 'promote'{detail}")


def _require_judged_against(now: Champion | None, pinned: PinnedChampion | None, path: str) -> None:
    if (now.sha256 if now else None) == (pinned.sha256 if pinned else None):
        return
    judged = f"{path} pins {pinned.tag if pinned else 'no champion'}"
    name = now.version_tag if now else "none"
    raise PromotionRace(
        f"{judged}, but in production is {name}: merge the branch runs/… that promoted it, then run dvc repro again"
    )


def _require_recorded(repository: Repository, tree: str, paths: tuple[str, ...]) -> None:
    prefix = repository.git("rev-parse", "--show-prefix")
    for path in paths:
        if repository.resolve(f"{tree}:{prefix}{path}") is None:
            raise NotReproduced(
                f"{path} would be missing from the record: let git keep it (in dvc.yaml `cache: false`, not ignored)"
            )


def _version_to_take_up(repository: Repository, candidate: _Candidate) -> Registered | None:
    """A version that an interrupted promotion of this very run left without its stage."""
    for version in registered(repository.root):
        if version.sha256 == candidate.sha256 and f"run: {candidate.run}" in repository.tag_message(version.tag):
            return version
    return None


def _run_commit(repository: Repository, candidate: _Candidate, left: str | None) -> str:
    """The run's commit: the one that an interrupted promotion left below its branch, or a new one."""
    if left and (below := repository.resolve(f"{left}^")):
        same_tree = repository.resolve(f"{below}^{{tree}}") == candidate.tree
        if same_tree and repository.resolve(f"{below}^") == candidate.head:
            return below
    return repository.commit(candidate.tree, candidate.head, f"Run {candidate.run}\n\nsha256: {candidate.sha256}\n")


def _next_version(root: Path) -> str:
    """Each promotion is a minor version; a major one is for people to give."""
    from semver import VersionInfo

    versions = registered(root)
    if not versions:
        return FIRST_VERSION
    return f"v{VersionInfo.parse(versions[-1].version.removeprefix('v')).bump_minor()}"


def _blob(repository: Repository, revision: str, path: str) -> str | None:
    return repository.resolve(f"{revision}:{path}")
