"""One project, opened once: its root, its git, its DVC graph, and the paths of its artifacts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from onestep.core.paths import GRAPH, LOCK
from onestep.core.redaction import SafeError
from onestep.core.yaml_files import YamlError, parse_yaml, read_yaml, short
from onestep.vcs.git import GitError, Repository
from onestep.vcs.rwlock import mend_rwlock

if TYPE_CHECKING:
    from dvc.api import DVCFileSystem
    from dvc.repo import Repo

MOST_SAID = 400  # characters of what DVC says


class GraphError(SafeError):
    """The graph cannot be read, or lacks something that was asked for; the message names it."""


@dataclass(frozen=True)
class Project:
    """The working copy whose folder `root` holds `dvc.yaml`, at or below the top of a git repository.

    Nothing is opened before it is asked for, so a project that is damaged can be looked at; a clone is a project of its own.
    """

    root: Path

    @cached_property
    def git(self) -> Repository:
        """Its git repository, seen from `root`."""
        return Repository(self.root)

    @cached_property
    def top(self) -> "Project":
        """The top of the git repository, where paths of git's own output begin; raises `GitError`."""
        return Project(Path(self.git.git("rev-parse", "--show-toplevel")))

    @cached_property
    def prefix(self) -> str:
        """The path from the top to `root`, with a slash at its end; empty where they are the same. Raises `GitError`."""
        return self.git.git("rev-parse", "--show-prefix")

    @contextmanager
    def graph(self) -> Iterator["Repo"]:
        """Its DVC repository; raises `GraphError` where there is none, and for all that DVC refuses of it in the block."""
        from dvc.exceptions import DvcException, NotDvcRepoError
        from dvc.repo import Repo

        mend_rwlock(self.root)
        try:
            with Repo(str(self.root)) as repo:
                yield repo
        except NotDvcRepoError as error:
            raise GraphError(f"{self.root} is not a DVC project: run from the folder that holds {GRAPH}") from error
        except (DvcException, UnicodeDecodeError) as error:
            raise GraphError(_refused(self.root, error)) from error

    def files_at(self, revision: str) -> "DVCFileSystem":
        """The files of git and DVC at a revision, bytes from the cache or a remote."""
        from dvc.api import DVCFileSystem

        return DVCFileSystem(str(self.root), rev=revision)

    def artifact(self, name: str, revision: str | None = None) -> str:
        """The path of an entry of the graph's `artifacts:` section, relative to `root`, as it is now or at a revision.

        Raises `GraphError` when the section has no such entry.
        """
        where = f"{GRAPH} at {revision}" if revision else GRAPH
        try:
            text = self.git.read(revision, GRAPH) if revision else (self.root / GRAPH).read_bytes()
            path = parse_yaml(text, where)["artifacts"][name]["path"]
        except (GitError, OSError, KeyError, TypeError) as error:
            raise GraphError(f"{where} has no artifact {name!r}: add it to the section `artifacts:`") from error
        except YamlError as error:
            raise GraphError(str(error)) from error
        return str(path)


def _refused(folder: Path, error: Exception) -> str:
    """What DVC says of a graph, lock or setting, in one line with the file; where such a file is no YAML, the line of it."""
    for name in (".dvc/config", ".dvc/config.local", ".dvcignore"):
        if (folder / name).is_file() and (fault := _unreadable(folder / name)):
            whole = "or remove it" if name.endswith(".local") else f"or take the committed one: git checkout -- {name}"
            return f"{folder / name} cannot be read by DVC ({fault}): mend it, {whole}"
    if (folder / LOCK).is_file() and not (folder / LOCK).stat().st_size:
        mend = f"git checkout -- {LOCK}, or remove it and run dvc repro"
        return f"{folder / LOCK} is empty, left so by a kill or a full disk: {mend}"
    for path in (folder / GRAPH, folder / LOCK):
        try:
            if path.exists():
                read_yaml(path)
        except YamlError as broken:
            return str(broken)
    return short(f"{error}: {error.exc}" if hasattr(error, "exc") else str(error), MOST_SAID)


def _unreadable(path: Path) -> str | None:
    """Why a file of DVC's settings cannot be read, in one line; null where it can."""
    from configobj import ConfigObj, ConfigObjError

    try:
        if path.name == ".dvcignore":
            path.read_text(encoding="utf-8")
        else:
            ConfigObj(str(path), encoding="utf-8")
    except (ConfigObjError, UnicodeDecodeError, OSError) as error:
        return short(str(error), MOST_SAID)
    return None
