"""`onestep lineage diff`: which footage, parameters, code and environment differ between two models, and what moved."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from onestep.core.paths import LOCK, METRICS, PARAMS
from onestep.provenance.record import Record, RecordError
from onestep.provenance.store import Found, find, manifest, sources
from onestep.vcs.git import GitError
from onestep.vcs.project import Project

CODE = (".py", ".j2", ".yaml", ".yml", ".toml", ".txt", ".cfg", ".sh")


@dataclass(frozen=True)
class Change:
    """One thing that differs: null where only one side has it."""

    what: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Differences:
    """What differs from A to B, by kind; a kind without differences is empty."""

    before: str
    after: str
    footage: list[Change]
    params: list[Change]
    code: list[Change]
    inputs: list[Change]
    environment: list[Change]
    outputs: list[Change]
    metrics: list[Change]


def diff(project: Project, a: str, b: str) -> Differences:
    """Compare the records of two models; raises `NoRecord`."""
    first, second = find(project, a), find(project, b)
    one, other = first.record, second.record
    code_a, code_b = _code(one), _code(other)
    return Differences(
        first.title,
        second.title,
        _changes(_footage(project, first), _footage(project, second)),
        _changes(_params(one), _params(other)),
        _changes(code_a, code_b),
        _changes(_inputs(one) - code_a.keys(), _inputs(other) - code_b.keys()),
        _changes(_environment(one), _environment(other)),
        _changes(_outs(one), _outs(other)),
        _changes(_metrics(project, one), _metrics(project, other)),
    )


def flattened(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of nested content by its dotted name."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from flattened(inner, f"{where}.{key}" if where else str(key))
    else:
        yield where, value


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[Change]:
    return [
        Change(key, before.get(key), after.get(key))
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]


class _Named(dict[str, str]):
    """A mapping that can lose keys by subtraction."""

    def __sub__(self, keys: Any) -> "_Named":
        return _Named({key: value for key, value in self.items() if key not in keys})


def _footage(project: Project, found: Found) -> dict[str, str]:
    """Source files by sha256; without a readable index of clips, the files of what the first stages made."""
    if rows := sources(project, found):
        return {row["source"]: row["sha256"] or f"quarantined: {', '.join(row['quarantined'])}" for row in rows}
    first = {
        out.path for stage in found.record.stages if not _reads_outs(found.record, stage.name) for out in stage.outs
    }
    return {
        row["path"]: row["sha256"]
        for row in manifest(project, found)
        if any(row["path"] == path or row["path"].startswith(f"{path}/") for path in first)
    }


def _reads_outs(record: Record, name: str) -> bool:
    stage = record.stage(name)
    return stage is not None and any(record.producer(dep.path) for dep in stage.deps)


def _params(record: Record) -> dict[str, str]:
    merged: dict[str, Any] = {}
    for stage in record.stages:
        merged |= stage.params
    return {key: json.dumps(value) for key, value in flattened(merged)}


def _code(record: Record) -> dict[str, str]:
    """What git keeps and no stage made: code and the graph; settings and pins are compared elsewhere."""
    made = record.outs().keys()
    skipped = {PARAMS, LOCK, record.environment.lock}
    return {
        path: sha256
        for path, sha256 in record.in_git.items()
        if path.endswith(CODE) and path not in skipped and record.producer(path) is None and path not in made
    }


def _inputs(record: Record) -> _Named:
    """What the stages read that no stage made and that is no code: pins, fetched folders, shipped measurements."""
    deps = [dep for stage in record.stages for dep in stage.deps if record.producer(dep.path) is None]
    skipped = {record.environment.lock}
    return _Named({dep.path: dep.sha256 or dep.md5 or "" for dep in deps if dep.path not in skipped})


def _environment(record: Record) -> dict[str, str]:
    found = {"python": record.environment.python, "platform": record.environment.platform}
    found |= {record.environment.lock: record.environment.lock_sha256 or ""}
    found |= {"cpu": record.hardware.cpu, "cores": str(record.hardware.cores), "gpus": ", ".join(record.hardware.gpus)}
    found |= {f"threads: {name}": str(count) for name, count in record.threads.items()}
    return found | {f"package {name}": version for name, version in record.environment.packages.items()}


def _outs(record: Record) -> dict[str, str]:
    return {path: item.sha256 or item.md5 or "" for path, item in record.outs().items()}


def _metrics(project: Project, record: Record) -> dict[str, str]:
    """The numbers of every model in the metrics file at the run's commit."""
    try:
        content = json.loads(project.git.read(record.run_commit, METRICS))
    except (GitError, ValueError) as error:
        raise RecordError(f"{METRICS} of run {record.run} cannot be read: {error}") from error
    values = {}
    for name, value in flattened(content.get("models", {})):
        if isinstance(value, int | float) and not name.endswith((".low", ".high")):
            values[name.removesuffix(".value")] = f"{value:.6g}"
    return values
