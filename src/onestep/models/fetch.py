"""Fetching a folder of weights by URL: the base model, the judge."""

import re
from pathlib import Path

from onestep.core.redaction import SafeError
from onestep.core.storage import fetch, list_files, open_folder, replacing_folder, sha256_folder
from onestep.models.settings import FetchSettings

_UNSAFE = re.compile(r"\.(bin|pt|pth|ckpt|pkl|pickle|py)$", re.IGNORECASE)


class FetchRefused(SafeError):
    """A folder was fetched but must not be used; the message says why."""


def fetch_folder(settings: FetchSettings, out: Path) -> str:
    """Copy a folder from any fsspec URL to `out` and return its sha256.

    Raises `StorageError` when the URL cannot be read and `FetchRefused` when the folder holds pickled weights or code,
    or when its fingerprint is not the pinned one.
    """
    fs, root = open_folder(settings.url)
    names = [name for name in list_files(fs, root) if not any(part.startswith(".") for part in Path(name).parts)]
    for name in names:
        if _UNSAFE.search(name):
            raise FetchRefused(f"{settings.url}/{name} is pickled or executable: only safetensors weights are loaded")
    if not any(name.endswith(".safetensors") for name in names):
        raise FetchRefused(f"{settings.url} holds no .safetensors weights")
    with replacing_folder(out) as partial:
        for name in names:
            fetch(fs, f"{root}/{name}", partial / name)
        found = sha256_folder(partial)
        if settings.sha256 not in (None, found):
            raise FetchRefused(
                f"{settings.url} has sha256 {found}, not the pinned {settings.sha256}: "
                "set sha256 to the new value if the change is meant"
            )
    return found
