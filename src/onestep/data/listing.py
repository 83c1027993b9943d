"""What a folder of footage holds: its regular files, and what is no regular file, decided before a byte is read.

A named pipe would be read for ever, a link to a device too; a link out of the folder would make clips of files that
are no part of it. Links within the folder, and those into the project's own DVC cache (`cache.type symlink`), are files like
others.
"""

import configparser
import errno
import functools
import ntpath
import os
import posixpath
import re
import stat
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import fsspec

from onestep.core.storage import MachineFailed, StorageError, list_files
from onestep.media.errors import MACHINE, message_of

NOT_A_FILE = "not a file"
CLOSED = "cannot be read"
_KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"))


@dataclass(frozen=True)
class Refusal:
    """Why a file is not taken: a reason of the quarantine, and its detail."""

    reason: str
    detail: str


@dataclass
class Listing:
    """The files of a folder by path relative to it: those that can be read, and those that cannot, with the reason."""

    files: dict[str, str] = field(default_factory=dict)  # shown name to name on disk: both alike but where not UTF-8
    refused: dict[str, Refusal] = field(default_factory=dict)

    def find(self, written: str) -> str | None:
        """The file that a table means by a name: to the letter, else composed otherwise, or with Windows' slashes."""
        for name in _spellings(written):
            if name in self.files or name in self.refused:
                return name
        forms = [unicodedata.normalize("NFC", name) for name in _spellings(written)]
        return next((self._by_form[form] for form in forms if form in self._by_form), None)

    def near(self, name: str) -> str | None:
        """A file that a wrong name may mean: in other letters of case, in another folder, or with a slip near its end."""
        folded = _folded(name)
        if found := self._by_fold.get(folded) or self._by_fold.get("/" + posixpath.basename(folded)):
            return found
        place = bisect_left(self._names, name)
        close = get_close_matches(name, self._names[max(place - 10, 0) : place + 10], n=1, cutoff=0.8)
        return close[0] if close else None

    @functools.cached_property
    def _names(self) -> list[str]:
        return sorted(self.files)

    @functools.cached_property
    def _by_form(self) -> dict[str, str]:
        return {unicodedata.normalize("NFC", name): name for name in (*self.refused, *self.files)}

    @functools.cached_property
    def _by_fold(self) -> dict[str, str]:
        names = reversed(self._names)
        return {key: name for name in names for key in (_folded(name), "/" + posixpath.basename(_folded(name)))}


def list_footage(fs: fsspec.AbstractFileSystem, root: str) -> Listing:
    """All that lies below the root of a folder of footage, local or remote; raises `MachineFailed` where it goes away."""
    if not is_local(fs):
        try:
            return Listing({name: name for name in list_files(fs, root)})
        except Exception as error:
            raise MachineFailed(f"{root} cannot be listed: {message_of(error)}") from error
    listing = Listing()
    top = Path(root).resolve()
    within = (top, *_dvc_caches(top))
    for path, problem in _walk(top):
        if problem and path == top:
            raise StorageError(f"{root} cannot be listed: {message_of(problem)}")
        name = path.relative_to(top).as_posix()
        shown = os.fsencode(name).decode("utf-8", "backslashreplace")
        refusal = _unreadable(path, problem, "folder cannot be listed") if problem else _examined(path, within)
        if refusal:
            listing.refused[shown] = refusal
        else:
            listing.files[shown] = name
    return listing


def explain_missing(fs: fsspec.AbstractFileSystem, root: str, written: str, listing: Listing) -> Refusal:
    """Why a name of the table is no file of the folder."""
    name = shown_name(written)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", name):
        return Refusal(NOT_A_FILE, "an address: fetch the file, and name its path below the folder")
    if posixpath.isabs(name) or ntpath.splitdrive(name)[0] or name.split("/")[0] in ("..", "~"):
        return Refusal(
            NOT_A_FILE, "no path below the folder: write it from the folder of metadata.csv on, as in takes/a.mp4"
        )
    parts = name.replace("\\", "/").split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    if is_local(fs):
        if link := next((place for place in above if stat.S_ISLNK(_mode(Path(root, place)))), None):
            return Refusal(NOT_A_FILE, f"{link} is a link to a folder: links are not followed")
        if stat.S_ISDIR(_mode(Path(root, above[-1]))):
            return Refusal(NOT_A_FILE, "a folder, not a regular file")
    if closed := next((place for place in above if place in listing.refused), None):
        return Refusal(listing.refused[closed].reason, f"{closed}: {listing.refused[closed].detail}")
    near = listing.near("/".join(parts))
    hint = f"; it holds {near!r}" if near else ""
    return Refusal("missing", f"metadata.csv lists it and the folder does not hold it{hint}")


def is_local(fs: fsspec.AbstractFileSystem) -> bool:
    """Whether a file system is this machine's own."""
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    return "file" in protocols


def shown_name(written: str) -> str:
    """How the quarantine names what the folder does not hold."""
    return posixpath.normpath(written.strip())


def _mode(path: Path) -> int:
    """The kind of what a path names; 0 where it names nothing."""
    try:
        return path.lstat().st_mode
    except OSError:
        return 0


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _walk(top: Path) -> Iterator[tuple[Path, OSError | None]]:
    """Everything below a folder but the folders themselves; links to folders are named, and not followed.

    A folder that cannot be listed comes with the error.
    """
    failed: list[OSError] = []
    for folder, folders, files in os.walk(top, onerror=failed.append):
        links = [name for name in folders if stat.S_ISLNK(_mode(Path(folder) / name))]
        for name in sorted([*files, *links]):
            yield Path(folder) / name, None
        folders[:] = sorted(set(folders) - set(links))
    for error in failed:
        yield Path(os.fsdecode(error.filename)), error


def _unreadable(path: Path, error: OSError, does: str) -> Refusal:
    """What the system refuses to show; raises `MachineFailed` where a disk or a network is at fault."""
    if error.errno in MACHINE or not path.parent.is_dir():
        raise MachineFailed(f"{path}: the {does}: {message_of(error)}") from error
    return Refusal(CLOSED, f"the {does}: {message_of(error)}")


def _examined(path: Path, within: Sequence[Path]) -> Refusal | None:
    link = None
    try:
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            link = os.fsencode(path.readlink()).decode("utf-8", "backslashreplace")
            target = path.resolve(strict=True)
            if not any(target.is_relative_to(folder) for folder in within):
                detail = (
                    f"a link out of the folder, to {link}: hand the file itself over, or let DVC use reflinks or copies"
                )
                return Refusal(NOT_A_FILE, detail)
            found = target.stat()
    except FileNotFoundError:
        return Refusal(NOT_A_FILE, f"a link to nothing, {link}" if link else "it vanished while the folder was read")
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop, to pathlib before Python 3.13
        if isinstance(error, RuntimeError) or error.errno == errno.ELOOP:
            return Refusal(NOT_A_FILE, "a link that leads back to itself")
        return _unreadable(path, error, "file cannot be examined")
    if stat.S_ISREG(found.st_mode):
        return None
    kind = next((word for test, word in _KINDS if test(found.st_mode)), "a device")
    return Refusal(NOT_A_FILE, f"{kind}, not a regular file")


def _dvc_caches(top: Path) -> Iterator[Path]:
    """Folders of the caches in which the DVC project above a folder keeps its files."""
    project = next((folder / ".dvc" for folder in (top, *top.parents) if (folder / ".dvc").is_dir()), None)
    if project is None:
        return
    yield (project / "cache" / "files").resolve()
    for name in ("config", "config.local"):
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            parser.read(project / name, encoding="utf-8")
            folder = parser.get("cache", "dir", fallback="")
        except (configparser.Error, UnicodeDecodeError):
            continue
        if folder:
            yield (project / folder / "files").resolve()


def _spellings(written: str) -> list[str]:
    names = [written, posixpath.normpath(written), shown_name(written), shown_name(written.replace("\\", "/"))]
    return list(dict.fromkeys(names))
