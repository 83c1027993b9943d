"""The ledger's entries: what each kind says, how it stands in the file, and what may follow what.

Each line of the file is an entry in canonical JSON (sorted keys, no spaces), and `previous` is the sha256 of the line
before: an entry that is edited, removed or moved breaks the chain.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from onestep.core.values import Sha256
from onestep.gate.pin import VersionTag

GENESIS = "0" * 64

Comparison = Annotated[int, Field(ge=1)]
Sentence = Annotated[str, Field(min_length=1)]


class LedgerBroken(RuntimeError):
    """The ledger is not the chain that was written; `index` is the first bad entry, counted from 1."""

    exit_code = 6

    def __init__(self, index: int, reason: str) -> None:
        """index: of the first bad entry; reason: what is wrong with it."""
        super().__init__(f"the ledger is broken at entry {index}: {reason}")
        self.index = index


class LedgerError(ValueError):
    """An entry may not be appended: it does not follow from those before it."""


class _Content(BaseModel):
    """What a kind of entry says; `run` is the id of `runs/<id>`, null where it is not known yet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str | None = None


class Trial(_Content):
    """A comparison that is about to be made, entered before its result exists; `attempt` in the file."""

    kind: Literal["attempt"] = "attempt"
    comparison: Comparison
    alpha: Annotated[float, Field(ge=0, lt=1)]
    seed: int
    champion: VersionTag | None
    data: Sha256 | None
    params: Sha256
    code: Sha256

    @property
    def candidate(self) -> tuple[str | None, str, str]:
        """What the candidate is made of: the fingerprints of data, settings and code."""
        return self.data, *self.recipe

    @property
    def recipe(self) -> tuple[str, str]:
        """How it is made from the data: the fingerprints of settings and code."""
        return self.params, self.code

    @property
    def question(self) -> tuple[str | None, ...]:
        """What a trial asks: this candidate against this champion."""
        return *self.candidate, self.champion


class Verdict(_Content):
    """What the gate said of a comparison's candidate: sha256 of `verdict.json` and of the model's folder."""

    kind: Literal["verdict"] = "verdict"
    comparison: Comparison
    verdict: Literal["promote", "hold", "reject"]
    reason: Sentence
    verdict_sha256: Sha256
    model_sha256: Sha256


class Override(_Content):
    """A person's verdict, which stands in the place of the gate's."""

    kind: Literal["override"] = "override"
    comparison: Comparison
    verdict: Literal["promote", "reject"]
    reason: Sentence
    person: Sentence


class Promotion(_Content):
    """A model went into production; `record` is the sha256 of its signed record, where it has one."""

    kind: Literal["promotion"] = "promotion"
    comparison: Comparison
    tag: VersionTag
    model_sha256: Sha256
    replaces: VersionTag | None
    record: Sha256 | None = None


class Rollback(_Content):
    """An earlier version went into production again."""

    kind: Literal["rollback"] = "rollback"
    tag: VersionTag
    model_sha256: Sha256
    replaces: VersionTag | None
    reason: Sentence
    record: Sha256 | None = None


Content = Trial | Verdict | Override | Promotion | Rollback
_CONTENT: TypeAdapter[Content] = TypeAdapter(Annotated[Content, Field(discriminator="kind")])


class _Link(BaseModel):
    """An entry's place in the chain."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: Annotated[int, Field(ge=1)]
    previous: Sha256
    time: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$")]


@dataclass(frozen=True)
class Entry:
    """One line: its place in the chain, when it was written (UTC, ISO 8601), and what it says."""

    index: int
    previous: str
    time: str
    content: Content

    @property
    def kind(self) -> str:
        """`attempt`, `verdict`, `override`, `promotion` or `rollback`."""
        return self.content.kind

    @property
    def line(self) -> str:
        """The entry as it stands in the file, without the newline."""
        link = {"index": self.index, "previous": self.previous, "time": self.time}
        return json.dumps(link | self.content.model_dump(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @property
    def sha256(self) -> str:
        """What the next entry's `previous` says, and what a tag carries as the head."""
        return hashlib.sha256(self.line.encode()).hexdigest()


def head_of(entries: Sequence[Entry]) -> str:
    """The head of entries in hand."""
    return entries[-1].sha256 if entries else GENESIS


def next_entry(entries: Sequence[Entry], content: Content, time: str) -> Entry:
    """The entry that says this after all others; raises `LedgerError` when it does not follow from them."""
    _require_follows(content, entries)
    link = _Link(index=len(entries) + 1, previous=head_of(entries), time=time)
    return Entry(link.index, link.previous, link.time, content)


def of_kind(entries: Sequence[Entry], kind: type[BaseModel]) -> Iterator[Any]:
    """The contents of one kind, in order."""
    return (entry.content for entry in entries if isinstance(entry.content, kind))


def standing_verdict(entries: Sequence[Entry], comparison: int) -> Verdict | Override | None:
    """What holds of a comparison: a person's last override, else the gate's verdict, null before there is any."""
    said = [c for kind in (Verdict, Override) for c in of_kind(entries, kind) if c.comparison == comparison]
    return said[-1] if said else None


def chained(lines: Sequence[str]) -> list[Entry]:
    """The entries of the file's lines; raises `LedgerBroken` where they are not the chain that was written."""
    parsed: list[Entry] = []
    for number, line in enumerate(lines, start=1):
        parsed.append(_parse(number, line))
    places = [entry.index for entry in parsed]
    before = GENESIS
    for number, entry in enumerate(parsed, start=1):
        if entry.index != number:
            how = "entries were reordered" if number in places else "it was removed"
            raise LedgerBroken(number, f"{how}: entry {entry.index} stands in its place")
        if entry.previous != before:
            if number == 1:
                raise LedgerBroken(1, "it was edited: the first entry has no entry before it")
            raise LedgerBroken(number - 1, f"it was edited: entry {number} follows one with sha256 {entry.previous}")
        before = entry.sha256
    return parsed


def _parse(number: int, line: str) -> Entry:
    try:
        raw = json.loads(line)
    except json.JSONDecodeError as error:
        raise LedgerBroken(number, f"it is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise LedgerBroken(number, "it is not a JSON object")
    try:
        link = _Link.model_validate({key: raw.pop(key) for key in _Link.model_fields if key in raw})
        entry = Entry(link.index, link.previous, link.time, _CONTENT.validate_python(raw))
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"])) or "kind"
        raise LedgerBroken(number, f"it was edited: {key}: {problem['msg']}") from error
    if entry.line != line:
        raise LedgerBroken(number, "it was edited: it is not in canonical JSON")
    return entry


def _require_follows(content: Content, entries: Sequence[Entry]) -> None:
    trials = [trial.comparison for trial in of_kind(entries, Trial)]
    if isinstance(content, Trial):
        if content.comparison != len(trials) + 1:
            raise LedgerError(f"comparison {content.comparison} cannot follow {len(trials)} trials")
    elif isinstance(content, Verdict | Override | Promotion):
        if content.comparison not in trials:
            raise LedgerError(f"the {content.kind} of comparison {content.comparison} has no trial in the ledger")
        if isinstance(content, Promotion):
            standing = standing_verdict(entries, content.comparison)
            if standing is None or standing.verdict != "promote":
                word = "none" if standing is None else standing.verdict
                raise LedgerError(
                    f"comparison {content.comparison} may not be promoted: its standing verdict is {word}"
                )
        if isinstance(content, Verdict):
            known = next((v for v in of_kind(entries, Verdict) if v.comparison == content.comparison), None)
            if known is not None:
                raise LedgerError(
                    f"comparison {content.comparison} has its verdict already ({known.verdict}): one trial, one verdict; "
                    "run onestep ledger offer before another candidate"
                )
