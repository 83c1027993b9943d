"""Writing whole or not at all: temporary paths that take a target's place, and whose fault it is where that fails."""

import contextlib
import errno
import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from onestep.core.redaction import SafeError

SUFFIX = ".onestep-partial"  # of what is being written; of what is being replaced, `ASIDE`
ASIDE = ".onestep-replaced"
YOUNG_S = 10.0  # what was made this short a time ago may not be locked yet
_STEM = 40  # characters of the target's name within a temporary one: a name has at most 255 bytes
_PROJECT = (".git", ".dvc", "dvc.yaml")  # a folder that holds one of these is a project, not something that was made

_MACHINE = {
    errno.ENOSPC: "no space is left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than this process may write",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the disk reports an input or output error",
    errno.ESTALE: "the network file system has lost it",
    errno.EMFILE: "too many files are open (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine",
    errno.ENOMEM: "no memory is left",
    errno.EAGAIN: "the machine allows no more processes or memory now",
}
_SAID = {  # how libraries that are not written in Python say it
    re.compile(r"no space left|os error 28\b|disk full", re.IGNORECASE): errno.ENOSPC,
    re.compile(r"quota exceeded|os error 122\b", re.IGNORECASE): errno.EDQUOT,
    re.compile(r"file too large|os error 27\b", re.IGNORECASE): errno.EFBIG,
    re.compile(r"read-only file system|os error 30\b", re.IGNORECASE): errno.EROFS,
    re.compile(r"too many open files|os error 24\b", re.IGNORECASE): errno.EMFILE,
}
_PATHS = {
    errno.ENOENT: "does not exist",
    errno.EACCES: "permission denied",
    errno.EPERM: "the system does not permit this",
    errno.EISDIR: "is a folder, not a file",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.ELOOP: "is a link that leads back to itself",
    errno.ENAMETOOLONG: "the name is too long: a file's name has at most 255 bytes",
    errno.EEXIST: "exists already",
    errno.ENOTEMPTY: "is a folder that is not empty",
    errno.ECONNREFUSED: "no server answers at this address",
}

_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "std::bad_alloc", "malloc of size")


class StorageError(SafeError):
    """Something could not be read or written; the message names it and says why."""


class MachineFailed(SafeError):
    """The machine failed, not the work: a child was killed, a disk is full, a program is missing. May go on later."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: the flow tries such a stage again


def machine_sentence(error: BaseException, target: Path | None = None, written: int | None = None) -> str | None:
    """One sentence about a disk or machine that fails, with what is free; null where the error is about something else.

    target: what was being written; written: bytes of it so far.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number not in _MACHINE:
        number = next((code for pattern, code in _SAID.items() if pattern.search(str(error))), None)
    if number is None:
        return None
    named = error.filename if isinstance(error, OSError) else None
    path = target if target is not None else Path(os.fsdecode(named)) if isinstance(named, str | bytes) else None
    details = []
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        if path is not None and (free := free_bytes(path)) is not None:
            details.append(f"{megabytes(free)} free there")
        if written is not None:
            details.append(f"{megabytes(written)} of it written so far")
    said = _MACHINE[number] + (f" ({', '.join(details)})" if details else "")
    return f"{_shown(path)} cannot be written: {said}" if path is not None else said


def path_sentence(error: OSError) -> str:
    """One sentence about a path that cannot be used, by the system's reason."""
    reason = _PATHS.get(error.errno or 0) or error.strerror or str(error)
    named = error.filename2 if error.errno in (errno.EISDIR, errno.ENOTEMPTY) and error.filename2 else error.filename
    return f"{_shown(os.fsdecode(named))}: {reason}" if isinstance(named, str | bytes | os.PathLike) else reason


def short_of_memory(error: BaseException) -> bool:
    """Whether this is a process or a GPU that has no memory left."""
    if isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryError", "ArrowMemoryError"):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _MEMORY)


def free_bytes(path: Path) -> int | None:
    """Bytes that are free where `path` is or would be; null where the system does not say."""
    for folder in (path.absolute(), *path.absolute().parents):
        with suppress(OSError):
            found = os.statvfs(folder)
            return found.f_bavail * found.f_frsize
    return None


def megabytes(count: int) -> str:
    """Bytes as people read them."""
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


@contextmanager
def replacing(target: Path, needs: int = 0) -> Iterator[Path]:
    """A temporary path beside `target` that takes its place when the block ends well, and vanishes when it does not.

    needs: bytes, where they are known beforehand. Raises `MachineFailed` when the disk is full, read-only or broken, and
    `StorageError` when the place cannot be written to.
    """
    with _beside(target, needs, folder=False) as partial:
        yield partial
        partial.chmod(0o644)
        partial.replace(target)


@contextmanager
def replacing_folder(target: Path, needs: int = 0) -> Iterator[Path]:
    """The same as `replacing` for a folder: filled beside `target`, swapped in when the block ends well.

    The old folder is moved aside before it is removed, so a process that is killed loses neither. Raises `StorageError`
    for a target whose removal would take more than an earlier result: a project, or what holds the current folder.
    """
    _require_replaceable(target)
    with _beside(target, needs, folder=True) as partial:
        yield partial
        partial.chmod(0o755)
        aside = partial.with_name(partial.name.removesuffix(SUFFIX) + ASIDE)
        had = target.is_dir()
        if had:
            target.rename(aside)
        try:
            partial.replace(target)
        except OSError:
            if had:
                aside.rename(target)
            raise
        if had:
            _remove(aside)


@contextmanager
def _beside(target: Path, needs: int, folder: bool) -> Iterator[Path]:
    partial: Path | None = None
    with contextlib.ExitStack() as stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            recover(target)
            free = free_bytes(target.parent)
            if free is not None and needs > free:
                raise MachineFailed(
                    f"{_shown(target)} cannot be written: it needs {megabytes(needs)}, and {megabytes(free)} are free there"
                )
            partial = _make(target, folder)
            stack.callback(os.close, _locked(partial))
            yield partial
        except Exception as error:
            if (said := _blamed(error, target, partial)) is not None:
                raise said from error
            raise
        finally:
            if partial is not None:
                _remove(partial)


def recover(target: Path) -> None:
    """Mend what killed runs left beside `target`: an old folder that was moved aside comes back, the rest is removed.

    What a living process is writing is locked, and stays.
    """
    pattern = re.compile(rf"\.{re.escape(target.name[:_STEM])}\.\w+({re.escape(SUFFIX)}|{re.escape(ASIDE)})")
    with suppress(OSError):
        left = sorted(entry.name for entry in os.scandir(target.parent) if pattern.fullmatch(entry.name))
        for path in (target.parent / name for name in left):
            with suppress(OSError), _unused(path) as unused:
                if not unused:
                    continue
                if path.name.endswith(ASIDE) and not os.path.lexists(target) and len(target.name) <= _STEM:
                    path.rename(target)
                else:
                    _remove(path)


def _make(target: Path, folder: bool) -> Path:
    prefix = f".{target.name[:_STEM]}."
    if folder:
        return Path(tempfile.mkdtemp(dir=target.parent, prefix=prefix, suffix=SUFFIX))
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=prefix, suffix=SUFFIX)
    os.close(handle)
    return Path(name)


def _locked(path: Path) -> int:
    """A handle whose lock tells other processes that `path` is in use, until this process closes it or dies."""
    handle = os.open(path, os.O_RDONLY)
    with suppress(OSError):  # a file system without locks: leftovers are told by their age alone
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return handle


@contextmanager
def _unused(path: Path) -> Iterator[bool]:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if time.time() - os.fstat(handle).st_ctime < YOUNG_S:
            yield False
            return
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
    finally:
        os.close(handle)


def _blamed(error: Exception, target: Path, partial: Path | None) -> Exception | None:
    if type(error).__module__.partition(".")[0] == "onestep":
        return None
    written = _size(partial) if partial is not None else None
    if (said := machine_sentence(error, target, written)) is not None:
        return MachineFailed(said)
    if isinstance(error, OSError) and (partial is None or _names(error, partial)):
        return StorageError(f"{_shown(target)} cannot be written: {path_sentence(error)}")
    return None


def _names(error: OSError, partial: Path) -> bool:
    return any(
        isinstance(name, str) and Path(name).is_relative_to(partial) for name in (error.filename, error.filename2)
    )


def _size(path: Path) -> int:
    total = 0
    with suppress(OSError):
        total = sum(p.lstat().st_size for p in (path.rglob("*") if path.is_dir() else [path]) if not p.is_dir())
    return total


def _require_replaceable(target: Path) -> None:
    place = target.resolve()
    if os.path.lexists(target) and not target.is_dir():
        raise StorageError(f"{_shown(target)} is a file: give a folder's name")
    held = next((name for name in _PROJECT if (place / name).exists()), None)
    if held is not None:
        raise StorageError(
            f"{_shown(target)} is a project's folder (it holds {held}) and would be replaced: give another"
        )
    if any(Path(kept).resolve().is_relative_to(place) for kept in (Path(), Path.home(), Path(tempfile.gettempdir()))):
        raise StorageError(f"{_shown(target)} would be replaced with all that it holds: give a folder of its own")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _shown(path: str | Path) -> str:
    text = str(path)
    return text if len(text) <= 200 else f"{text[:150]}…{text[-40:]}"
