"""Trials: a comparison enters the ledger before its result is seen, and its verdict after.

`offer` enters the next trial (how much alpha, which noise, which data, settings and code) and writes
`data/production.json`, from which the run takes all of it. `due` says what the ledger still lacks once the run has its
verdict, and refuses when the ledger has moved, or when the candidate is not the one that was entered: twenty runs by
hand are not twenty free looks.

**Comparison 1 without a ledger.** What ships is a pin of its own: `make demo` needs no ledger, and the first promotion
(or `onestep ledger close`) begins one with both entries at once. That trial is entered after its result was seen, and
yet its alpha is honest as far as it goes: alpha, seed and judge stand in a committed file that is older than any run,
alpha is the first that the spending rule gives whatever happened, and there is no champion that could be replaced by
mistake. What it cannot show is how many candidates were tried and dropped before the first ledger entry; to count
those, run `onestep ledger offer` first.
"""

import hashlib
from collections.abc import Sequence

from onestep.core.paths import CLIPS, MODEL, PARAMS, PIN, VERDICT
from onestep.core.storage import sha256_file, sha256_folder, write_json
from onestep.data.schema import INDEX
from onestep.gate.pin import Pin, read_pin
from onestep.gate.settings import GateSettings
from onestep.gate.spending import alpha_after
from onestep.gate.verdict import read_verdict
from onestep.provenance import ledger
from onestep.provenance.entries import GENESIS, Content, Entry, Override, Promotion, Trial, Verdict, head_of, of_kind
from onestep.provenance.ledger import LedgerMoved
from onestep.registry.champion import champion, pinned_as
from onestep.registry.fingerprint import code_sha256, params_sha256
from onestep.vcs.git import GitError, Repository
from onestep.vcs.graph import inputs_of
from onestep.vcs.project import Project

FIRST_SEED = 99  # of comparison 1: the noise that the shipped baselines were measured with


class TrialRefused(RuntimeError):
    """A comparison may not be entered or closed; one sentence says why and what to do."""

    exit_code = 5


def seed_of(comparison: int) -> int:
    """The seed of a comparison's noise and prompts: new for each, and the same whenever it is computed again."""
    if comparison == 1:
        return FIRST_SEED
    return int.from_bytes(hashlib.sha256(f"onestep comparison {comparison}".encode()).digest()[:4])


def promoted_by_gate(entries: Sequence[Entry]) -> list[bool]:
    """For each trial in order, whether the gate's own verdict led to a promotion: that is what brings wealth back."""
    promoted = {entry.comparison for entry in of_kind(entries, Promotion)}
    allowed = {entry.comparison for entry in of_kind(entries, Verdict) if entry.verdict == "promote"}
    return [trial.comparison in promoted & allowed for trial in of_kind(entries, Trial)]


def next_pin(
    project: Project, entries: Sequence[Entry], settings: GateSettings, judge: str | None
) -> tuple[Trial, Pin]:
    """The trial that comes after these entries, and the pin to go with it (its `ledger` is still the head before)."""
    trials = list(of_kind(entries, Trial))
    now = champion(project)
    comparison, alpha = len(trials) + 1, alpha_after(promoted_by_gate(entries), settings)
    trial = _trial(project, comparison, alpha, seed_of(comparison), now.version_tag if now else None)
    pin = Pin(
        champion=pinned_as(now),
        ledger=head_of(entries),
        comparison=comparison,
        alpha=alpha,
        seed=trial.seed,
        judge=judge,
        last_data=trials[-1].data if trials else None,
    )
    return trial, pin


def offer(project: Project, settings: GateSettings, judge: str | None, only_if_changed: bool = False) -> Pin | None:
    """Enter the next trial in the ledger and write `data/production.json`; the trial's alpha is spent from here on.

    judge: sha256 of the judge's folder that the run must be measured with, null = any. only_if_changed: do nothing and
    return null where data, settings, code and champion are those of the last trial. Raises `TrialRefused` when the
    clips are not there yet, and what `ledger.append` raises.
    """
    entries = ledger.read(project.git)
    trial, pin = next_pin(project, entries, settings, judge)
    last = next(iter([*of_kind(entries, Trial)][-1:]), None)
    if only_if_changed and last is not None and last.question == trial.question:
        return None
    after = ledger.append(project.git, trial, expected=head_of(entries))
    pin = pin.model_copy(update={"ledger": head_of(after)})
    write_json(project.root / PIN, pin.content())
    return pin


def due(project: Project, entries: Sequence[Entry], run: str | None = None, verdict: str = VERDICT) -> list[Content]:
    """What the ledger lacks of the run in the working copy: nothing, its verdict, or trial and verdict of the first.

    Raises `LedgerMoved` when something else was entered since the run was offered its comparison, `TrialRefused` when
    the run is not the one that was entered or has another verdict already.
    """
    pin = read_pin(project.root / PIN)
    closing = _closing(project, pin, run, verdict)
    champion_tag = pin.champion.tag if pin.champion else None
    candidate = _trial(project, pin.comparison, pin.alpha, pin.seed, champion_tag, verdict)
    if not entries:
        if pin.comparison != 1 or pin.ledger != GENESIS:
            raise LedgerMoved(
                f"{PIN} belongs to a ledger that is not here: run git fetch {project.git.remote()} ledger:ledger"
            )
        return [candidate.model_copy(update={"run": run}), closing]
    _require_current(entries, pin)
    _require_entered(entries, candidate)
    known = next((v for v in of_kind(entries, Verdict) if v.comparison == pin.comparison), None)
    if known is None:
        return [closing]
    if (known.verdict_sha256, known.model_sha256) != (closing.verdict_sha256, closing.model_sha256):
        raise TrialRefused(
            f"comparison {pin.comparison} has another verdict in the ledger ({known.verdict}) than {verdict}: one trial, "
            "one verdict; run onestep ledger offer and dvc repro"
        )
    return []


def close(project: Project, run: str | None = None, verdict: str = VERDICT) -> list[Entry]:
    """Enter the verdict of the working copy's run, whatever it is; the entries after it. Raises what `due` raises."""
    entries = ledger.read(project.git)
    lacking = due(project, entries, run, verdict)
    return ledger.append(project.git, *lacking, expected=head_of(entries)) if lacking else entries


def override(project: Project, word: str, reason: str, verdict: str = VERDICT) -> list[Entry]:
    """Enter a person's verdict on the run in the working copy, after the gate's own; no wealth comes back for it.

    word: `promote` or `reject`. Raises `TrialRefused` without a reason or a name, and what `due` raises.
    """
    if not reason.strip():
        raise TrialRefused("an override needs its reason: say why the gate's verdict shall not stand")
    entries = ledger.read(project.git)
    said = Override.model_validate(
        {
            "comparison": read_pin(project.root / PIN).comparison,
            "verdict": word,
            "reason": reason.strip(),
            "person": _person(project.git),
        }
    )
    lacking = due(project, entries, None, verdict)
    return ledger.append(project.git, *lacking, said, expected=head_of(entries))


_WHAT = {
    "alpha": f"alpha in {PIN}",
    "seed": f"the seed in {PIN}",
    "champion": f"the champion in {PIN}",
    "data": "the clips",
    "params": PARAMS,
    "code": "code or environment",
}


def _require_entered(entries: Sequence[Entry], candidate: Trial) -> None:
    """Raise `TrialRefused` unless the candidate is the one that its comparison was entered for."""
    entered = next(trial for trial in of_kind(entries, Trial) if trial.comparison == candidate.comparison)
    for field, what in _WHAT.items():
        if getattr(entered, field) != getattr(candidate, field):
            raise TrialRefused(
                f"{what} changed since comparison {candidate.comparison} was entered in the ledger, so this is another "
                "candidate: run onestep ledger offer and dvc repro"
            )


def _require_current(entries: Sequence[Entry], pin: Pin) -> None:
    """Raise `LedgerMoved` unless all that came after the pin's trial belongs to its own comparison."""
    again = "run onestep ledger offer and dvc repro"
    if pin.ledger == GENESIS:  # comparison 1 without a ledger: its trial was entered with its verdict
        place: int | None = 0
    else:
        place = next((i for i, entry in enumerate(entries) if entry.sha256 == pin.ledger), None)
    if place is None:
        raise LedgerMoved(f"the ledger has no entry with the head {pin.ledger[:12]} of {PIN}: {again}")
    opened = entries[place].content
    if not isinstance(opened, Trial) or opened.comparison != pin.comparison:
        raise LedgerMoved(
            f"the head {pin.ledger[:12]} of {PIN} is not the trial of comparison {pin.comparison}: {again}"
        )
    for entry in entries[place + 1 :]:
        if getattr(entry.content, "comparison", None) != pin.comparison or isinstance(entry.content, Promotion):
            raise LedgerMoved(
                f"the ledger has moved: entry {entry.index} ({entry.kind}) came after comparison {pin.comparison} was "
                f"offered; {again}"
            )


def _trial(
    project: Project, comparison: int, alpha: float, seed: int, champion_tag: str | None, verdict: str = VERDICT
) -> Trial:
    """The trial of the candidate that the working copy makes."""
    inputs = inputs_of(project, verdict)
    return Trial(
        comparison=comparison,
        alpha=alpha,
        seed=seed,
        champion=champion_tag,
        data=_data(project),
        params=params_sha256(project, inputs),
        code=code_sha256(project, inputs),
    )


def _closing(project: Project, pin: Pin, run: str | None, verdict: str) -> Verdict:
    """The entry that closes the pin's comparison with the verdict in the working copy."""
    said = read_verdict(project.root / verdict)
    return Verdict(
        run=run,
        comparison=pin.comparison,
        verdict=said["verdict"],
        reason=said["reason"],
        verdict_sha256=sha256_file(project.root / verdict),
        model_sha256=sha256_folder(project.root / project.artifact(MODEL)),
    )


def _data(project: Project) -> str:
    """The clips by their index, which holds the sha256 of every source file and each clip's window in it."""
    index = project.root / project.artifact(CLIPS) / INDEX
    if not index.is_file():
        raise TrialRefused(f"{index} does not exist: run dvc repro validate first, so that the trial names its data")
    return sha256_file(index)


def _person(repository: Repository) -> str:
    try:
        return f"{repository.git('config', 'user.name')} <{repository.git('config', 'user.email')}>"
    except GitError as error:
        raise TrialRefused("an override carries a name: set git config user.name and user.email") from error
