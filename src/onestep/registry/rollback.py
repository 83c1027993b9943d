"""`onestep rollback`: an earlier version goes into production again, and the ledger keeps the reason."""

from collections.abc import Sequence

from onestep.core.paths import MODEL, PRODUCTION, RUNS
from onestep.gate.pin import PinnedChampion
from onestep.provenance import ledger
from onestep.provenance.entries import Entry, Rollback, head_of
from onestep.provenance.signing import SigningKey
from onestep.provenance.store import load
from onestep.registry.change import (
    AlreadyChampion,
    ChampionChange,
    PromotionRefused,
    move_or_race,
    next_stage_tag,
    pin_commit,
    signed_tag,
    standing,
    told_of_race,
)
from onestep.registry.recording import branch_update, now
from onestep.vcs.project import Project
from onestep.vcs.versions import InStage, Version, versions


def rollback(project: Project, version: str, reason: str, key: SigningKey | None = None) -> ChampionChange:
    """Put an earlier version (`onestep@v1.0.0`, or `v1.0.0`) into production again: a new stage tag, the highest.

    Its branch, `runs/rollback-<number>`, holds the pin for later runs. Raises `PromotionRefused` where the version does
    not exist or is in production already, `PromotionRace` where another process was faster.
    """
    entries, previous = standing(project)
    with told_of_race(project, entries, previous):
        return _roll_back(project, version, reason, key, entries, previous)


def _roll_back(
    project: Project,
    version: str,
    reason: str,
    key: SigningKey | None,
    entries: Sequence[Entry],
    previous: InStage | None,
) -> ChampionChange:
    wanted = _registered(project, version if "@" in version else f"{MODEL}@{version}")
    tag, reason = wanted.tag, reason.strip()
    if not reason:
        raise PromotionRefused("a rollback needs its reason: say why this version goes back into production")
    if previous and previous.version_tag == tag:
        raise AlreadyChampion(f"{tag} is in production already ({previous.tag})")
    found = load(project, tag, wanted.commit)
    entry = Rollback(
        run=found.record.run if found else None,
        tag=tag,
        model_sha256=wanted.sha256,
        replaces=previous.version_tag if previous else None,
        reason=reason,
        record=found.envelope_sha256 if found else None,
    )
    appended = ledger.appended(project.git, entry, expected=head_of(entries), time=now())
    stage_tag, run = next_stage_tag(project), found.record.run if found else ""
    branch = f"{RUNS}rollback-{stage_tag.rpartition('#')[2]}"
    pinned = PinnedChampion(tag=tag, sha256=wanted.sha256)
    commit = pin_commit(project, project.git.head(), pinned, appended.head, f"Roll back to {tag}")
    said = f"{tag} goes back to {PRODUCTION}\n\nsha256: {wanted.sha256}\nrun: {run}\nreason: {reason}"
    stage = signed_tag(project, stage_tag, wanted.commit, said, appended.head, previous, key)
    move_or_race(project, [branch_update(project.git, branch, commit), appended, stage], previous)
    signer = key.public if key else None
    return ChampionChange(run, branch, wanted.commit, tag, stage_tag, wanted.sha256, previous, False, signer)


def _registered(project: Project, tag: str) -> Version:
    registered = versions(project.git, MODEL)
    wanted = next((known for known in registered if known.tag == tag), None)
    if wanted is None:
        known = ", ".join(version.tag for version in registered) or "none yet"
        raise PromotionRefused(f"there is no version {tag}; registered are {known}")
    return wanted
