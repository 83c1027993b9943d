"""Errors of reading and writing a video: `VideoError` where the file is at fault, `MachineFailed` where the machine is."""

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
    """A video cannot be read or written, and the file is at fault; the message names the file and the reason."""

    def __init__(self, message: str, reason: str = "not transcodable") -> None:
        super().__init__(message)
        self.reason = reason


@contextmanager
def video_errors(name: str, does: str = "cannot be read", reason: str = "not a video") -> Iterator[None]:
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
            raise MachineFailed(f"{name} {does}: {message_of(error)}") from error
        raise VideoError(f"{name} {does}: {message_of(error)}", reason) from error


def message_of(error: BaseException) -> str:
    """The message of an exception, on one line."""
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(words).split())
