"""What a model's record says, and how it is written: an in-toto statement with a SLSA provenance predicate.

The subjects are the model's files by sha256. `internalParameters` of the predicate is the whole record; everything else
in the statement is drawn from it, and a statement that says anything else is refused.

Sources: in-toto Statement v1 (https://in-toto.io/Statement/v1), SLSA provenance v1 (https://slsa.dev/provenance/v1).
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from onestep.core.paths import RECORDS
from onestep.core.values import Sha256

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:onestep:dvc-graph:v1"
BUILDER = "urn:onestep:record"

Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40,64}$")]


class RecordError(RuntimeError):
    """A record cannot be read, or contradicts itself; the message names the key."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Item(_Part):
    """A dependency or output of a stage, a file or a folder (then `files` counts), and who keeps its bytes.

    `sha256` of a folder is that of its listing (`sha256_of`); it is null for what lies outside, behind a URL.
    """

    path: str
    md5: str | None = None
    sha256: Sha256 | None = None
    size: int | None = None
    files: int | None = None
    kept: Literal["git", "dvc", "outside"]


class StageRecord(_Part):
    """One stage as it ran: what it was told, what it read, what it made."""

    name: str
    cmd: str | None
    params: dict[str, Any]
    deps: list[Item]
    outs: list[Item]


class Environment(_Part):
    """What the run could import: the interpreter, the lock, and what was really installed."""

    python: str
    platform: str
    lock: str
    lock_sha256: Sha256 | None
    packages: dict[str, str]


class Hardware(_Part):
    """The machine that the record was written on."""

    cpu: str
    cores: int
    memory_bytes: int
    gpus: list[str]


class Licence(_Part):
    """The licence that `dvc.yaml` states for one of its artifacts, null where it states none."""

    artifact: str
    path: str
    kind: str | None
    licence: str | None
    source: str | None


class VerdictRecord(_Part):
    """What the gate said: `path` and sha256 of its file, and each rule's outcome."""

    path: str
    sha256: Sha256
    verdict: str
    reason: str
    rules: dict[str, str]


class ValidationRecord(_Part):
    """What the check of the clips said."""

    path: str
    sha256: Sha256
    passed: bool


class Record(_Part):
    """All that is known of one run of the graph, from footage to weights."""

    model: str
    path: str
    sha256: Sha256
    files: dict[str, Sha256]
    run: str
    source_commit: Commit
    run_commit: Commit
    dirty: list[str]
    stages: list[StageRecord]
    in_git: dict[str, Sha256]
    manifest_sha256: Sha256
    sources_sha256: Sha256
    environment: Environment
    hardware: Hardware
    threads: dict[str, int | str]
    seeds: dict[str, int]
    flow_run: str | None
    verdict: VerdictRecord
    validation: ValidationRecord | None
    metrics: dict[str, Any]
    licences: list[Licence]
    ledger_head: Sha256
    recorded_at: str

    def stage(self, name: str) -> StageRecord | None:
        """A stage by name, null where there is none."""
        return next((stage for stage in self.stages if stage.name == name), None)

    def outs(self) -> dict[str, Item]:
        """Every output of every stage by its path."""
        return {item.path: item for stage in self.stages for item in stage.outs}

    def producer(self, path: str) -> StageRecord | None:
        """The stage that makes a path, or the folder that a path is in."""
        for stage in self.stages:
            if any(path == out.path or path.startswith(f"{out.path}/") for out in stage.outs):
                return stage
        return None


def paths(model: str) -> dict[str, str]:
    """Where a run's commit holds the record: the envelope, the manifest of files, and the sources with their clips."""
    return {
        "envelope": f"{RECORDS}/{model}.intoto.json",
        "manifest": f"{RECORDS}/{model}.files.jsonl",
        "sources": f"{RECORDS}/{model}.sources.jsonl",
    }


def sha256_of(listing: Mapping[str, str]) -> str:
    """One sha256 for a folder, from its files' relative paths and sha256; what `storage.sha256_folder` computes."""
    digest = hashlib.sha256()
    for path in sorted(listing):
        if not path.rpartition("/")[2].startswith("."):
            digest.update(f"{path}\0{listing[path]}\n".encode())
    return digest.hexdigest()


def to_lines(rows: list[dict[str, Any]]) -> bytes:
    """Rows as canonical JSON, one to a line: what changed from night to night is then a small difference."""
    return b"".join(json.dumps(row, sort_keys=True, separators=(",", ":")).encode() + b"\n" for row in rows)


def from_lines(content: bytes) -> list[dict[str, Any]]:
    """The rows of such a file."""
    return [json.loads(line) for line in content.splitlines()]


def to_statement(record: Record) -> dict[str, Any]:
    """The in-toto statement of a record."""
    outs = record.outs()
    made = {path for path in outs if outs[path].kept != "outside"}
    inputs = {dep.path: dep for stage in record.stages for dep in stage.deps if dep.path not in made}
    inputs |= {licence.path: outs[licence.path] for licence in record.licences if licence.path in outs}
    inputs.pop(record.path, None)
    return {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": f"{record.path}/{path}" if path else record.path, "digest": {"sha256": digest}}
            for path, digest in sorted(record.files.items())
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "artifact": record.model,
                    "params": {stage.name: stage.params for stage in record.stages if stage.params},
                },
                "internalParameters": record.model_dump(),
                "resolvedDependencies": [
                    {"uri": "git+runs", "name": f"runs/{record.run}", "digest": {"gitCommit": record.run_commit}},
                    *(
                        {"uri": path, "digest": {"sha256": item.sha256} if item.sha256 else {"md5": item.md5 or ""}}
                        for path, item in sorted(inputs.items())
                    ),
                ],
            },
            "runDetails": {
                "builder": {"id": BUILDER},
                "metadata": {
                    "invocationId": record.flow_run or record.run,
                    "finishedOn": record.recorded_at,
                    "onestep_verdict": record.verdict.verdict,
                    "onestep_ledgerHead": record.ledger_head,
                },
                "byproducts": [
                    {"uri": record.verdict.path, "digest": {"sha256": record.verdict.sha256}},
                    {"uri": paths(record.model)["manifest"], "digest": {"sha256": record.manifest_sha256}},
                    {"uri": paths(record.model)["sources"], "digest": {"sha256": record.sources_sha256}},
                ],
            },
        },
    }


def from_statement(statement: Mapping[str, Any]) -> Record:
    """The record of a statement; raises `RecordError` where it is none, or says something that its record does not."""
    try:
        record = Record.model_validate(statement["predicate"]["buildDefinition"]["internalParameters"])
    except ValidationError as error:
        problem = error.errors()[0]
        raise RecordError(f"the record's {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error
    except (KeyError, TypeError) as error:
        raise RecordError(f"the statement holds no record: {error!r} is missing") from error
    rebuilt = to_statement(record)
    for key in ("_type", "subject", "predicateType", "predicate"):
        if statement.get(key) != rebuilt[key]:
            raise RecordError(f"the statement's {key!r} contradicts the record in it")
    return record
