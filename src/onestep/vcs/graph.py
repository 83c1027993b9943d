"""What `dvc.yaml` says, read through DVC: stages and their order, what changed, and what git keeps of a run."""

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onestep.core.paths import GRAPH, LOCK, MACHINE
from onestep.core.yaml_files import short
from onestep.vcs.project import MOST_SAID, GraphError, Project
from onestep.vcs.rwlock import mend_rwlock


@dataclass(frozen=True)
class PlannedStage:
    """One stage: `changed` as `dvc repro --dry` sees it; `affected` where it or any stage that it needs changed.

    needs: the stages whose outputs it reads; meta: what its `meta:` says.
    """

    name: str
    changed: bool
    affected: bool
    needs: tuple[str, ...] = field(default=(), compare=False)
    meta: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Inputs:
    """What stages are given that no stage makes: their commands by name, files, and keys of settings by file.

    Folders are data and not among the files; the keys are null where a whole file of settings is read.
    """

    commands: dict[str, str]
    files: tuple[str, ...]
    settings: dict[str, tuple[str, ...] | None]


def plan(project: Project) -> list[PlannedStage]:
    """All stages with a command, in the order in which `dvc repro` would run them, also before any has run.

    Raises `GraphError` when a stage needs a file that neither exists nor is made by a stage that will run.
    """
    from dvc.repo.reproduce import get_active_graph, plan_repro
    from dvc.stage import PipelineStage

    changed, impossible = _changed_stages(project)
    with project.graph() as repo:
        graph = get_active_graph(repo.index.graph)
        stages = [s for s in plan_repro(graph) if isinstance(s, PipelineStage) and s.cmd is not None]
        affected: set[Any] = set()
        planned = []
        for stage in stages:
            name = _address(stage, Path(repo.root_dir))
            if name in changed or any(needed in affected for needed in graph.successors(stage)):
                affected.add(stage)
            needs = tuple(_address(s, Path(repo.root_dir)) for s in graph.successors(stage) if s.cmd is not None)
            planned.append(PlannedStage(name, name in changed, stage in affected, needs, dict(stage.meta or {})))
            if name in impossible and stage not in affected:
                raise GraphError(f"dvc repro --dry failed in {project.root}: {impossible[name]}")
    return planned


def leading_to(planned: Sequence[PlannedStage], key: str) -> list[PlannedStage]:
    """The stages whose `meta:` has a true `key`, and all that these need, in the graph's order."""
    wanted: set[str] = set()
    for stage in reversed(planned):
        if stage.meta.get(key) or stage.name in wanted:
            wanted |= {stage.name, *stage.needs}
    return [stage for stage in planned if stage.name in wanted]


def depending_on(planned: Sequence[PlannedStage], path_owner: str) -> list[PlannedStage]:
    """The stages that need a stage, directly or not, in the graph's order, without that stage itself."""
    reached = {path_owner}
    for stage in planned:
        if reached & set(stage.needs):
            reached.add(stage.name)
    return [stage for stage in planned if stage.name in reached and stage.name != path_owner]


def changes(project: Project) -> list[str]:
    """What differs between the working copy and `dvc.lock`, one phrase each; empty when a run is complete.

    The file that names the machine of a run is missing wherever the run was not made; that is no difference.
    """
    with project.graph() as repo:
        stays = {str(out) for out in repo.index.outs if Path(out.fs_path) == Path(repo.root_dir) / MACHINE}
        told = {target: _without_missing(detail, stays) for target, detail in repo.status().items()}
        found_by_dvc = {target: detail for target, detail in told.items() if detail and not _only_news(detail)}
        status = {target.rsplit(f"{GRAPH}:", 1)[-1]: detail for target, detail in found_by_dvc.items()}
        missing = [str(out) for out in repo.index.outs if out.use_cache and out.changed_cache()]
    found = [f"{target} ({_summary(detail)})" for target, detail in sorted(status.items())]
    return found + [f"{path} (not in the cache: run `dvc commit`)" for path in sorted(missing) if not found]


def kept_in_git(project: Project) -> list[str]:
    """The files and folders of a run that git keeps, relative to the project's root.

    These are the graph, its lock and parameters, DVC's configuration and ignore files, and every dependency and output
    of a stage whose bytes DVC does not keep itself.
    """
    with project.graph() as repo:
        top = Path(repo.root_dir)
        outs, deps = list(repo.index.outs), list(repo.index.deps)
        local = [item for item in (*outs, *deps) if item.is_in_repo]
        cached = [Path(out.fs_path) for out in outs if out.use_cache and out.is_in_repo]
        paths = {Path(item.fs_path) for item in local if not _inside(Path(item.fs_path), cached)}
        paths |= {Path(stage.path) for stage in repo.index.stages}
        paths |= {Path(stage.path).with_name(LOCK) for stage in repo.index.stages if Path(stage.path).name == GRAPH}
        paths |= {path.parent / ".gitignore" for path in cached}
    paths |= {top / name for name in (".dvcignore", ".dvc/config", ".dvc/.gitignore", ".gitignore")}
    return sorted(path.relative_to(top).as_posix() for path in paths if path.exists())


def inputs_of(project: Project, output: str) -> Inputs:
    """What the stage that makes an output, and all stages that it needs, are given from outside the graph.

    Raises `GraphError` when no stage makes the output.
    """
    with project.graph() as repo:
        top = Path(repo.root_dir)
        maker = next((out.stage for out in repo.index.outs if Path(out.fs_path) == top / output), None)
        if maker is None:
            raise GraphError(f"no stage of {GRAPH} makes {output}")
        stages = _with_all_that_it_needs(repo.index.graph, maker)
        made = [Path(out.fs_path) for out in repo.index.outs]
        commands = {_address(stage, top): _joined(stage.cmd) for stage in stages if getattr(stage, "cmd", None)}
        deps = [dep for stage in stages for dep in stage.deps if dep.is_in_repo]
        files = {Path(dep.fs_path) for dep in deps if not isinstance(dep, _settings())}
        settings: dict[str, set[str] | None] = {}
        for dep in deps:
            if isinstance(dep, _settings()):
                path = Path(dep.fs_path).relative_to(top).as_posix()
                known = settings.get(path, set())
                settings[path] = None if known is None or not dep.params else known | set(dep.params)
    found = sorted(path.relative_to(top).as_posix() for path in files if path.is_file() and not _inside(path, made))
    keys = {path: None if names is None else tuple(sorted(names)) for path, names in sorted(settings.items())}
    return Inputs(dict(sorted(commands.items())), tuple(found), keys)


def push(project: Project) -> bool:
    """Copy the run's data to the default remote; false when the project has none. Raises `GraphError`."""
    with project.graph() as repo:
        if not repo.config["core"].get("remote"):
            return False
        try:
            repo.push()
        except Exception as error:  # every kind of remote fails in its own way
            raise GraphError(f"dvc push failed, nothing was promoted: {error}") from error
    return True


def _settings() -> type[Any]:
    from dvc.dependency.param import ParamsDependency

    kind: type[Any] = ParamsDependency
    return kind


def _with_all_that_it_needs(graph: Any, stage: Any) -> list[Any]:
    found, waiting = [stage], [stage]
    while waiting:
        for needed in graph.successors(waiting.pop()):
            if needed not in found:
                found.append(needed)
                waiting.append(needed)
    return found


def _joined(command: str | list[str]) -> str:
    return command if isinstance(command, str) else " && ".join(command)


def _address(stage: Any, top: Path) -> str:
    """How `dvc repro` names a stage from the top, wherever this process stands."""
    folder = Path(stage.path).parent.relative_to(top).as_posix()
    return str(stage.name) if folder == "." else f"{folder}/{GRAPH}:{stage.name}"


def _changed_stages(project: Project) -> tuple[set[str], dict[str, str]]:
    """Stages that would run; and those that cannot be judged yet, with DVC's reason: mostly what they need is not made."""
    mend_rwlock(project.root)
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "--dry", "--keep-going"],
        cwd=project.root,
        capture_output=True,
        text=True,
        check=False,
    )
    changed = set(re.findall(r"^Running stage '([^']+)':", done.stdout, flags=re.MULTILINE))
    failed = re.findall(r"^ERROR: failed to reproduce (.+)", done.stderr, flags=re.MULTILINE)
    impossible = dict.fromkeys(
        (name for line in failed for name in re.findall(r"'([^']+)'", line)), done.stderr.strip()
    )
    if done.returncode and not impossible:
        raise GraphError(f"dvc repro --dry failed in {project.root}: {short(done.stderr, MOST_SAID)}")
    return changed, impossible


def _inside(path: Path, folders: list[Path]) -> bool:
    return any(path == folder or folder in path.parents for folder in folders)


def _only_news(detail: Any) -> bool:
    """Whether all that DVC says of an import is that its source has moved on: what was imported is still what it was."""
    if not all(isinstance(entry, dict) for entry in detail):
        return False
    states = [state for entry in detail for files in entry.values() for _, state in _states(files)]
    return bool(states) and all(state == "update available" for state in states)


def _without_missing(detail: Any, stays: set[str]) -> list[Any]:
    """What DVC says of a stage, but for missing files that stay on the machine of their run."""
    left: list[Any] = []
    for entry in detail:
        if not isinstance(entry, dict):
            left.append(entry)
        elif found := {kind: rest for kind, files in entry.items() if (rest := _others(files, stays))}:
            left.append(found)
    return left


def _others(files: Any, stays: set[str]) -> Any:
    if not isinstance(files, dict):
        return files
    return {path: state for path, state in files.items() if state != "deleted" or path not in stays}


def _summary(detail: Any) -> str:
    parts: list[str] = []
    for entry in detail:
        if isinstance(entry, str):
            parts.append(entry)
        else:
            parts += [f"{state} {path}" for files in entry.values() for path, state in _states(files)]
    return ", ".join(parts)


def _states(files: Any) -> list[tuple[str, str]]:
    if not isinstance(files, dict):
        return [("", str(files))]
    return [(str(path), state if isinstance(state, str) else "changed") for path, state in files.items()]
