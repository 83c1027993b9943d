"""`onestep promote`: a finished run is recorded, and its model goes into production with all that belongs to it.

A promotion moves, in one transaction of refs and in this order:

* the branch `runs/<id>` with the run, its record (`recording.py`) and the pin;
* the ledger;
* the tags `onestep@vX.Y.Z` (version) and `onestep#prod#N` (stage) on the record's commit, signed with the record's key.

The user's branch, index and working tree stay as they are, so `dvc repro` afterwards has nothing to do. The promotion
counts for later runs once the branch is merged (`merge.py`, or `git merge runs/<id>`). A run that was judged against
another champion than the one in production is not promoted.

The refs move by compare-and-swap on the champion's number and on the ledger's head: of two promotions at once one wins.
The stage tag moves last, so a kill in between leaves the old champion, and the next try takes up what is there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from onestep.core.paths import MODEL, PIN, PRODUCTION
from onestep.gate.pin import PinnedChampion
from onestep.provenance import ledger
from onestep.provenance.entries import Entry, Override, Promotion, head_of, of_kind, standing_verdict
from onestep.provenance.signing import SigningKey
from onestep.registry.change import (
    AlreadyChampion,
    ChampionChange,
    PromotionRace,
    PromotionRefused,
    move_or_race,
    next_stage_tag,
    pin_commit,
    signed_tag,
    standing,
    told_of_race,
)
from onestep.registry.recording import (
    Candidate,
    Prepared,
    Sources,
    branch_update,
    cut_off_promotion,
    finished,
    now,
    prepare,
)
from onestep.vcs import graph
from onestep.vcs.git import RefUpdate, Repository
from onestep.vcs.project import Project
from onestep.vcs.versions import InStage, versions

FIRST_VERSION = "v1.0.0"


def promote(
    project: Project, key: SigningKey | None = None, files: Sources | None = None, flow_run: str | None = None
) -> ChampionChange:
    """Record and promote the model of the working copy.

    Data goes to the default DVC remote, where there is one, before any ref names it. Raises a `PromotionRefused` whose
    `exit_code` tells the cases apart (3 verdict, 5 another champion or ledger than the verdict's, 0 already champion),
    `NotReproduced` (4), `GraphError` when the push fails, `GitError` when git does.
    """
    files = files or Sources()
    entries, previous = standing(project)
    with told_of_race(project, entries, previous):
        candidate = finished(project, files)
        _require_promote(candidate, entries, files.verdict)
        if previous and previous.sha256 == candidate.sha256:
            raise AlreadyChampion(f"this model is in production already, as {previous.version_tag} ({previous.tag})")
        _require_judged_against(previous, candidate.pin.champion)
        moment = now()
        prepared = prepare(project, candidate, entries, key, files, moment, flow_run)
        pushed = graph.push(project)
        return _register(project, prepared, entries, previous, key, moment, pushed)


def _register(
    project: Project,
    prepared: Prepared,
    entries: Sequence[Entry],
    previous: InStage | None,
    key: SigningKey | None,
    moment: str,
    pushed: bool,
) -> ChampionChange:
    candidate, repository = prepared.candidate, project.git
    cut_off = cut_off_promotion(entries, prepared.envelope_sha256)
    version_tag = cut_off.tag if cut_off else f"{MODEL}@{_next_version(repository, entries)}"
    contents = list(prepared.entries)
    if cut_off is None:
        contents.append(_entry(prepared, version_tag, previous))
    updates: list[RefUpdate] = []
    head = head_of(entries)
    if contents:
        appended = ledger.appended(project.git, *contents, expected=head, time=moment)
        updates, head = [appended], appended.head
    pinned = PinnedChampion(tag=version_tag, sha256=candidate.sha256)
    commit = pin_commit(project, prepared.commit, pinned, head, f"Pin {version_tag} as the champion")
    updates = [branch_update(repository, candidate.branch, commit), *updates]
    said = f"sha256: {candidate.sha256}\nrun: {candidate.run}"
    if repository.resolve(f"refs/tags/{version_tag}") is None:
        message = f"Registered {version_tag}\n\n{said}"
        updates.append(signed_tag(project, version_tag, prepared.commit, message, head, None, key))
    stage_tag = next_stage_tag(project)
    message = f"{version_tag} goes to {PRODUCTION}\n\n{said}"
    updates.append(signed_tag(project, stage_tag, prepared.commit, message, head, previous, key))
    move_or_race(project, updates, previous)
    return ChampionChange(
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


def _entry(prepared: Prepared, version_tag: str, previous: InStage | None) -> Promotion:
    candidate = prepared.candidate
    return Promotion(
        run=candidate.run,
        comparison=candidate.pin.comparison,
        tag=version_tag,
        model_sha256=candidate.sha256,
        replaces=previous.version_tag if previous else None,
        record=prepared.envelope_sha256,
    )


def _require_promote(candidate: Candidate, entries: Sequence[Entry], path: str) -> None:
    said = standing_verdict(entries, candidate.pin.comparison)
    verdict: Mapping[str, Any] = candidate.verdict
    word = said.verdict if isinstance(said, Override) else verdict["verdict"]
    if word == "promote":
        return
    if isinstance(said, Override):
        raise PromotionRefused(f"{said.person} overrode the verdict with 'reject': {said.reason}")
    failing = [rule["name"] for rule in verdict["rules"] if rule["outcome"] in ("failed", "held")]
    detail = f" because of {', '.join(failing)}" if failing else ""
    raise PromotionRefused(f"{path} says {word!r}, not 'promote'{detail}")


def _require_judged_against(current: InStage | None, pinned: PinnedChampion | None) -> None:
    if (current.sha256 if current else None) == (pinned.sha256 if pinned else None):
        return
    judged = f"{PIN} pins {pinned.tag if pinned else 'no champion'}"
    name = current.version_tag if current else "none"
    raise PromotionRace(
        f"{judged}, but in production is {name}: merge the branch runs/… that promoted it, then run onestep ledger offer "
        "and dvc repro again"
    )


def _next_version(repository: Repository, entries: Sequence[Entry]) -> str:
    """Each promotion is a minor version; a major one is for people to give. What the ledger promoted is never reused."""
    from semver import VersionInfo

    known = [version.version for version in versions(repository, MODEL)]
    known += [entry.tag.partition("@")[2] for entry in of_kind(entries, Promotion)]
    if not known:
        return FIRST_VERSION
    return f"v{max(VersionInfo.parse(version.removeprefix('v')) for version in known).bump_minor()}"
