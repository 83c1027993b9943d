"""The bytes that DVC keeps: read from the cache, else from a remote, and hashed anew wherever they lie."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from onestep.core.redaction import SafeError
from onestep.core.storage import CHUNK_BYTES
from onestep.vcs.project import Project

if TYPE_CHECKING:
    from dvc.repo import Repo

DIRECTORY = ".dir"


class ObjectError(SafeError):
    """An object is in no cache and no remote, or its bytes are not those that its name says."""


@dataclass(frozen=True)
class Hashes:
    """What the bytes of an object really are."""

    md5: str
    sha256: str
    size: int


@dataclass
class Objects:
    """DVC's objects by md5; each is read once, whatever asks for it. A remote is opened when first needed."""

    places: list[tuple[str, Callable[[], Any]]]
    _known: dict[str, Hashes] = field(default_factory=dict)

    def hashes(self, md5: str) -> Hashes:
        """Both hashes of an object's bytes, computed anew; raises `ObjectError` where it is missing or not itself."""
        if md5 in self._known:
            return self._known[md5]
        first, second, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
        with self.open(md5) as (place, reader):
            while chunk := reader.read(CHUNK_BYTES):
                first.update(chunk)
                second.update(chunk)
                size += len(chunk)
        if first.hexdigest() != md5.removesuffix(DIRECTORY):
            raise ObjectError(f"its bytes in {place} have md5 {first.hexdigest()}, not {md5}")
        found = Hashes(md5, second.hexdigest(), size)
        self._known[md5] = found
        return found

    def listing(self, md5: str) -> dict[str, str]:
        """The files of a folder object: their md5 by relative path; a single file has the empty path."""
        if not md5.endswith(DIRECTORY):
            return {"": md5}
        self.hashes(md5)
        with self.open(md5) as (place, reader):
            try:
                return {entry["relpath"]: entry["md5"] for entry in json.loads(reader.read())}
            except (ValueError, KeyError, TypeError) as error:
                raise ObjectError(f"the listing {md5} in {place} cannot be read: {error!r}") from error

    def read(self, md5: str) -> bytes:
        """An object's bytes; raises `ObjectError`."""
        with self.open(md5) as (_, reader):
            return reader.read()

    def fetch(self, md5: str, target: Path) -> None:
        """Copy an object, a file or a folder, to `target`, its bytes checked; raises `ObjectError`."""
        for path, inner in self.listing(md5).items():
            file = target / path if path else target
            self.hashes(inner)
            file.parent.mkdir(parents=True, exist_ok=True)
            with self.open(inner) as (_, reader), file.open("wb") as writer:
                shutil.copyfileobj(reader, writer, CHUNK_BYTES)

    def has(self, md5: str) -> bool:
        """Whether any place has an object of this name, whatever its bytes."""
        try:
            with self.open(md5):
                return True
        except ObjectError:
            return False

    @contextmanager
    def open(self, md5: str) -> Iterator[tuple[str, BinaryIO]]:
        """The first place that has an object, and its bytes to read; raises `ObjectError`."""
        for place, opened in self.places:
            try:
                store = opened()
                reader = store.fs.open(store.oid_to_path(md5), "rb")
            except FileNotFoundError:
                continue
            except Exception as error:  # every kind of remote fails in its own way
                raise ObjectError(f"{place} cannot be read: {error}") from error
            with reader:
                yield place, reader
            return
        raise ObjectError(f"it is in none of: {', '.join(place for place, _ in self.places)}")


@contextmanager
def open_objects(project: Project) -> Iterator[Objects]:
    """The cache and the remotes of a project; raises `GraphError` when it is no DVC project."""
    with project.graph() as repo:
        yield Objects(_places(repo))


def _places(repo: "Repo") -> list[tuple[str, Callable[[], Any]]]:
    default = repo.config["core"].get("remote")
    names = sorted(repo.config["remote"], key=lambda name: (name != default, name))
    remotes = [(f"the remote {name!r}", cache(lambda name=name: repo.cloud.get_remote_odb(name))) for name in names]
    return [("the cache", lambda: repo.cache.local), *remotes]
