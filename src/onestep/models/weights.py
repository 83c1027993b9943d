"""Whether a folder of weights is whole, told from its headers alone: before a library fails over it in its own words."""

import json
import os
from pathlib import Path
from typing import Any

from onestep.core.storage import StorageError, reading

_MOST_HEADER = 100 << 20  # bytes, as the format has it
_MOST_JSON = 8 << 20  # larger ones are tokenizers, and left to them
_DEEPEST, _MOST_FILES = 2, 10_000  # a pipeline is two levels deep; what is larger is no model
_AGAIN = "make or fetch it again"


def require_whole(folder: Path) -> None:
    """Return when every `.safetensors` and `.json` file of a model can be read; raises `StorageError` that names the first."""
    seen = 0
    for top, folders, names in os.walk(folder):
        deep = len(Path(top).parts) - len(folder.parts) >= _DEEPEST
        folders[:] = [] if deep else sorted(name for name in folders if not name.startswith("."))
        seen += len(names)
        if seen > _MOST_FILES:
            return
        for path in (Path(top, name) for name in sorted(names) if not name.startswith(".")):
            if path.suffix == ".safetensors":
                _require_tensors(path)
            elif path.suffix == ".json":
                _require_json(path)


def _require_json(path: Path) -> None:
    with reading(path, "valid JSON", _AGAIN):
        if path.stat().st_size <= _MOST_JSON:
            json.loads(path.read_bytes())


def _require_tensors(path: Path) -> None:
    """The format: eight bytes of length, a JSON header of that length, and the tensors' bytes, nothing more or less."""
    with reading(path, "a file of safetensors", _AGAIN), path.open("rb") as file:
        size = path.stat().st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MOST_HEADER):
            raise StorageError(f"{path} is cut short or no file of safetensors ({size} bytes): {_AGAIN}")
        header: dict[str, Any] = json.loads(file.read(length))
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        wanted = 8 + length + max(ends, default=0)
        if size != wanted:
            raise StorageError(f"{path} has {size} bytes, and its header says {wanted}: {_AGAIN}")
