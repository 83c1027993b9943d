"""A clone per run: every scheduled run works in a clone of its own, at a pinned commit, with the project's DVC cache.

The project's branch, index and working tree are never touched; what a run makes leaves its clone by `publish`.
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import IO, Any

from onestep.core.paths import CACHE_LOCK, CLONES
from onestep.core.redaction import SafeError
from onestep.provenance import ledger
from onestep.vcs.git import UNNAMED, GitError, Repository
from onestep.vcs.project import Project

LINKS = ["reflink", "hardlink", "copy"]


class WorkspaceError(SafeError):
    """A run's clone cannot be made or published; the message names what stands in the way."""


@dataclass(frozen=True)
class Workspace:
    """The clone of one run: the run's id, the pinned commit, the clone, the project that it was cloned for, and the
    repository that it publishes to.
    """

    id: str
    commit: str
    clone: Project
    home: Project
    upstream: str
    locks: tuple[IO[str], ...] = field(default=(), repr=False, compare=False)  # held until it is closed

    def close(self) -> None:
        """Release the clone, so that it may be removed; its folder stays for people to look at."""
        for lock in self.locks:
            lock.close()


def new_id(now: datetime | None = None) -> str:
    """A run's name: the minute in UTC, and four random characters, since two runs can share a minute."""
    return f"{now or datetime.now(UTC):%Y-%m-%d-%H%M}-{token_hex(2)}"


def open_workspace(
    project: Project,
    id: str | None = None,
    revision: str = "HEAD",
    upstream: str | None = None,
    folder: Path | None = None,
) -> Workspace:
    """Clone the project at a revision into the runs folder, with its data from the cache or else the remote.

    project: the working copy that owns cache and settings; upstream: the repository to clone and to publish to, null =
    the project itself; folder: where clones lie, null = `.onestep/runs` of the project. A branch named `revision` is
    the upstream's. Raises `WorkspaceError`; nothing is left behind then.
    """
    id = id or new_id()
    repository, prefix, source = project.git, *_place(project, upstream)
    folder = (project.root / CLONES if folder is None else folder).resolve()
    clone = folder / id
    if clone.exists():
        raise WorkspaceError(f"{clone} exists already: give the run another id")
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / ".gitignore").exists():
        (folder / ".gitignore").write_text("*\n")
    if upstream is None:
        _fetch_ledger(repository)
    using = _lock(folder / Path(CACHE_LOCK).name, shared=True)
    try:
        cloned = Repository(folder).clone(source, clone)
        lock = _lock(clone / ".git" / "onestep.lock")
        (clone / ".git" / "config").chmod(0o600)  # it holds the upstream's address, and that may hold a token
        commit = _commit_of(cloned, revision, source)
        cloned.git("checkout", "--quiet", "--detach", commit)
        _copy_identity(repository, cloned)
        workspace = Workspace(id, commit, Project(clone / prefix), project, source, (lock, using))
        _share_cache(workspace)
        _bring_data(workspace)
    except BaseException as error:
        using.close()
        shutil.rmtree(clone, ignore_errors=True)
        if isinstance(error, GitError | OSError):
            raise WorkspaceError(f"no clone of {source} for run {id}: {error}") from error
        raise
    return workspace


def remove_old(project: Project, keep: int) -> list[str]:
    """Remove all but the newest `keep` clones, never one that a process still works in; returns their ids."""
    folder = project.root / CLONES
    clones = sorted((path for path in folder.glob("*") if (path / ".git").is_dir()), key=_age)
    removed = []
    for clone in clones[: max(len(clones) - keep, 0)]:
        try:
            lock = _lock(clone / ".git" / "onestep.lock")
        except WorkspaceError:
            continue
        shutil.rmtree(clone, onerror=_writable)
        lock.close()
        removed.append(clone.name)
    return removed


@contextmanager
def cache_lock(project: Project) -> Iterator[None]:
    """Hold the cache while no run is at work, so that it has nothing that only a run knows; `WorkspaceError` otherwise."""
    path = project.root / CACHE_LOCK  # shared by runs, exclusive for what removes from the cache
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(path)
    try:
        yield
    finally:
        lock.close()


def _lock(path: Path, shared: bool = False) -> IO[str]:
    """A lock that the system releases when its holder dies; raises `WorkspaceError` where it is taken."""
    lock = path.open("w")
    try:
        fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise WorkspaceError(f"{path.parent} is in use by another process: try again later") from error
    return lock


def _age(clone: Path) -> float:
    return (clone / ".git" / "config").stat().st_mtime


def _writable(function: Any, path: str, _: Any) -> None:
    """Linked files and git's objects are read-only: make the folder writable and try again."""
    with suppress(OSError):
        Path(path).parent.chmod(0o755)
        function(path)


def _place(project: Project, upstream: str | None) -> tuple[str, str]:
    """The project's path in its repository, and the repository to clone."""
    try:
        return project.prefix, upstream or str(project.top.root)
    except GitError as error:
        raise WorkspaceError(str(error)) from error


def _fetch_ledger(project: Repository) -> None:
    """Make the ledger's branch in a project that has it of a remote alone: a clone of it has none of its remotes' branches,
    and would begin a second ledger, with alpha that is spent already.
    """
    if project.resolve(ledger.REF) is None and (known := ledger.commit_of(project)):
        project.git("update-ref", ledger.REF, known, "")


def _commit_of(clone: Repository, revision: str, source: str) -> str:
    for name in (f"refs/remotes/origin/{revision}", f"refs/tags/{revision}", revision):
        if commit := clone.resolve(f"{name}^{{commit}}"):
            return commit
    raise WorkspaceError(
        f"{source} has no revision {revision!r}: commit the project first, or name a branch or tag of it"
    )


def _copy_identity(project: Repository, clone: Repository) -> None:
    """Give the clone the project's own identity, where it has one, or else one that git accepts."""
    for key in ("user.name", "user.email", "user.signingKey", "gpg.format", "gpg.ssh.allowedSignersFile"):
        with suppress(GitError):
            clone.git("config", key, project.git("config", "--local", key))
    try:
        clone.git("-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT")
    except GitError:
        for setting in UNNAMED[1::2]:
            clone.git("config", *setting.split("=", 1))


def cache_folder(repo: Any) -> Path:
    """The folder of a DVC repository's cache."""
    return Path(repo.cache.local_cache_dir).resolve()


def _share_cache(workspace: Workspace) -> None:
    """One cache for all clones, linked not copied; remotes by absolute address, credentials as the project has them."""
    with workspace.home.graph() as repo:
        cache = str(cache_folder(repo))
        local = repo.config.read("local")
        remotes = {name: dict(entry) for name, entry in repo.config["remote"].items()}
    own = workspace.clone.root / ".dvc" / "config.local"
    own.touch(mode=0o600)  # before it is filled: it may hold a bucket's credentials
    with workspace.clone.graph() as repo, repo.config.edit("local") as config:
        for section, entries in local.items():
            config.setdefault(section, {}).update(entries)
        config["cache"]["dir"] = cache
        config["cache"]["type"] = LINKS
        config.setdefault("core", {})["site_cache_dir"] = str(Path(repo.tmp_dir) / "site")
        for name, entry in remotes.items():
            url = str(entry["url"])
            if "://" not in url:
                config["remote"].setdefault(name, {})["url"] = str(Path(url).resolve())
    own.chmod(0o600)


def _bring_data(workspace: Workspace) -> None:
    """Link the data from the cache; what it lacks comes from the remote, where there is one, or is left to the stages."""
    with workspace.clone.graph() as repo:
        kept = [out for out in repo.index.outs if out.use_cache and out.hash_info]
        missing = [out for out in kept if out.changed_cache()]
        if len(missing) < len(kept):
            repo.checkout(allow_missing=True)
        if missing and repo.config["core"].get("remote"):
            with suppress(Exception):  # every kind of remote fails in its own way; the stages then make it again
                repo.pull(allow_missing=True)
