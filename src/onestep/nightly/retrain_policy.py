"""Whether to retrain: a decision with its reasons. A rule is one pure function in `RULES`, with its limits in `retrain`
of `params.yaml`.

`decide` is a pure function of a `Situation`; `situation_of` gathers one from a project whose clips are ingested,
validated and compared with the champion's.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from onestep.core.paths import CLIPS, DRIFT, VALIDATION
from onestep.core.storage import read_mapping, read_table
from onestep.data.schema import INDEX
from onestep.gate.settings import GateSettings
from onestep.nightly.settings import RetrainSettings
from onestep.provenance import ledger
from onestep.registry.champion import champion
from onestep.registry.history import clips_of_last_trial, judged_trials
from onestep.registry.trials import next_pin
from onestep.vcs.project import Project

_CLIP = ("source_sha256", "start_s", "end_s", "caption")
_DAY_S = 86400

Effect = Literal["retrain", "no reason", "forbids it"]


@dataclass(frozen=True)
class Situation:
    """What the decision depends on; null = there is none."""

    now: datetime  # in UTC
    by_hand: bool
    failed_checks: tuple[str, ...]  # of the validation; empty = passed
    new_clips: int | None  # training clips that the last trial did not have; null = no trial yet
    removed_clips: int | None  # and those that it had and that are there no more
    drifted: bool | None  # null = nothing to compare with
    drift_reason: str
    champion_since: datetime | None  # in UTC
    new_recipe: bool  # other parameters, commands or code than the last trial's
    earlier_trial: str | None  # the comparison of the very same clips, parameters and code, and its verdict


@dataclass(frozen=True)
class Reason:
    """What one rule found: the observation, its limit, and its effect; `because`: why it forbids a retraining."""

    rule: str
    observed: str
    limit: str
    effect: Effect
    because: str = ""


Rule = Callable[[Situation, RetrainSettings], Reason]


@dataclass(frozen=True)
class Decision:
    """Retrain or not, one sentence, and what every rule found."""

    retrain: bool
    sentence: str
    reasons: tuple[Reason, ...]

    @property
    def bad_clips(self) -> bool:
        """Whether the clips themselves forbid it."""
        return any(reason.rule == "validation" and reason.effect == "forbids it" for reason in self.reasons)

    def as_table(self) -> list[dict[str, Any]]:
        """One row per rule: rule, observed, limit, effect."""
        return [{key: value for key, value in asdict(reason).items() if key != "because"} for reason in self.reasons]


def validation(situation: Situation, _: RetrainSettings) -> Reason:
    """Clips that failed validation forbid it."""
    failed = ", ".join(situation.failed_checks)
    if failed:
        return Reason("validation", failed, "passed", "forbids it", f"the clips failed validation ({failed})")
    return Reason("validation", "passed", "passed", "no reason")


def earlier_trial(situation: Situation, _: RetrainSettings) -> Reason:
    """The same inputs make the same model, and a second comparison of it would spend alpha for nothing."""
    rule, limit, found = "earlier trial", "same clips, parameters, code", situation.earlier_trial
    if found:
        return Reason(rule, found, limit, "forbids it", f"the same clips, parameters and code were {found}")
    return Reason(rule, "no", limit, "no reason")


def by_hand(situation: Situation, _: RetrainSettings) -> Reason:
    """A person asked for it."""
    return Reason("by hand", _yes(situation.by_hand), "", _reason_if(situation.by_hand))


def first_trial(situation: Situation, _: RetrainSettings) -> Reason:
    """Nothing was ever trained here."""
    first = situation.new_clips is None
    return Reason("first trial", _yes(first), "", _reason_if(first))


def new_clips(situation: Situation, settings: RetrainSettings) -> Reason:
    """Training clips were added or removed since the last trial."""
    rule, limit = "new clips", f"{settings.min_new_clips} new or removed"
    new, removed = situation.new_clips, situation.removed_clips or 0
    if new is None:
        return Reason(rule, "no trial yet", limit, "no reason")
    return Reason(rule, f"{new} new, {removed} removed", limit, _reason_if(new + removed >= settings.min_new_clips))


def drift(situation: Situation, settings: RetrainSettings) -> Reason:
    """The clips differ from those that the champion was trained on."""
    effect = _reason_if(bool(situation.drifted) and settings.on_drift)
    return Reason("drift", situation.drift_reason, _on(settings.on_drift), effect)


def champion_age(situation: Situation, settings: RetrainSettings) -> Reason:
    """The champion was promoted long ago."""
    rule, most = "age of the champion", settings.max_champion_age_days
    limit = "off" if most is None else f"{most:g} days"
    if situation.champion_since is None:
        return Reason(rule, "no champion", limit, "no reason")
    days = (situation.now - situation.champion_since).total_seconds() / _DAY_S
    return Reason(rule, f"{days:.1f} days", limit, _reason_if(most is not None and days >= most))


def new_recipe(situation: Situation, settings: RetrainSettings) -> Reason:
    """Parameters, commands or code differ from the last trial's."""
    speaks = situation.new_recipe and settings.on_new_recipe and situation.new_clips is not None
    return Reason("new recipe", _yes(situation.new_recipe), _on(settings.on_new_recipe), _reason_if(speaks))


RULES: tuple[Rule, ...] = (
    validation,
    earlier_trial,
    by_hand,
    first_trial,
    new_clips,
    drift,
    champion_age,
    new_recipe,
)


def decide(situation: Situation, settings: RetrainSettings, rules: Sequence[Rule] = RULES) -> Decision:
    """Retrain where any rule is a reason to and none forbids it."""
    reasons = tuple(rule(situation, settings) for rule in rules)
    speaking = ", ".join(reason.rule for reason in reasons if reason.effect == "retrain")
    forbidding = [reason for reason in reasons if reason.effect == "forbids it"]
    because = "; ".join(reason.because for reason in forbidding)
    decision = Decision(bool(speaking) and not forbidding, f"Retrain: {speaking}.", reasons)
    if decision.retrain:
        return decision
    if decision.bad_clips:
        return Decision(False, f"Not retrained: {because}.", reasons)
    if speaking:
        return Decision(False, f"Not retrained, though {speaking}: {because}.", reasons)
    return Decision(False, "Nothing to do: no rule is a reason to retrain.", reasons)


def situation_of(project: Project, gate: GateSettings, by_hand: bool = False, now: datetime | None = None) -> Situation:
    """The situation of a project whose clips are ingested, validated and compared.

    Raises `StorageError` or `GraphError` where a report or an artifact is missing, `LedgerBroken` where the ledger is.
    """
    checked, compared = read_mapping(project.root / VALIDATION), _drift_report(project)
    entries = ledger.read(project.git)
    trials = judged_trials(entries)
    before = clips_of_last_trial(project, trials)
    index = project.root / project.artifact(CLIPS) / INDEX
    current = _clips(read_table(index, "make what is to be decided on with `dvc repro validate drift`"))
    known = None if before is None else _clips(before)
    trial, _ = next_pin(project, entries, gate, None)
    same = [judged for judged in trials if judged.trial.candidate == trial.candidate]
    failed = tuple(check["name"] for check in checked.get("checks", []) if not check["passed"])
    return Situation(
        now=now or datetime.now(UTC),
        by_hand=by_hand,
        failed_checks=() if checked.get("passed") is True else failed or ("no verdict",),
        new_clips=None if known is None else len(current - known),
        removed_clips=None if known is None else len(known - current),
        drifted=compared["drifted"],
        drift_reason=compared["reason"],
        champion_since=_champion_since(project),
        new_recipe=bool(trials) and trials[0].trial.recipe != trial.recipe,
        earlier_trial=f"comparison {same[0].trial.comparison} ({same[0].verdict})" if same else None,
    )


def _drift_report(project: Project) -> dict[str, Any]:
    if not (project.root / DRIFT).is_file():
        return {"drifted": None, "reason": "this graph compares no footage"}
    return read_mapping(project.root / DRIFT, drifted=(bool, type(None)), reason=str)


def _clips(index: Any) -> set[tuple[Any, ...]]:
    """The training clips by what they show and say, whatever their ids."""
    training = index[index["split"] == "train"]
    return set(training[list(_CLIP)].itertuples(index=False, name=None))


def _champion_since(project: Project) -> datetime | None:
    """When the champion's stage tag was written."""
    production = champion(project)
    if production is None:
        return None
    written = project.git.git("for-each-ref", "--format=%(creatordate:unix)", f"refs/tags/{production.tag}")
    return datetime.fromtimestamp(int(written), UTC)


def _reason_if(holds: bool) -> Effect:
    return "retrain" if holds else "no reason"


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _on(setting: bool) -> str:
    return "on" if setting else "off"
