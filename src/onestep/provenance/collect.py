"""What made a model: read from the finished working copy and from git, as a record.

No secrets and no machine paths: of commands, settings and places it holds what is known to be harmless.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from onestep.core.child_environment import FLOW_RUN
from onestep.core.paths import CLIPS, GRAPH, LOCK, VALIDATION
from onestep.core.redaction import MARK, harmless, is_secret, without_secrets
from onestep.core.yaml_files import parse_yaml, plain
from onestep.data.schema import INDEX, LICENCE, QUARANTINE
from onestep.provenance.machine import hardware, recorded_environment, threads
from onestep.provenance.record import (
    Item,
    Licence,
    Record,
    StageRecord,
    ValidationRecord,
    VerdictRecord,
    sha256_of,
    to_lines,
)
from onestep.vcs import blobs, graph
from onestep.vcs.git import Repository
from onestep.vcs.objects import Objects, open_objects
from onestep.vcs.project import Project


@dataclass(frozen=True)
class RunCommits:
    """A run that git knows already: its id, the user's commit, and the commit that holds the run's files."""

    id: str
    source_commit: str
    commit: str


@dataclass(frozen=True)
class Collected:
    """A record and the two files that it names by sha256."""

    record: Record
    manifest: bytes
    sources: bytes


def collect(
    project: Project,
    run: RunCommits,
    model: str,
    verdict: str,
    metrics: str,
    ledger_head: str,
    moment: str,
    flow_run: str | None = None,
) -> Collected:
    """Everything that is known of the finished run in the working copy of `project`.

    Each byte that DVC keeps is read from the cache and hashed anew. Raises `ObjectError` where the cache lacks an
    object or holds another under its name, `GraphError` where `dvc.yaml` has no artifact `model`.
    """
    repository = project.git
    in_git = blobs.sha256s(repository, run.commit, graph.kept_in_git(project))
    with open_objects(project) as objects, project.graph() as repo:
        reader = _Reader(objects, in_git, repo)
        stages = reader.stages()
        sources = _sources(objects, stages, project.artifact(CLIPS))
    path = project.artifact(model)
    files = reader.below(path)
    manifest, listed = to_lines(reader.rows()), to_lines(sources)
    read = _reports(repository, run.commit)
    params = {stage.name: stage.params for stage in stages}
    record = Record(
        model=model,
        path=path,
        sha256=sha256_of(files),
        files=files,
        run=run.id,
        source_commit=run.source_commit,
        run_commit=run.commit,
        dirty=_dirty(repository, run, stages),
        stages=stages,
        in_git=in_git,
        manifest_sha256=hashlib.sha256(manifest).hexdigest(),
        sources_sha256=hashlib.sha256(listed).hexdigest(),
        environment=recorded_environment(in_git),
        hardware=hardware(),
        threads=threads(params),
        seeds=dict(sorted(found for groups in params.values() for found in _named_seeds(groups))),
        flow_run=flow_run or os.environ.get(FLOW_RUN),
        verdict=_verdict(verdict, in_git[verdict], read(verdict)),
        validation=_validation(in_git, read(VALIDATION)),
        metrics=(read(metrics) or {}).get("models", {}).get(model, {}),
        licences=_licences(repository, run.commit),
        ledger_head=ledger_head,
        recorded_at=moment,
    )
    return Collected(record, manifest, listed)


def _verdict(path: str, sha256: str, report: Mapping[str, Any]) -> VerdictRecord:
    rules = {rule["name"]: rule["outcome"] for rule in report["rules"]}
    return VerdictRecord(path=path, sha256=sha256, verdict=report["verdict"], reason=report["reason"], rules=rules)


def _validation(in_git: Mapping[str, str], report: Mapping[str, Any] | None) -> ValidationRecord | None:
    if report is None:
        return None
    return ValidationRecord(path=VALIDATION, sha256=in_git[VALIDATION], passed=bool(report.get("passed")))


def clean(value: Any, name: str = "") -> Any:
    """A setting called `name` as a record holds it, which is JSON: what is harmless of it."""
    return _clean(plain(value), name)


def _clean(value: Any, name: str) -> Any:
    if isinstance(value, str):
        return harmless(value, name)
    if isinstance(value, Mapping):
        return {str(key): _clean(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [_clean(inner, name) for inner in value]
    return MARK if is_secret(name) and value is not None and not isinstance(value, bool) else value


def as_first_recorded(value: Any) -> Any:
    """A command, path or setting as the first records hold it: they left out less. For comparing, never for writing."""
    value = plain(value)
    if isinstance(value, str):
        value = re.sub(r"(\w+://)[^/\s@'\"]+@", r"\1", value)
        value = re.sub(r"(\w+://[^\s?'\"]+)\?[^\s'\"]*", r"\1", value)
        return re.sub(r"(^|[\s='\"])/(?:[^\s'\"/]+/)+([^\s'\"/]*)", r"\1…/\2", value)
    if isinstance(value, Mapping):
        return {str(key): as_first_recorded(inner) for key, inner in value.items()}
    return [as_first_recorded(inner) for inner in value] if isinstance(value, list) else value


def stage_name(stage: Any, top: Path) -> str:
    """How `dvc.lock` and `dvc repro` name a stage from the top, wherever this process stands; an import by its file."""
    path = Path(stage.path).relative_to(top)
    name = getattr(stage, "name", None)
    if name is None:
        return path.as_posix()
    return str(name) if path.parent == Path() else f"{path.as_posix()}:{name}"


class _Reader:
    """Stages as records; keeps the hashes of every file that DVC keeps."""

    def __init__(self, objects: Objects, in_git: Mapping[str, str], repo: Any) -> None:
        self._objects, self._in_git, self._repo = objects, in_git, repo
        self._cached: dict[str, dict[str, tuple[str, str, int]]] = {}

    def stages(self) -> list[StageRecord]:
        """All stages and imports in the order in which they run; outputs first, since dependencies are among them."""
        from dvc.repo.reproduce import get_active_graph, plan_repro

        ordered = list(plan_repro(get_active_graph(self._repo.index.graph)))
        outs = {id(stage): [self._item(out) for out in stage.outs] for stage in ordered}
        return [
            StageRecord(
                name=without_secrets(stage_name(stage, Path(self._repo.root_dir))),
                cmd=_command(stage),
                params={key: clean(value, key) for key, value in _params(stage).items()},
                deps=[self._item(dep) for dep in stage.deps if not _is_params(dep)],
                outs=outs[id(stage)],
            )
            for stage in ordered
        ]

    def below(self, path: str) -> dict[str, str]:
        """The sha256 of the files of an output, or in a part of one, by path relative to `path`."""
        for out, files in self._cached.items():
            if path == out:
                return {name: sha256 for name, (_, sha256, _) in files.items()}
            if path.startswith(f"{out}/"):
                inner = path.removeprefix(f"{out}/")
                part = {n: f[1] for n, f in files.items() if n == inner or n.startswith(f"{inner}/")}
                return {name.removeprefix(inner).lstrip("/"): sha256 for name, sha256 in part.items()}
        part = {n: s for n, s in self._in_git.items() if n == path or n.startswith(f"{path}/")}
        return {name.removeprefix(path).lstrip("/"): sha256 for name, sha256 in part.items()}

    def rows(self) -> list[dict[str, Any]]:
        """The manifest: one row per file that DVC keeps."""
        return [
            {"path": f"{out}/{name}" if name else out, "md5": md5, "sha256": sha256, "size": size}
            for out, files in sorted(self._cached.items())
            for name, (md5, sha256, size) in sorted(files.items())
        ]

    def _item(self, entry: Any) -> Item:
        md5 = entry.hash_info.value if entry.hash_info else None
        size, files = (entry.meta.size, entry.meta.nfiles) if entry.meta else (None, None)
        if not entry.is_in_repo:
            return Item(path=harmless(str(entry.def_path)), md5=md5, size=size, files=files, kept="outside")
        path = Path(entry.fs_path).relative_to(self._repo.root_dir).as_posix()
        if hasattr(entry, "use_cache") and entry.use_cache and entry.stage.outs and entry in entry.stage.outs:
            self._hash(path, str(md5))
        found = self.below(path)
        kept = "dvc" if any(path == out or path.startswith(f"{out}/") for out in self._cached) else "git"
        if not found:
            return Item(path=path, md5=md5, size=size, files=files, kept="outside")
        sha256 = found[""] if "" in found else sha256_of(found)
        return Item(path=path, md5=md5, sha256=sha256, size=size, files=files, kept=kept)  # type: ignore[arg-type]

    def _hash(self, path: str, md5: str) -> None:
        listing = self._objects.listing(md5)
        hashed = {name: self._objects.hashes(inner) for name, inner in listing.items()}
        self._cached[path] = {name: (found.md5, found.sha256, found.size) for name, found in hashed.items()}


def _is_params(dep: Any) -> bool:
    from dvc.dependency import ParamsDependency

    return isinstance(dep, ParamsDependency)


def _params(stage: Any) -> dict[str, Any]:
    return {
        key: value
        for dep in stage.deps
        if _is_params(dep) and dep.hash_info
        for key, value in sorted(dep.hash_info.value.items())
    }


def _command(stage: Any) -> str | None:
    cmd = getattr(stage, "cmd", None)
    if cmd is None:
        return None
    return harmless(cmd if isinstance(cmd, str) else " && ".join(cmd))


def _sources(objects: Objects, stages: list[StageRecord], clips: str) -> list[dict[str, Any]]:
    """Each source file that the clips' index or quarantine names: its sha256, its clips by split, their licences."""
    item = next((out for stage in stages for out in stage.outs if out.path == clips), None)
    listing = objects.listing(item.md5) if item and item.md5 and item.kept == "dvc" else {}
    found: dict[str, dict[str, Any]] = {}
    for row in _table(objects, listing, INDEX, ("source", "source_sha256", "split", "clip_id"), (LICENCE,)):
        entry = found.setdefault(row["source"], {"source": row["source"], "sha256": row["source_sha256"], "clips": {}})
        entry["clips"].setdefault(row["split"], []).append(row["clip_id"])
        if LICENCE in row:
            counts = entry.setdefault("licences", {})
            counts[row[LICENCE]] = counts.get(row[LICENCE], 0) + 1
    for row in _table(objects, listing, QUARANTINE, ("source", "reason")):
        entry = found.setdefault(row["source"], {"source": row["source"], "sha256": None, "clips": {}})
        entry["quarantined"] = sorted({*entry.get("quarantined", []), row["reason"]})
    return [found[name] for name in sorted(found)]


def _table(
    objects: Objects, listing: Mapping[str, str], name: str, columns: tuple[str, ...], optional: tuple[str, ...] = ()
) -> Iterator[dict[str, Any]]:
    """The rows of a table of the clips; none where the project's clips have no such table."""
    import pyarrow
    import pyarrow.parquet

    if name not in listing:
        return
    try:
        table = pyarrow.parquet.read_table(BytesIO(objects.read(listing[name])))
    except pyarrow.ArrowInvalid:
        return
    if set(columns) <= set(table.column_names):
        there = [name for name in optional if name in table.column_names]
        yield from table.select([*columns, *there]).to_pylist()


def _reports(repository: Repository, commit: str) -> Any:
    def read(path: str) -> Any:
        found = blobs.tracked(repository, commit, [path])
        return json.loads(repository.read(commit, path)) if path in found else None

    return read


def _dirty(repository: Repository, run: RunCommits, stages: list[StageRecord]) -> list[str]:
    """Tracked files that differ from the user's commit, what the run itself writes left out.

    Those that the run depends on are in the run's commit as they were; the others took no part in it.
    """
    made = {out.path for stage in stages for out in stage.outs} | {LOCK}
    names = ("diff", "--name-only", "--no-renames", "--relative", "-z", run.source_commit)
    changed = repository.git(*names, "--").split("\0")
    added = repository.git(*names, run.commit, "--").split("\0")
    return sorted(path for path in {*changed, *added} - {""} if path not in made and not path.endswith(".gitignore"))


def _named_seeds(value: Any, where: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            name = f"{where}.{key}" if where else str(key)
            if re.search(r"(^|_)seed$", str(key)) and isinstance(inner, int):
                yield name, inner
            yield from _named_seeds(inner, name)


def _licences(repository: Repository, commit: str) -> list[Licence]:
    artifacts = parse_yaml(repository.read(commit, GRAPH), GRAPH).get("artifacts") or {}
    found = []
    for name, entry in sorted(artifacts.items()):
        meta = entry.get("meta") or {}
        licence, source = meta.get("licence"), meta.get("source")
        found.append(
            Licence(
                artifact=name,
                path=entry["path"],
                kind=entry.get("type"),
                licence=str(licence) if licence else None,
                source=harmless(str(source)) if source else None,
            )
        )
    return found
