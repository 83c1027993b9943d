"""Whether to retrain tonight: a decision with its reasons, and the rules as data (`retrain` in `params.yaml`).

`decide` is a pure function of a `Situation`; `look` gathers one from a project whose clips are ingested, validated and
compared with the champion's.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from onestep.core.storage import read_mapping, read_table
from onestep.gate.settings import GateSettings
from onestep.nightly.settings import RetrainSettings
from onestep.provenance import ledger
from onestep.registry.champion import CLIPS, INDEX, champion
from onestep.registry.history import clips_of_last_attempt, tried
from onestep.registry.trials import next_pin
from onestep.vcs.git import Repository
from onestep.vcs.graph import artifact_path

VALIDATION = "reports/validation.json"
DRIFT = "reports/drift.json"
_CLIP = ("source_sha256", "start_s", "end_s", "caption")


@dataclass(frozen=True)
class Situation:
    """What the decision depends on. Ages in days; null = there is none."""

    by_hand: bool
    failed_checks: tuple[str, ...]  # of the validation; empty = passed
    new_clips: int | None  # training clips that the last attempt did not have; null = no attempt yet
    gone_clips: int | None  # and those that it had and that are gone
    drifted: bool | None  # null = nothing to compare with
    drift_says: str
    champion_age_days: float | None
    new_recipe: bool  # other parameters, commands or code than the last attempt's
    tried_as: str | None  # the comparison that tried the very same, its run and its verdict


@dataclass(frozen=True)
class Reason:
    """One rule: what it looked at, its limit, and whether it speaks for retraining (null = it forbids it)."""

    rule: str
    observed: str
    limit: str
    speaks_for: bool | None


@dataclass(frozen=True)
class Decision:
    """Retrain or not, one sentence, and every rule with what it saw."""

    retrain: bool
    says: str
    reasons: tuple[Reason, ...]

    @property
    def bad_clips(self) -> bool:
        """Whether the clips themselves forbid it."""
        return any(reason.rule == "validation" and reason.speaks_for is None for reason in self.reasons)

    def as_table(self) -> list[dict[str, Any]]:
        """The rules as rows."""
        words = {True: "retrain", False: "no reason", None: "forbids it"}
        return [asdict(reason) | {"speaks_for": words[reason.speaks_for]} for reason in self.reasons]


def decide(situation: Situation, settings: RetrainSettings) -> Decision:
    """The decision: bad clips and a repeated attempt forbid it; else any rule is reason enough."""
    s = situation
    first = s.new_clips is None
    old = s.champion_age_days is not None and settings.max_champion_age_days is not None
    reasons = (
        Reason("validation", ", ".join(s.failed_checks) or "passed", "passed", None if s.failed_checks else False),
        Reason("tried before", s.tried_as or "no", "same clips, parameters, code", None if s.tried_as else False),
        Reason("by hand", "yes" if s.by_hand else "no", "", s.by_hand),
        Reason("first attempt", "yes" if first else "no", "", first),
        Reason(
            "new clips",
            "no attempt yet" if first else f"{s.new_clips} new, {s.gone_clips} gone",
            f"{settings.min_new_clips} new or gone",
            not first and (s.new_clips or 0) + (s.gone_clips or 0) >= settings.min_new_clips,
        ),
        Reason("drift", s.drift_says, "on" if settings.on_drift else "off", bool(s.drifted and settings.on_drift)),
        Reason(
            "age of the champion",
            "no champion" if s.champion_age_days is None else f"{s.champion_age_days:.1f} days",
            "off" if settings.max_champion_age_days is None else f"{settings.max_champion_age_days:g} days",
            old and s.champion_age_days >= settings.max_champion_age_days,  # type: ignore[operator]
        ),
        Reason(
            "new recipe",
            "yes" if s.new_recipe else "no",
            "on" if settings.on_new_recipe else "off",
            s.new_recipe and settings.on_new_recipe and not first,
        ),
    )
    forbidding = [reason for reason in reasons if reason.speaks_for is None]
    speaking = [reason.rule for reason in reasons if reason.speaks_for]
    if s.failed_checks:
        says = f"Not retrained: the clips failed validation ({', '.join(s.failed_checks)})."
    elif s.tried_as and speaking:
        says = f"Not retrained, though {', '.join(speaking)}: the same clips, parameters and code were {s.tried_as}."
    elif speaking:
        says = f"Retrain: {', '.join(speaking)}."
    else:
        says = "Nothing to do: no rule is a reason to retrain."
    return Decision(bool(speaking) and not forbidding, says, reasons)


def look(root: Path, gate: GateSettings, by_hand: bool = False, now: datetime | None = None) -> Situation:
    """The situation of a project whose clips are ingested, validated and compared.

    Raises `StorageError` or `GraphError` where a report or an artifact is missing, `LedgerBroken` where the ledger is.
    """
    repository = Repository(root)
    validation, drift = read_mapping(root / VALIDATION), _drift(root)
    entries = ledger.read(repository)
    found = tried(entries)
    before = clips_of_last_attempt(root, found)
    index = root / artifact_path(repository, CLIPS) / INDEX
    current = _clips(read_table(index, "make what is to be decided on with `dvc repro validate drift`"))
    known = None if before is None else _clips(before)
    attempt, _ = next_pin(root, entries, gate, None)
    same = [t for t in found if (t.data, t.params, t.code) == (attempt.data, attempt.params, attempt.code)]
    failed = tuple(check["name"] for check in validation.get("checks", []) if not check["passed"])
    return Situation(
        by_hand=by_hand,
        failed_checks=() if validation.get("passed") is True else failed or ("no verdict",),
        new_clips=None if known is None else len(current - known),
        gone_clips=None if known is None else len(known - current),
        drifted=drift["drifted"],
        drift_says=drift["reason"],
        champion_age_days=_age_days(root, now or datetime.now(UTC)),
        new_recipe=bool(found) and (found[0].params, found[0].code) != (attempt.params, attempt.code),
        tried_as=f"comparison {same[0].comparison} ({same[0].verdict})" if same else None,
    )


def _drift(root: Path) -> dict[str, Any]:
    if not (root / DRIFT).is_file():
        return {"drifted": None, "reason": "this graph compares no footage"}
    return read_mapping(root / DRIFT, drifted=(bool, type(None)), reason=str)


def _clips(index: Any) -> set[tuple[Any, ...]]:
    """The training clips by what they show and say, whatever their ids."""
    training = index[index["split"] == "train"]
    return set(training[list(_CLIP)].itertuples(index=False, name=None))


def _age_days(root: Path, now: datetime) -> float | None:
    production = champion(root)
    if production is None:
        return None
    written = Repository(root).git("for-each-ref", "--format=%(creatordate:unix)", f"refs/tags/{production.tag}")
    return (now.timestamp() - int(written)) / 86400
