"""A private key's file is read only where no other person can read or replace it, as `ssh` does; and appears whole."""

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

LARGEST_BYTES = 1 << 16


class SigningError(RuntimeError):
    """A key cannot be read, or a signature has no meaning; the message names the file or variable."""


def read_private(path: Path) -> bytes:
    """The bytes of a private key's file; of a link, those of the file that it leads to.

    Raises `SigningError` where it is no regular file, where others may read it or write to its folder.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO would wait for a writer
    except OSError as error:
        dangles = path.is_symlink() and not path.exists()
        why = "is a link that leads nowhere" if dangles else f"cannot be read: {error.strerror}"
        raise SigningError(f"the signing key {path} {why}") from error
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
            raise SigningError(f"the signing key {path} is {kind}: name the key's own file")
        _require_private(path, stat.S_IMODE(found.st_mode))
        return os.read(handle, LARGEST_BYTES)
    except OSError as error:
        raise SigningError(f"the signing key {path} cannot be read: {error.strerror}") from error
    finally:
        os.close(handle)


def create_file(path: Path, content: bytes, mode: int) -> None:
    """Write a file that is not there yet, so that it appears whole; raises `FileExistsError` where it is there."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as writer:
            writer.write(content)
            writer.flush()
            os.fchmod(writer.fileno(), mode)
            os.fsync(writer.fileno())
        try:
            os.link(name, path)
        except FileExistsError as error:
            raise FileExistsError(error.errno, error.strerror, str(path)) from error
        except OSError:  # a file system without links
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as writer:
                writer.write(content)
    finally:
        Path(name).unlink()


def close_folder(folder: Path) -> None:
    """Take from others the right to put another file into a folder of one's own; a sticky one (`/tmp`) is safe as it is."""
    there = folder.stat()
    if there.st_uid == os.geteuid() and there.st_mode & 0o022 and not there.st_mode & stat.S_ISVTX:
        folder.chmod(stat.S_IMODE(there.st_mode) & ~0o022)


def _require_private(path: Path, mode: int) -> None:
    if mode & 0o077:
        raise SigningError(
            f"the signing key {path} is open to others (mode {mode:04o}): chmod 600 {path}; if others had the time to "
            "copy it, make another one with onestep keygen"
        )
    folder = path.resolve().parent
    there = folder.stat()
    open_to = there.st_mode & 0o022
    if there.st_mode & stat.S_ISVTX or (open_to == 0o020 and _alone_in_group(there.st_gid)):
        return
    if open_to:
        raise SigningError(
            f"the folder of the signing key {path} can be written to by others (mode {stat.S_IMODE(there.st_mode):04o}), "
            f"who could put another key there: chmod go-w {folder}"
        )


def _alone_in_group(group: int) -> bool:
    """Whether a group is the user's own, as most systems give to each of them."""
    import grp
    import pwd

    with suppress(KeyError):
        user = pwd.getpwuid(os.geteuid())
        return group == user.pw_gid and not set(grp.getgrgid(group).gr_mem) - {user.pw_name}
    return False
