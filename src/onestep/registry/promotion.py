"""`onestep promote` and `onestep rollback`: what is in production changes with all that belongs to it, or not at all.

A promotion moves, in one transaction of refs and in this order:

* the branch `runs/<id>` with the run, its record (`recording.py`) and the *pin* (`data/production.json` with the new
  champion), which is what a later run is judged against;
* the ledger, whose new head every tag carries;
* the tags `onestep@vX.Y.Z` (version) and `onestep#prod#N` (stage) on the record's commit, in GTO's grammar, signed with
  the record's key.

The user's branch, index and working tree stay as they are, so `dvc repro` afterwards has nothing to do. The promotion
counts for later runs once the branch is merged (`merge`, or `git merge runs/<id>`). A run that was judged against another
champion than the one in production is not promoted.

The refs move by compare-and-swap on the champion's number and on the ledger's head: of two promotions at once one wins.
The stage tag moves last, so a kill in between leaves the old champion, and the next attempt takes up what is there. A
rollback is the same with an earlier version: a new stage tag with the highest number, and an entry in the ledger.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onestep.gate.pin import PinnedChampion, read_pin
from onestep.provenance import ledger
from onestep.provenance.ledger import Entry
from onestep.provenance.signing import PublicKey, SigningKey, sign_tag
from onestep.provenance.store import load
from onestep.registry.champion import MODEL, STAGE, Champion, assignments, champion, registered
from onestep.registry.recording import (
    Candidate,
    NotReproduced,
    Prepared,
    Sources,
    branch_update,
    cut_off_promotion,
    finished,
    now,
    prepare,
)
from onestep.registry.trials import PIN
from onestep.vcs import graph
from onestep.vcs.git import GitError, RefUpdate, Repository
from onestep.vcs.transaction import move

FIRST_VERSION = "v1.0.0"
__all__ = ["NotReproduced", "Promotion", "merge", "promote", "rollback"]


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
class Promotion:
    """What was promoted: the run's branch and commit, the tags, the previous champion, who signed, if data was pushed."""

    run: str
    branch: str
    commit: str
    version_tag: str
    stage_tag: str
    sha256: str
    previous: Champion | None
    pushed: bool
    signer: PublicKey | None = None


def promote(
    root: Path, key: SigningKey | None = None, files: Sources | None = None, flow_run: str | None = None
) -> Promotion:
    """Record and promote the model of the working copy at `root`, the folder that holds `dvc.yaml`.

    Data goes to the default DVC remote, where there is one, before any ref names it. Raises a `PromotionRefused` whose
    `exit_code` tells the cases apart (3 verdict, 5 another champion or ledger than the verdict's, 0 already champion),
    `NotReproduced` (4), `GraphError` when the push fails, `GitError` when git does.
    """
    repository, files = Repository(root), files or Sources()
    entries, previous = ledger.read(repository), champion(root)
    candidate = finished(root, files)
    _require_promote(candidate, entries, files.verdict)
    if previous and previous.sha256 == candidate.sha256:
        raise AlreadyChampion(f"this model is in production already, as {previous.version_tag} ({previous.tag})")
    _require_judged_against(previous, candidate.pin.champion, PIN)
    moment = now()
    try:
        prepared = prepare(repository, candidate, entries, key, files, moment, flow_run)
    except ledger.LedgerMoved as error:
        if ledger.head(repository) == ledger.head_of(entries):
            raise
        raise _race(repository, previous, error) from error
    pushed = graph.push(root)
    return _register(repository, prepared, entries, previous, key, moment, pushed)


def rollback(root: Path, version: str, reason: str, key: SigningKey | None = None) -> Promotion:
    """Put an earlier version (`onestep@v1.0.0`, or `v1.0.0`) into production again; the ledger keeps the reason.

    Its branch, `runs/rollback-<number>`, holds the pin for later runs. Raises `PromotionRefused` where the version does
    not exist or is in production already, `PromotionRace` where somebody else was faster.
    """
    repository = Repository(root)
    entries, previous = ledger.read(repository), champion(root)
    tag = version if "@" in version else f"{MODEL}@{version}"
    wanted = next((known for known in registered(root) if known.tag == tag), None)
    if wanted is None:
        known = ", ".join(entry.tag for entry in registered(root)) or "none yet"
        raise PromotionRefused(f"there is no version {tag}; registered are {known}")
    if not reason.strip():
        raise PromotionRefused("a rollback needs its reason: say why this version goes back into production")
    if previous and previous.version_tag == tag:
        raise AlreadyChampion(f"{tag} is in production already ({previous.tag})")
    found = load(repository, tag, wanted.commit)
    entry = ledger.Rollback(
        run=found.record.run if found else None,
        tag=tag,
        model_sha256=wanted.sha256,
        replaces=previous.version_tag if previous else None,
        reason=reason.strip(),
        record=found.envelope_sha256 if found else None,
    )
    appended = _appended(repository, [entry], ledger.head_of(entries), now(), previous)
    number = _next_number(root)
    run = found.record.run if found else ""
    branch = f"runs/rollback-{number}"
    pinned = PinnedChampion(tag=tag, sha256=wanted.sha256)
    pin_commit = _pin_commit(repository, repository.head(), pinned, appended.head, f"Roll back to {tag}")
    said = f"{tag} goes back to {STAGE}\n\nsha256: {wanted.sha256}\nrun: {run}\nreason: {reason.strip()}"
    stage_tag = f"{MODEL}#{STAGE}#{number}"
    stage = _tag(repository, stage_tag, wanted.commit, said, appended.head, previous, key)
    _move(repository, [branch_update(repository, branch, pin_commit), appended, stage], previous)
    signer = key.public if key else None
    return Promotion(run, branch, wanted.commit, tag, stage_tag, wanted.sha256, previous, False, signer)


def merge(root: Path, branch: str) -> None:
    """Fast-forward the user's branch to `runs/<id>`, keeping everything in the working tree and index that is theirs.

    Raises `PromotionRefused` when the branch has moved on, or when a file that the record brings was changed since.
    """
    repository = Repository(root)
    top = Repository(Path(repository.git("rev-parse", "--show-toplevel")))
    head, target = top.head(), top.git("rev-parse", "--verify", f"refs/heads/{branch}^{{commit}}")
    if top.git("merge-base", head, target) != head:
        raise PromotionRefused(f"your branch has moved on since {branch} started from it: run git merge {branch}")
    paths = [path for path in top.git("diff", "--name-only", "--no-renames", "-z", head, target).split("\0") if path]
    commits = [head, *top.git("rev-list", f"{head}..{target}").split()]
    for path in paths:
        theirs = {_blob(top, commit, path) for commit in commits}
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


def _register(
    repository: Repository,
    prepared: Prepared,
    entries: Sequence[Entry],
    previous: Champion | None,
    key: SigningKey | None,
    moment: str,
    pushed: bool,
) -> Promotion:
    candidate = prepared.candidate
    cut_off = cut_off_promotion(entries, prepared.envelope_sha256)
    version_tag = cut_off.tag if cut_off else f"{MODEL}@{_next_version(repository.root, entries)}"
    contents = list(prepared.entries)
    if cut_off is None:
        promotion = ledger.Promotion(
            run=candidate.run,
            comparison=candidate.pin.comparison,
            tag=version_tag,
            model_sha256=candidate.sha256,
            replaces=previous.version_tag if previous else None,
            record=prepared.envelope_sha256,
        )
        contents.append(promotion)
    updates: list[RefUpdate] = []
    head = ledger.head_of(entries)
    if contents:
        appended = _appended(repository, contents, head, moment, previous)
        updates, head = [appended], appended.head
    pinned = PinnedChampion(tag=version_tag, sha256=candidate.sha256)
    pin_commit = _pin_commit(repository, prepared.commit, pinned, head, f"Pin {version_tag} as the champion")
    updates = [branch_update(repository, candidate.branch, pin_commit), *updates]
    said = f"sha256: {candidate.sha256}\nrun: {candidate.run}"
    if repository.resolve(f"refs/tags/{version_tag}") is None:
        message = f"Registered {version_tag}\n\n{said}"
        updates.append(_tag(repository, version_tag, prepared.commit, message, head, None, key))
    stage_tag = f"{MODEL}#{STAGE}#{_next_number(repository.root)}"
    message = f"{version_tag} goes to {STAGE}\n\n{said}"
    updates.append(_tag(repository, stage_tag, prepared.commit, message, head, previous, key))
    _move(repository, updates, previous)
    return Promotion(
        candidate.run,
        candidate.branch,
        prepared.commit,
        version_tag,
        stage_tag,
        candidate.sha256,
        previous,
        pushed,
        prepared.signer,
    )


def _appended(
    repository: Repository, contents: Sequence[ledger.Content], head: str, moment: str, previous: Champion | None
) -> ledger.Appended:
    try:
        return ledger.appended(repository, *contents, expected=head, time=moment)
    except ledger.LedgerMoved as error:
        raise _race(repository, previous, error) from error


def _move(repository: Repository, updates: Sequence[RefUpdate], previous: Champion | None) -> None:
    try:
        move(repository, updates)
    except GitError as error:
        if all(repository.resolve(update.name) == update.old for update in updates):
            raise
        raise _race(repository, previous, error) from error


def _race(repository: Repository, previous: Champion | None, error: Exception) -> PromotionRace:
    current = champion(repository.root)
    name = current.version_tag if current else "none"
    what = "the ledger moved meanwhile" if current == previous else "another promotion was faster"
    return PromotionRace(f"{what}, the champion is now {name}; nothing was changed by this one ({error})")


def _tag(
    repository: Repository,
    name: str,
    commit: str,
    message: str,
    head: str,
    previous: Champion | None,
    key: SigningKey | None,
) -> RefUpdate:
    before = f"\nprevious: {previous.version_tag}" if previous else ""
    content = repository.tag_content(name, commit, f"{message}\n{ledger.trailer(head)}{before}")
    return RefUpdate(f"refs/tags/{name}", repository.write_tag(sign_tag(content, key)))


def _pin_commit(repository: Repository, parent: str, pinned: PinnedChampion, head: str, subject: str) -> str:
    pin = read_pin(repository.root / PIN).model_copy(update={"champion": pinned})
    content = json.dumps(pin.content(), indent=2, sort_keys=True) + "\n"
    tree = repository.tree_with(parent, PIN, content.encode())
    return repository.commit(tree, parent, f"{subject}\n\n{ledger.trailer(head)}\n")


def _require_promote(candidate: Candidate, entries: Sequence[Entry], path: str) -> None:
    said = ledger.standing_verdict(entries, candidate.pin.comparison)
    verdict: Mapping[str, Any] = candidate.verdict
    word = said.verdict if isinstance(said, ledger.Override) else verdict["verdict"]
    if word == "promote":
        return
    if isinstance(said, ledger.Override):
        raise PromotionRefused(f"{said.person} overrode the verdict with 'reject': {said.reason}")
    failing = [rule["name"] for rule in verdict["rules"] if rule["outcome"] in ("failed", "held")]
    detail = f" because of {', '.join(failing)}" if failing else ""
    raise PromotionRefused(f"{path} says {word!r}, not 'promote'{detail}")


def _require_judged_against(current: Champion | None, pinned: PinnedChampion | None, path: str) -> None:
    if (current.sha256 if current else None) == (pinned.sha256 if pinned else None):
        return
    judged = f"{path} pins {pinned.tag if pinned else 'no champion'}"
    name = current.version_tag if current else "none"
    raise PromotionRace(
        f"{judged}, but in production is {name}: merge the branch runs/… that promoted it, then run onestep ledger offer "
        "and dvc repro again"
    )


def _next_number(root: Path) -> int:
    return max((given.number for given in assignments(root)), default=0) + 1


def _next_version(root: Path, entries: Sequence[Entry]) -> str:
    """Each promotion is a minor version; a major one is for people to give. What the ledger promoted is never reused."""
    from semver import VersionInfo

    known = [version.version for version in registered(root)]
    known += [entry.tag.partition("@")[2] for entry in ledger.of_kind(entries, ledger.Promotion)]
    if not known:
        return FIRST_VERSION
    return f"v{max(VersionInfo.parse(version.removeprefix('v')) for version in known).bump_minor()}"


def _blob(repository: Repository, revision: str, path: str) -> str | None:
    return repository.resolve(f"{revision}:{path}")
