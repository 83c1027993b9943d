"""Every byte in and out: fsspec URLs, atomic writes, sha256.

A path may be a local path or any fsspec URL (`s3://`, `hf://`, `file://`); outs are always local, because DVC owns them.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

CHUNK_BYTES = 1 << 20


class StorageError(RuntimeError):
    """Something could not be read or written; the message names it and says why."""


class MachineFailed(RuntimeError):
    """The machine failed, not the work: a child was killed, a disk is full, a program is missing. May go on later."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: the flow tries such a stage again


def open_folder(url: str | Path) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a folder URL and the folder's path in it; raises `StorageError` when it is not a folder."""
    fs, root = fsspec.core.url_to_fs(str(url))
    try:
        found = fs.isdir(root)
    except Exception as error:
        raise StorageError(f"{url} cannot be reached: {error}") from error
    if not found:
        raise StorageError(f"{url} is not a folder that can be read: check the path, or the credentials of its bucket")
    return fs, root.rstrip("/")


def list_files(fs: fsspec.AbstractFileSystem, root: str) -> list[str]:
    """All files below `root` as sorted paths relative to it."""
    prefix = len(root) + 1
    return sorted(path[prefix:] for path in fs.find(root))


def fetch(fs: fsspec.AbstractFileSystem, source: str, target: Path) -> str:
    """Copy one file to `target` and return its sha256; the target appears whole or not at all."""
    digest = hashlib.sha256()
    with fs.open(source, "rb") as reader, replacing(target) as partial, partial.open("wb") as writer:
        while chunk := reader.read(CHUNK_BYTES):
            digest.update(chunk)
            writer.write(chunk)
    return digest.hexdigest()


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


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path beside `target` that takes its place when the block ends well, and vanishes when it does not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o644)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """The same as `replacing` for a folder: filled beside `target`, swapped in when the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        yield partial
        partial.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        partial.replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically: sorted keys, no NaN, a final newline; the same content gives the same bytes."""
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    with replacing(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file; raises `StorageError` that names the file when it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StorageError(f"{path} does not exist: run the stage that makes it first") from error
    except json.JSONDecodeError as error:
        raise StorageError(f"{path} is not valid JSON: {error}") from error
