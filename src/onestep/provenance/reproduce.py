"""`onestep lineage reproduce`: does the model come out again?

In a scratch clone at the run's commit, with the run's inputs from the cache or a remote, the training stages run again by
force, and after them what leads to the metrics; weights and metrics are compared with the record. What depends on the
clock (`latency`, and all that reads it) is left out. Nothing is written to the project's cache.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from onestep.core.paths import CODE, GRAPH, METRICS
from onestep.core.redaction import SafeError
from onestep.core.storage import sha256_file, sha256_folder
from onestep.core.yaml_files import read_yaml
from onestep.provenance import environments
from onestep.provenance.check_verdict import audited_environment
from onestep.provenance.distances import metrics_distance, weights_distance
from onestep.provenance.record import Record, StageRecord
from onestep.provenance.store import Found, find
from onestep.vcs.objects import Objects, open_objects
from onestep.vcs.project import Project

Word = Literal["identical", "within tolerance", "different"]
EXIT_CODES: dict[Word, int] = {"identical": 0, "within tolerance": 7, "different": 8}
TRAINING = "training"


class ReproduceFailed(SafeError):
    """The run could not be made again, so nothing is said about it; the message names the stage or file."""

    exit_code = 1


@dataclass(frozen=True)
class Reproduction:
    """What came out: how far weights and metrics are from the record, which files differ, and in which environment."""

    word: Word
    title: str
    stages: list[str]
    weights: float
    metrics: float
    worst_metric: str
    differing: list[str]
    environment: list[str]

    @property
    def exit_code(self) -> int:
        """The command's exit code."""
        return EXIT_CODES[self.word]


def reproduce(
    project: Project,
    name: str,
    whole: bool = False,
    tolerance: float = 1e-3,
    rebuild: bool = False,
    folder: Path | None = None,
    say: Callable[[str], None] = print,
) -> Reproduction:
    """Make a recorded model again and compare it.

    whole: every stage that leads to the model, from the footage on, not the training stages alone. tolerance: largest
    relative distance of a tensor or metric that is not `different`. rebuild: build the recorded environment instead of
    using this one. folder: where to work (kept), default a temporary one. Raises `NoRecord`, `ReproduceFailed`,
    `ObjectError`, `EnvironmentFailed`.
    """
    found = find(project, name)
    with tempfile.TemporaryDirectory(prefix="onestep-reproduce-") as temporary:
        work = folder or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        if any(work.iterdir()):
            raise ReproduceFailed(f"{work} is not empty: name a folder that is")
        clone = _clone(project, found.record, work / "clone")
        python = Path(sys.executable)
        if rebuild:
            say(f"building the recorded environment in {work / 'environment'}")
            python = environments.build(found.record.environment, work / "environment", clone.root)
        differs = environments.differences(found.record.environment, python if rebuild else None)
        say(_environment_sentence(differs))
        meta = _meta(clone)
        stages = forced(found.record, meta, whole)
        say(f"running by force: {', '.join(stage.name for stage in stages)}")
        with open_objects(project) as objects:
            _fetch_inputs(objects, found.record, stages, clone)
            for stage in stages:
                _run(stage, clone, python, meta.get(stage.name, {}).get("environment") or ())
            return _compare(objects, found, stages, clone, differs, tolerance, work)


def forced(record: Record, meta: dict[str, dict[str, Any]], whole: bool) -> list[StageRecord]:
    """The stages to run again, in order.

    Those that `dvc.yaml` marks `meta: {training: true}` (where none is marked, the one that makes the model), or all that
    lead to the model; and what lies between them and the metrics.
    """
    maker = record.producer(record.path)
    if maker is None:
        raise ReproduceFailed(f"no stage of the record makes {record.path}")
    before_model = _before(record, maker) | {maker.name}
    chosen = {name for name in before_model if meta.get(name, {}).get(TRAINING)} or {maker.name}
    if whole:
        chosen = {name for name in before_model if (stage := record.stage(name)) and stage.cmd}
    chosen |= {maker.name}
    measure = record.producer(METRICS)
    if measure is not None:
        needed = _before(record, measure) | {measure.name}
        chosen |= {stage.name for stage in record.stages if stage.name in needed and _before(record, stage) & chosen}
    return [stage for stage in record.stages if stage.name in chosen]


def _before(record: Record, stage: StageRecord) -> set[str]:
    """The names of all stages that a stage needs, directly or not."""
    found: set[str] = set()
    waiting = [stage]
    while waiting:
        for dep in waiting.pop().deps:
            maker = record.producer(dep.path)
            if maker is not None and maker.name not in found:
                found.add(maker.name)
                waiting.append(maker)
    return found


def _clone(project: Project, record: Record, target: Path) -> Project:
    """A clone at the run's commit, in which the project's folder lies where it does here."""
    cloned = project.git.clone(str(project.top.root), target, "--shared")
    cloned.git("checkout", "--quiet", "--detach", record.run_commit)
    clone = Project(target / project.prefix)
    local = project.root / ".dvc" / "config.local"
    if local.is_file():
        shutil.copy(local, clone.root / ".dvc" / "config.local")
        (clone.root / ".dvc" / "config.local").chmod(0o600)  # it may hold a bucket's credentials
    return clone


def _meta(clone: Project) -> dict[str, dict[str, Any]]:
    stages = read_yaml(clone.root / GRAPH)["stages"]
    return {name: stage.get("meta") or {} for name, stage in stages.items()}


def _environment_sentence(differs: list[str]) -> str:
    if not differs:
        return "environment: the recorded one, package for package"
    shown = ", ".join(differs[:8]) + (f" and {len(differs) - 8} more" if len(differs) > 8 else "")
    return f"environment: NOT the recorded one, so 'identical' cannot come of this: {shown}"


def _fetch_inputs(objects: Objects, record: Record, stages: list[StageRecord], clone: Project) -> None:
    made = {out.path for stage in stages for out in stage.outs}
    for stage in stages:
        for dep in stage.deps:
            target = clone.root / dep.path
            if any(dep.path == path or dep.path.startswith(f"{path}/") for path in made) or target.exists():
                continue
            if dep.kept != "dvc" or dep.md5 is None:
                raise ReproduceFailed(f"{dep.path}, which {stage.name!r} needs, is kept neither by git nor by DVC")
            maker = record.producer(dep.path)
            out = (
                next(o for o in maker.outs if dep.path == o.path or dep.path.startswith(f"{o.path}/")) if maker else dep
            )
            objects.fetch(str(out.md5), clone.root / out.path)


def _run(stage: StageRecord, clone: Project, python: Path, named: Iterable[str]) -> None:
    try:
        variables = audited_environment(clone.root / CODE, named, python)
    except (ValueError, TypeError) as error:
        raise ReproduceFailed(f"dvc.yaml: meta.environment of the stage {stage.name!r}: {error}") from error
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", "--force", "--no-run-cache", "--no-commit"]
    done = subprocess.run([*command, stage.name], cwd=clone.root, env=variables, check=False)
    if done.returncode:
        raise ReproduceFailed(f"the stage {stage.name!r} failed at {stage.cmd!r}: its own lines above say why")


def _compare(
    objects: Objects,
    found: Found,
    stages: list[StageRecord],
    clone: Project,
    differs: list[str],
    tolerance: float,
    work: Path,
) -> Reproduction:
    record = found.record
    made = clone.root / record.path
    differing = [] if sha256_folder(made) == record.sha256 else _differing(record, made)
    weights = 0.0
    if differing:
        objects.fetch(str(record.outs()[record.path].md5), work / "recorded")
        weights = weights_distance(work / "recorded", made)
    metrics, worst = 0.0, ""
    if any(out.path == METRICS for stage in stages for out in stage.outs):
        before = clone.git.read(record.run_commit, METRICS)
        after = (clone.root / METRICS).read_bytes()
        if before != after:
            differing.append(METRICS)
            metrics, worst = metrics_distance(before, after)
    word: Word = "identical"
    if max(weights, metrics) > tolerance:
        word = "different"
    elif differing or differs:
        word = "within tolerance"
    names = [stage.name for stage in stages]
    return Reproduction(word, found.title, names, weights, metrics, worst, differing, differs)


def _differing(record: Record, made: Path) -> list[str]:
    """The model's files that are other than recorded, missing or new; files whose name begins with a dot do not count."""
    found = {path.relative_to(made).as_posix(): sha256_file(path) for path in made.rglob("*") if path.is_file()}
    names = sorted({*found, *record.files})
    return [
        f"{record.path}/{name}"
        for name in names
        if found.get(name) != record.files.get(name) and not name.rpartition("/")[2].startswith(".")
    ]
