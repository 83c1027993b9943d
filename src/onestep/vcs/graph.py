"""What `dvc.yaml` says, read through DVC: stages and their order, artifacts by name, and what git keeps of a run."""

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onestep.core.redaction import SafeError
from onestep.core.yaml_files import YamlError, parse_yaml, read_yaml, short
from onestep.vcs.git import GitError, Repository
from onestep.vcs.rwlock import mend_rwlock

if TYPE_CHECKING:
    from dvc.repo import Repo

GRAPH = "dvc.yaml"
LOCK = "dvc.lock"
_MOST_SAID = 400  # characters of what DVC says


class GraphError(SafeError):
    """The graph cannot be read, or lacks something that was asked for; the message names it."""


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


@contextmanager
def open_graph(root: Path) -> Iterator["Repo"]:
    """The DVC repository at `root`; raises `GraphError` when there is none, and for all that DVC refuses of it."""
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo

    mend_rwlock(root)
    try:
        with Repo(str(root)) as repo:
            yield repo
    except NotDvcRepoError as error:
        raise GraphError(f"{root} is not a DVC project: run from the folder that holds {GRAPH}") from error
    except (DvcException, UnicodeDecodeError) as error:
        raise GraphError(_refused(root, error)) from error


def _refused(root: Path, error: Exception) -> str:
    """What DVC says of a graph, lock or setting, in one line with the file; where such a file is no YAML, the line of it."""
    for name in (".dvc/config", ".dvc/config.local", ".dvcignore"):
        if (root / name).is_file() and (fault := _unreadable(root / name)):
            whole = "or remove it" if name.endswith(".local") else f"or take the committed one: git checkout -- {name}"
            return f"{root / name} cannot be read by DVC ({fault}): mend it, {whole}"
    if (root / LOCK).is_file() and not (root / LOCK).stat().st_size:
        return f"{root / LOCK} is empty, left so by a kill or a full disk: git checkout -- {LOCK}, or remove it and run dvc repro"
    for path in (root / GRAPH, root / LOCK):
        try:
            if path.exists():
                read_yaml(path)
        except YamlError as broken:
            return str(broken)
    return short(f"{error}: {error.exc}" if hasattr(error, "exc") else str(error), _MOST_SAID)


def _unreadable(path: Path) -> str | None:
    """Why a file of DVC's settings cannot be read, in one line; null where it can."""
    from configobj import ConfigObj, ConfigObjError

    try:
        if path.name == ".dvcignore":
            path.read_text(encoding="utf-8")
        else:
            ConfigObj(str(path), encoding="utf-8")
    except (ConfigObjError, UnicodeDecodeError, OSError) as error:
        return short(str(error), _MOST_SAID)
    return None


def plan(root: Path) -> list[PlannedStage]:
    """All stages with a command, in the order in which `dvc repro` would run them, also before any has run.

    Raises `GraphError` when a stage needs a file that neither exists nor is made by a stage that will run.
    """
    from dvc.repo.reproduce import get_active_graph, plan_repro
    from dvc.stage import PipelineStage

    changed, impossible = _changed_stages(root)
    with open_graph(root) as repo:
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
                raise GraphError(f"dvc repro --dry failed in {root}: {impossible[name]}")
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


def artifact_path(repository: Repository, name: str, revision: str | None = None) -> str:
    """The path of an entry of the graph's `artifacts:` section, in the working copy or at a revision.

    Raises `GraphError` when the section has no such entry.
    """
    where = f"{GRAPH} at {revision}" if revision else GRAPH
    try:
        text = repository.read(revision, GRAPH) if revision else (repository.root / GRAPH).read_bytes()
        path = parse_yaml(text, where)["artifacts"][name]["path"]
    except (GitError, OSError, KeyError, TypeError) as error:
        raise GraphError(f"{where} has no artifact {name!r}: add it to the section `artifacts:`") from error
    except YamlError as error:
        raise GraphError(str(error)) from error
    return str(path)


def changes(root: Path) -> list[str]:
    """What differs between the working copy and `dvc.lock`, one phrase each; empty when a run is complete."""
    with open_graph(root) as repo:
        found_by_dvc = {target: detail for target, detail in repo.status().items() if not _only_news(detail)}
        status = {target.rsplit(f"{GRAPH}:", 1)[-1]: detail for target, detail in found_by_dvc.items()}
        missing = [str(out) for out in repo.index.outs if out.use_cache and out.changed_cache()]
    found = [f"{target} ({_summary(detail)})" for target, detail in sorted(status.items())]
    return found + [f"{path} (not in the cache: run `dvc commit`)" for path in sorted(missing) if not found]


def kept_in_git(root: Path) -> list[str]:
    """The files and folders of a run that git keeps, relative to `root`.

    These are the graph, its lock and parameters, DVC's configuration and ignore files, and every dependency and output
    of a stage whose bytes DVC does not keep itself.
    """
    with open_graph(root) as repo:
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


def code_files(root: Path) -> list[str]:
    """The files that stages depend on and no stage makes, and the graph itself, relative to `root`: code and its lock.

    Folders are data, settings are read through their own keys: neither is here, nor is a file in a folder that is made.
    """
    with open_graph(root) as repo:
        top = Path(repo.root_dir)
        made = [Path(out.fs_path) for out in repo.index.outs]
        deps = {Path(d.fs_path) for d in repo.index.deps if d.is_in_repo and not isinstance(d, _settings())}
        graphs = {Path(stage.path) for stage in repo.index.stages if Path(stage.path).name == GRAPH}
    paths = {path for path in deps if not _inside(path, made)} | graphs
    return sorted(path.relative_to(top).as_posix() for path in paths if path.is_file())


def push(root: Path) -> bool:
    """Copy the run's data to the default remote; false when the project has none. Raises `GraphError`."""
    with open_graph(root) as repo:
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


def _address(stage: Any, top: Path) -> str:
    """How `dvc repro` names a stage from the top, wherever this process stands."""
    folder = Path(stage.path).parent.relative_to(top).as_posix()
    return str(stage.name) if folder == "." else f"{folder}/{GRAPH}:{stage.name}"


def _changed_stages(root: Path) -> tuple[set[str], dict[str, str]]:
    """Stages that would run; and those that cannot be judged yet, with DVC's reason: mostly what they need is not made."""
    mend_rwlock(root)
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "--dry", "--keep-going"],
        cwd=root,
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
        raise GraphError(f"dvc repro --dry failed in {root}: {short(done.stderr, _MOST_SAID)}")
    return changed, impossible


def _inside(path: Path, folders: list[Path]) -> bool:
    return any(path == folder or folder in path.parents for folder in folders)


def _only_news(detail: Any) -> bool:
    """Whether all that DVC says of an import is that its source has moved on: what was imported is still what it was."""
    if not all(isinstance(entry, dict) for entry in detail):
        return False
    states = [state for entry in detail for files in entry.values() for _, state in _states(files)]
    return bool(states) and all(state == "update available" for state in states)


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
