"""The settings and the code that a candidate is made of, as a trial names them before its result exists.

Both cover what can change the verdict and nothing else: the stage that makes it, and all stages that this one needs.
So a page, a wording or a schedule can be mended without making another candidate, which would cost alpha.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from onestep.core.paths import PARAMS, PIN
from onestep.core.storage import sha256_file
from onestep.core.yaml_files import plain, read_yaml
from onestep.vcs.graph import Inputs
from onestep.vcs.project import Project


def params_sha256(project: Project, inputs: Inputs, settings: Mapping[str, Any] | None = None) -> str:
    """The settings that the stages read, parsed, whatever their order and comments.

    settings: the content of `params.yaml`, null = the project's own.
    """
    read = {}
    for path, keys in inputs.settings.items():
        if path != PIN:
            content = settings if settings is not None and path == PARAMS else read_yaml(project.root / path)
            read[path] = content if keys is None else _chosen(content, keys)
    return _digest(read)


def code_sha256(project: Project, inputs: Inputs) -> str:
    """The commands of the stages, and every file that they read and no stage makes: code, and its lock."""
    files = {path: sha256_file(project.root / path) for path in inputs.files if path != PIN}
    return _digest({"commands": inputs.commands, "files": files})


def _chosen(content: Any, keys: Sequence[str]) -> dict[str, Any]:
    """The values of dotted keys; null for one that is not there."""
    found = {}
    for key in keys:
        value = content
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        found[key] = value
    return found


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(plain(content), sort_keys=True, separators=(",", ":")).encode()).hexdigest()
