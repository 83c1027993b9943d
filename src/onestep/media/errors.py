"""Whose fault it is when a video cannot be read or written: the file's, or the machine's."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from onestep.core.storage import MachineFailed, StorageError

MACHINE = {  # what a disk, a network or the system's own limits are at fault for
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EFBIG, errno.EAGAIN,
    errno.ESTALE, errno.ENOTCONN, errno.ECONNRESET, errno.ECONNABORTED, errno.ETIMEDOUT, errno.EHOSTDOWN,
    errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENODEV, errno.ENXIO,
}  # fmt: skip


class VideoError(RuntimeError):
    """A video could not be read or written, by the file's own fault; the message names the file and says why."""

    def __init__(self, message: str, reason: str = "not transcodable") -> None:
        super().__init__(message)
        self.reason = reason


@contextmanager
def blaming(name: str, does: str = "cannot be read", reason: str = "not a video") -> Iterator[None]:
    """Turn whatever libraries raise over a file into `VideoError`, or `MachineFailed` where the machine is at fault.

    A damaged file makes the libraries below raise nearly anything: `AttributeError`, `ZeroDivisionError`, `cv2.error`.
    """
    try:
        yield
    except (VideoError, MachineFailed, StorageError):
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            raise VideoError(f"{name} {does}: it needs more memory than this process may take", "too large") from error
        if type(error).__module__.partition(".")[0] != "av" and isinstance(error, OSError) and error.errno in MACHINE:
            raise MachineFailed(f"{name} {does}: {said_by(error)}") from error
        raise VideoError(f"{name} {does}: {said_by(error)}", reason) from error


def said_by(error: BaseException) -> str:
    """An exception's own words, on one line."""
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(words).split())
