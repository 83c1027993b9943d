"""The result of each file of footage, kept until `ingest` ends well, so that a run that the machine broke off goes on.

Kept outside the stage's outs, under a digest of settings and code; a file whose bytes or rows are others is done anew.
"""

import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onestep.core.storage import StorageError, read_json, sha256_file, write_json

ROOT = Path(".onestep/resume/ingest")
_LIBRARIES = ("av", "numpy", "scenedetect-headless", "opencv-python-headless", "imageio-ffmpeg", "imagehash", "pillow")
_PACKAGE = Path(__file__).parents[1]


class ResumeFolder:
    """The results of one ingest, by file; its folder also holds the clips until they are put into shards."""

    def __init__(self, out: Path, request: Mapping[str, Any], parent: Path = ROOT) -> None:
        code = {
            path.name: path.read_bytes().hex()
            for folder in (_PACKAGE / "core", _PACKAGE / "media", _PACKAGE / "data")
            for path in folder.glob("*.py")
        }
        versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
        self.parent = parent.absolute()
        self.place = _digest(str(out.absolute()))[:8]
        self.folder = self.parent / f"{self.place}-{_digest({**request, 'code': code, 'versions': versions})}"

    def open(self) -> Path:
        """Remove what belongs to other settings or code for the same out; the folder, which then exists."""
        for other in self.parent.glob(f"{self.place}-*"):
            if other != self.folder:
                shutil.rmtree(other, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder

    def clear(self) -> None:
        """Remove everything: the out is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)


def key_of(name: str, identity: str, rows: Any) -> str:
    """The name of one file's result: of its path, of what tells its bytes from others, and of its rows."""
    return _digest([name, identity, repr(rows)])


def write_result(folder: Path, key: str, clips: list[dict[str, Any]], refused: list[dict[str, Any]]) -> None:
    """Keep one result, whole or not at all; raises `OSError` on a full disk."""
    digests = {clip["video"]: sha256_file(folder / clip["video"]) for clip in clips}
    write_json(folder / f"{key}.json", {"clips": clips, "refused": refused, "sha256": digests})


def read_result(folder: Path, key: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]] | None:
    """A result of before; null where there is none, or where it or one of its clips is not as it was written.

    A machine that lost its power may leave files without their last bytes, and a file that changed and changed back
    has other clips under the same names.
    """
    try:
        found = read_json(folder / f"{key}.json")
        whole = all(sha256_file(folder / video) == digest for video, digest in found["sha256"].items())
        return (found["clips"], found["refused"]) if whole else None
    except (StorageError, FileNotFoundError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        return None


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:20]
