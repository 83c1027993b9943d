"""Every byte in and out: fsspec URLs, atomic writes, sha256.

A path may be a local path or any fsspec URL (`s3://`, `hf://`, `file://`); outs are always local, because DVC owns them.
"""

import hashlib
import json
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onestep.core.disk import MachineFailed, StorageError, machine_sentence, path_sentence, replacing, replacing_folder
from onestep.core.redaction import without_parts, without_secrets

if TYPE_CHECKING:
    import pandas as pd
    from fsspec import AbstractFileSystem

__all__ = [
    "MachineFailed",
    "MissingKey",
    "StorageError",
    "fetch",
    "list_files",
    "open_folder",
    "read_json",
    "read_mapping",
    "read_table",
    "reading",
    "replacing",
    "replacing_folder",
    "sha256_file",
    "sha256_folder",
    "write_json",
]

CHUNK_BYTES = 1 << 20


class MissingKey(StorageError, KeyError):
    """A JSON file lacks a key that is needed of it; the message names both."""

    __str__ = StorageError.__str__


class _Object(dict[str, Any]):
    """An object of a JSON file that knows the file, so that a missing key can be named."""

    source: Path | None = None

    def __missing__(self, key: str) -> Any:
        raise MissingKey(f"{self.source} has no {key!r}: this version's stage writes it; run that again")


def open_folder(url: str | Path) -> tuple["AbstractFileSystem", str]:
    """The file system of a folder URL and the folder's path in it; raises `StorageError` when it is not a folder."""
    from fsspec.core import url_to_fs

    with _reaching(str(url)):
        fs, root = url_to_fs(str(url))
        found = fs.isdir(root)
    if not found:
        raise StorageError(f"{url} is not a folder that can be read: check the path, or the credentials of its bucket")
    return fs, root.rstrip("/")


def list_files(fs: "AbstractFileSystem", root: str) -> list[str]:
    """All files below `root` as sorted paths relative to it; raises `StorageError` when it cannot be listed."""
    prefix = len(root) + 1
    with _reaching(root):
        return sorted(path[prefix:] for path in fs.find(root))


def fetch(fs: "AbstractFileSystem", source: str, target: Path) -> str:
    """Copy one file to `target` and return its sha256; the target appears whole or not at all.

    Raises `StorageError` when the source cannot be read, `MachineFailed` when the disk has no room for it.
    """
    digest = hashlib.sha256()
    with _reaching(source):
        size = fs.size(source)
        reader = fs.open(source, "rb")
    with reader, replacing(target, needs=size or 0) as partial, partial.open("wb") as writer:
        while True:
            with _reaching(source):
                chunk = reader.read(CHUNK_BYTES)
            if not chunk:
                break
            digest.update(chunk)
            writer.write(chunk)
    return digest.hexdigest()


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Whatever the libraries of a remote storage raise, as one sentence that names the address."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, FileNotFoundError):
            reason = "it is not there"
        elif isinstance(error, OSError) and error.errno is not None and type(error).__module__ == "builtins":
            reason = machine_sentence(error) or path_sentence(error)
        else:
            said = without_parts(without_secrets(str(error)), url)
            reason = f"{type(error).__name__}: {next(iter(said.splitlines()), '')}"
        raise StorageError(f"{url} cannot be reached: {reason}") from error


def sha256_file(path: Path) -> str:
    """The sha256 of a local file, in hex."""
    with path.open("rb") as reader:
        return hashlib.file_digest(reader, "sha256").hexdigest()


def sha256_folder(folder: Path) -> str:
    """One sha256 for a folder: of the sorted relative names and contents of its files; dot-files do not count."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*"), key=lambda p: p.relative_to(folder).as_posix()):
        if path.is_file() and not path.name.startswith("."):
            digest.update(f"{path.relative_to(folder).as_posix()}\0{sha256_file(path)}\n".encode())
    return digest.hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically: sorted keys, no NaN, a final newline; the same content gives the same bytes."""
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    with replacing(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path, kind: type = dict) -> Any:
    """Read a JSON file; raises `StorageError` that names the file when it is missing, broken or not of that kind.

    Looking a missing key up in an object of it, at any depth, raises `MissingKey`.
    """

    def object_of(pairs: dict[str, Any]) -> _Object:
        found = _Object(pairs)
        found.source = path
        return found

    with reading(path, "JSON"):
        try:
            content = json.loads(path.read_text(encoding="utf-8"), object_hook=object_of)
        except json.JSONDecodeError as error:
            raise StorageError(f"{path} is not valid JSON: {error}") from error
        except UnicodeDecodeError as error:
            raise StorageError(f"{path} is not valid JSON: it is no UTF-8 text") from error
    if not isinstance(content, kind):
        raise StorageError(
            f"{path} holds {_called(content)} where {_CALLED[kind]} is needed: run the stage that makes it again"
        )
    return content


def read_mapping(path: Path, **keys: type | tuple[type, ...]) -> dict[str, Any]:
    """A JSON file that holds these keys, of these types; raises `StorageError` that names the file and the wrong key."""
    content: dict[str, Any] = read_json(path)
    for key, kinds in keys.items():
        names = [kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,))]
        value = content[key]
        if not isinstance(value, kinds) or (isinstance(value, bool) and "bool" not in names):
            raise StorageError(
                f"{path}: {key} is of type {type(value).__name__}, not {' or '.join(names)}: run the stage that makes it again"
            )
    return content


def read_table(
    path: Path, again: str = "run the stage that makes it first", columns: Iterable[str] = ()
) -> "pd.DataFrame":
    """A parquet file; raises `StorageError` that names the file when it is missing, broken or lacks one of `columns`."""
    import pandas as pd

    with reading(path, "a parquet table", again):
        found = pd.read_parquet(path)
    missing = [name for name in columns if name not in found.columns]
    if missing:
        raise StorageError(f"{path} has no column {missing[0]!r}: {again}")
    return found


@contextmanager
def reading(path: Path, what: str, again: str = "run the stage that makes it first") -> Iterator[None]:
    """Read one regular file in the block: whatever a library raises over it becomes a `StorageError` that names it."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # a pipe would be waited for without end
            raise StorageError(
                f"{path} is {'a folder' if stat.S_ISDIR(mode) else 'not a regular file'}: give {what} file"
            )
        yield
    except (StorageError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise StorageError(f"{path} does not exist: {again}") from error
    except OSError as error:
        if error.errno is None:  # how Arrow and Pillow say that a file is broken
            raise StorageError(_broken(path, what, error)) from error
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:
        raise StorageError(_broken(path, what, error)) from error


_CALLED: dict[type, str] = {dict: "an object", list: "a list"}


def _called(content: Any) -> str:
    return next(
        (name for kind, name in _CALLED.items() if isinstance(content, kind)), f"the value {str(content)[:40]!r}"
    )


def _broken(path: Path, what: str, error: Exception) -> str:
    return f"{path} is not {what} that can be read: {' '.join(str(error).split())[:300] or type(error).__name__}"
