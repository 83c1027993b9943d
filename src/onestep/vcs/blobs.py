"""Files as git keeps them at a commit, by path and sha256: git's own ids are sha1."""

import hashlib
from collections.abc import Iterable

from onestep.vcs.git import Repository


def tracked(repository: Repository, commit: str, paths: Iterable[str] = ()) -> dict[str, str]:
    """The blobs at a commit by path relative to the repository's root: all, or those at or below `paths`."""
    listed = repository.git_bytes("ls-tree", "-r", "-z", commit, "--", *(f":(literal){path}" for path in paths))
    found = {}
    for line in listed.decode().split("\0"):
        meta, _, path = line.partition("\t")
        if path and meta.split()[1] == "blob":
            found[path] = meta.split()[2]
    return found


def contents(repository: Repository, blobs: Iterable[str]) -> dict[str, bytes]:
    """The bytes of blobs by id, read by one git process."""
    wanted = sorted(set(blobs))
    if not wanted:
        return {}
    stream = repository.git_bytes("cat-file", "--batch", stdin="\n".join(wanted) + "\n")
    found, place = {}, 0
    for blob in wanted:
        end = stream.index(b"\n", place)
        size = int(stream[place:end].split()[2])
        found[blob] = stream[end + 1 : end + 1 + size]
        place = end + size + 2
    return found


def sha256s(repository: Repository, commit: str, paths: Iterable[str] = ()) -> dict[str, str]:
    """The sha256 of those files by path."""
    blobs = tracked(repository, commit, paths)
    digests = {
        blob: hashlib.sha256(content).hexdigest() for blob, content in contents(repository, blobs.values()).items()
    }
    return {path: digests[blob] for path, blob in blobs.items()}
