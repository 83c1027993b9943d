"""Attempts: a comparison enters the ledger before its result is seen, and its verdict after.

`offer` enters the next attempt (how much alpha, which noise, which data, settings and code) and writes
`data/production.json`, from which the run takes all of it. `due` says what the ledger still lacks once the run has its
verdict, and refuses when the ledger has moved, or when the candidate is not the one that was entered: twenty runs by
hand are not twenty free looks.

**Comparison 1 without a ledger.** What ships is a pin of its own: `make demo` needs no ledger, and the first promotion
(or `onestep ledger record`) begins one with both entries at once. That attempt is entered after its result was seen, and
yet its alpha is honest as far as it goes: alpha, seed and judge stand in a committed file that is older than any run,
alpha is the first that the spending rule gives whatever happened, and there is no champion that could be replaced by
mistake. What it cannot show is how many candidates were tried and dropped before the first ledger entry; whoever wants
those counted runs `onestep ledger offer` first.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onestep.core.storage import sha256_file, sha256_folder, write_json
from onestep.core.yaml_files import plain, read_yaml
from onestep.gate.pin import Pin, read_pin
from onestep.gate.settings import GateSettings
from onestep.gate.spending import alpha_after
from onestep.gate.verdict import VERDICT, read_verdict
from onestep.provenance import ledger
from onestep.provenance.ledger import Attempt, Content, Entry, LedgerMoved, Override, Promotion, Verdict, of_kind
from onestep.registry.champion import CLIPS, INDEX, MODEL, champion
from onestep.vcs import graph
from onestep.vcs.git import GitError, Repository

PIN = "data/production.json"
PARAMS = "params.yaml"
FIRST_SEED = 99  # of comparison 1: the noise that the shipped baselines were measured with


class AttemptRefused(RuntimeError):
    """A comparison may not be entered or closed; one sentence says why and what to do."""

    exit_code = 5


def seed_of(comparison: int) -> int:
    """The seed of a comparison's noise and prompts: new for each, and the same for everybody who computes it again."""
    if comparison == 1:
        return FIRST_SEED
    return int.from_bytes(hashlib.sha256(f"onestep comparison {comparison}".encode()).digest()[:4])


def params_sha256(content: Any) -> str:
    """What an attempt calls its settings: the sha256 of all of params.yaml, parsed, whatever its order and comments."""
    return hashlib.sha256(json.dumps(plain(content), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def outcomes(entries: Sequence[Entry]) -> list[bool]:
    """For each attempt in order, whether the gate's own verdict led to a promotion: that is what brings wealth back."""
    promoted = {entry.comparison for entry in of_kind(entries, Promotion)}
    allowed = {entry.comparison for entry in of_kind(entries, Verdict) if entry.verdict == "promote"}
    return [attempt.comparison in promoted & allowed for attempt in of_kind(entries, Attempt)]


def next_pin(root: Path, entries: Sequence[Entry], settings: GateSettings, judge: str | None) -> tuple[Attempt, Pin]:
    """The attempt that comes after these entries, and the pin to go with it (its `ledger` is still the head before)."""
    attempts = list(of_kind(entries, Attempt))
    now = champion(root)
    comparison = len(attempts) + 1
    attempt = _attempt_of(root, comparison, alpha_after(outcomes(entries), settings), now.version_tag if now else None)
    pin = Pin.model_validate(
        {
            "champion": {"tag": now.version_tag, "sha256": now.sha256} if now else None,
            "ledger": ledger.head_of(entries),
            "comparison": comparison,
            "alpha": attempt.alpha,
            "seed": attempt.seed,
            "judge": judge,
            "last_data": attempts[-1].data if attempts else None,
        }
    )
    return attempt, pin


def offer(root: Path, settings: GateSettings, judge: str | None, only_if_changed: bool = False) -> Pin | None:
    """Enter the next attempt in the ledger and write `data/production.json`; the attempt's alpha is spent from here on.

    judge: sha256 of the judge's folder that the run must be measured with, null = any. only_if_changed: do nothing and
    return null where data, settings, code and champion are those of the last attempt. Raises `AttemptRefused` when the
    clips are not there yet, and what `ledger.append` raises.
    """
    repository = Repository(root)
    entries = ledger.read(repository)
    attempt, pin = next_pin(root, entries, settings, judge)
    last = next(iter([*of_kind(entries, Attempt)][-1:]), None)
    if only_if_changed and last is not None and _made_of(last) == _made_of(attempt):
        return None
    after = ledger.append(repository, attempt, expected=ledger.head_of(entries))
    pin = pin.model_copy(update={"ledger": ledger.head_of(after)})
    write_json(root / PIN, pin.content())
    return pin


def due(root: Path, entries: Sequence[Entry], run: str | None = None, verdict: str = VERDICT) -> list[Content]:
    """What the ledger lacks of the run in the working copy: nothing, its verdict, or attempt and verdict of the first.

    Raises `LedgerMoved` when something else was entered since the run was offered its comparison, `AttemptRefused` when
    the run is not the one that was entered or has another verdict already.
    """
    pin = read_pin(root / PIN)
    said = read_verdict(root, verdict)
    closing = Verdict(
        run=run,
        comparison=pin.comparison,
        verdict=said["verdict"],
        reason=said["reason"],
        verdict_sha256=sha256_file(root / verdict),
        model_sha256=sha256_folder(root / graph.artifact_path(Repository(root), MODEL)),
    )
    champion_tag = pin.champion.tag if pin.champion else None
    candidate = _attempt_of(root, pin.comparison, pin.alpha, champion_tag, pin.seed)
    if not entries:
        if pin.comparison != 1 or pin.ledger != ledger.GENESIS:
            remote = Repository(root).remote()
            raise LedgerMoved(f"{PIN} belongs to a ledger that is not here: run git fetch {remote} ledger:ledger")
        return [candidate.model_copy(update={"run": run}), closing]
    _require_current(entries, pin)
    entered = next(a for a in of_kind(entries, Attempt) if a.comparison == pin.comparison)
    for field in ("alpha", "seed", "champion", "data", "params", "code"):
        if getattr(entered, field) != getattr(candidate, field):
            raise AttemptRefused(
                f"{_WHAT[field]} changed since comparison {pin.comparison} was entered in the ledger, so this is another "
                "candidate: run onestep ledger offer and dvc repro"
            )
    known = next((v for v in of_kind(entries, Verdict) if v.comparison == pin.comparison), None)
    if known is None:
        return [closing]
    if (known.verdict_sha256, known.model_sha256) != (closing.verdict_sha256, closing.model_sha256):
        raise AttemptRefused(
            f"comparison {pin.comparison} has another verdict in the ledger ({known.verdict}) than {verdict}: one attempt, "
            "one verdict; run onestep ledger offer and dvc repro"
        )
    return []


def record(root: Path, run: str | None = None, verdict: str = VERDICT) -> list[Entry]:
    """Enter the verdict of the working copy's run, whatever it is; the entries after it. Raises what `due` raises."""
    repository = Repository(root)
    entries = ledger.read(repository)
    lacking = due(root, entries, run, verdict)
    return ledger.append(repository, *lacking, expected=ledger.head_of(entries)) if lacking else entries


def override(root: Path, word: str, reason: str, verdict: str = VERDICT) -> list[Entry]:
    """Enter a person's verdict on the run in the working copy, after the gate's own; no wealth comes back for it.

    word: `promote` or `reject`. Raises `AttemptRefused` without a reason or a name, and what `due` raises.
    """
    repository = Repository(root)
    if not reason.strip():
        raise AttemptRefused("an override needs its reason: say why the gate's verdict shall not stand")
    entries = ledger.read(repository)
    said = Override.model_validate(
        {
            "comparison": read_pin(root / PIN).comparison,
            "verdict": word,
            "reason": reason.strip(),
            "person": _person(repository),
        }
    )
    return ledger.append(repository, *due(root, entries, None, verdict), said, expected=ledger.head_of(entries))


_WHAT = {
    "alpha": f"alpha in {PIN}",
    "seed": f"the seed in {PIN}",
    "champion": f"the champion in {PIN}",
    "data": "the clips",
    "params": PARAMS,
    "code": "code or environment",
}


def _require_current(entries: Sequence[Entry], pin: Pin) -> None:
    """Raise `LedgerMoved` unless all that came after the pin's attempt belongs to its own comparison."""
    again = "run onestep ledger offer and dvc repro"
    if pin.ledger == ledger.GENESIS:  # comparison 1 without a ledger: its attempt was entered with its verdict
        place: int | None = 0
    else:
        place = next((i for i, entry in enumerate(entries) if entry.sha256 == pin.ledger), None)
    if place is None:
        raise LedgerMoved(f"the ledger has no entry with the head {pin.ledger[:12]} of {PIN}: {again}")
    opened = entries[place].content
    if not isinstance(opened, Attempt) or opened.comparison != pin.comparison:
        raise LedgerMoved(
            f"the head {pin.ledger[:12]} of {PIN} is not the attempt of comparison {pin.comparison}: {again}"
        )
    for entry in entries[place + 1 :]:
        if getattr(entry.content, "comparison", None) != pin.comparison or isinstance(entry.content, Promotion):
            raise LedgerMoved(
                f"the ledger has moved: entry {entry.index} ({entry.kind}) came after comparison {pin.comparison} was "
                f"offered; {again}"
            )


def _attempt_of(
    root: Path, comparison: int, alpha: float, champion_tag: str | None, seed: int | None = None
) -> Attempt:
    return Attempt(
        comparison=comparison,
        alpha=alpha,
        seed=seed_of(comparison) if seed is None else seed,
        champion=champion_tag,
        data=_data(root),
        params=_params(root),
        code=_code(root),
    )


def _made_of(attempt: Attempt) -> tuple[str | None, ...]:
    return attempt.data, attempt.params, attempt.code, attempt.champion


def _data(root: Path) -> str:
    """The clips by their index, which holds the sha256 of every source file and each clip's window in it."""
    index = root / graph.artifact_path(Repository(root), CLIPS) / INDEX
    if not index.is_file():
        raise AttemptRefused(
            f"{index} does not exist: run dvc repro validate first, so that the attempt names its data"
        )
    return sha256_file(index)


def _params(root: Path) -> str:
    return params_sha256(read_yaml(root / PARAMS))


def _code(root: Path) -> str:
    files = {path: sha256_file(root / path) for path in graph.code_files(root) if path != PIN}
    return hashlib.sha256(json.dumps(files, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _person(repository: Repository) -> str:
    try:
        return f"{repository.git('config', 'user.name')} <{repository.git('config', 'user.email')}>"
    except GitError as error:
        raise AttemptRefused("an override carries a name: set git config user.name and user.email") from error
