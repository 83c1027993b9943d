"""What a folder of footage holds: its regular files, and what is none of them, decided before a byte is read.

A named pipe would be read for ever, a link to a device too; a link out of the folder would make clips of what was never
handed over. Links within the folder, and those into the project's own DVC cache (`cache.type symlink`), are files like
others.
"""

import configparser
import os
import posixpath
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import fsspec

from onestep.storage import list_files
from onestep.video_errors import said_by

NOT_A_FILE = "not a file"
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
        by_form = {unicodedata.normalize("NFC", name): name for name in (*self.refused, *self.files)}
        forms = [unicodedata.normalize("NFC", name) for name in _spellings(written)]
        return next((by_form[form] for form in forms if form in by_form), None)


def list_footage(fs: fsspec.AbstractFileSystem, root: str) -> Listing:
    """All that lies below the root of a folder of footage, local or remote."""
    if not is_local(fs):
        return Listing({name: name for name in list_files(fs, root)})
    listing = Listing()
    top = Path(root).resolve()
    within = (top, *_dvc_caches(top))
    for path in _walk(top):
        name = path.relative_to(top).as_posix()
        shown = os.fsencode(name).decode("utf-8", "backslashreplace")
        if refusal := _examined(path, within):
            listing.refused[shown] = refusal
        else:
            listing.files[shown] = name
    return listing


def explain_missing(fs: fsspec.AbstractFileSystem, root: str, written: str, listing: Listing) -> Refusal:
    """Why a name of the table is no file of the folder."""
    name = shown_name(written)
    if posixpath.isabs(name) or name.split("/")[0] == "..":
        return Refusal(NOT_A_FILE, "metadata.csv names what lies outside the folder: only files below it are footage")
    if is_local(fs):
        path = Path(root) / name
        for folder in reversed((path, *path.parents[: len(Path(name).parts) - 1])):
            if folder.is_symlink():
                said = f"{folder.relative_to(root).as_posix()} is a link to a folder: links are not followed"
                return Refusal(NOT_A_FILE, said)
        if path.is_dir():
            return Refusal(NOT_A_FILE, "a folder, not a regular file")
    near = get_close_matches(name, listing.files, n=1, cutoff=0.8)
    hint = f"; it holds {near[0]!r}" if near else ""
    return Refusal("missing", f"metadata.csv lists it and the folder does not hold it{hint}")


def is_local(fs: fsspec.AbstractFileSystem) -> bool:
    """Whether a file system is this machine's own."""
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    return "file" in protocols


def shown_name(written: str) -> str:
    """How the quarantine names what the folder does not hold."""
    return posixpath.normpath(written.strip())


def _walk(top: Path) -> Iterator[Path]:
    """Everything below a folder but the folders themselves; links to folders are named, and not followed."""
    for folder, folders, files in os.walk(top):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in sorted([*files, *links]):
            yield Path(folder) / name
        folders[:] = sorted(set(folders) - set(links))


def _examined(path: Path, within: Sequence[Path]) -> Refusal | None:
    link = None
    try:
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            link = os.fsencode(path.readlink()).decode("utf-8", "backslashreplace")
            target = path.resolve(strict=True)
            if not any(target.is_relative_to(folder) for folder in within):
                said = (
                    f"a link out of the folder, to {link}: hand the file itself over, or let DVC use reflinks or copies"
                )
                return Refusal(NOT_A_FILE, said)
            found = target.stat()
    except FileNotFoundError:
        return Refusal(NOT_A_FILE, f"a link to nothing, {link}" if link else "it vanished while the folder was read")
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop, to pathlib before Python 3.13
        said = "a link that leads back to itself" if link else f"it cannot be looked at: {said_by(error)}"
        return Refusal(NOT_A_FILE, said)
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
