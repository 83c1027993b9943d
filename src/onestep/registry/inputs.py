"""What would make the model, as one digest: clips, parameters, commands and code, known before anything is trained.

Two runs with the same digest train the same model; so a candidate that was refused is not tried again under another
day's date. What judges the model (gate, evaluation) is no part of it.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from onestep.registry.graph import artifact_path, open_graph
from onestep.registry.production import CLIPS, MODEL
from onestep.registry.repository import Repository


def model_inputs(root: Path) -> str:
    """The sha256 over the stages that make the model, down to the clips (which must be made) and what people write.

    Raises `GraphError` where the graph names no model or no clips.
    """
    repository = Repository(root)
    model, clips = (str((root / artifact_path(repository, name)).resolve()) for name in (MODEL, CLIPS))
    with open_graph(root) as repo:
        needs = repo.index.graph
        maker = {out.fs_path: stage for stage in needs for out in stage.outs}
        waiting, seen = [maker[model]], {}
        while waiting:
            stage = waiting.pop()
            if stage.addressing in seen:
                continue
            entry: dict[str, Any] = {"cmd": stage.cmd, "params": {}, "deps": {}}
            for dep in stage.deps:
                made_by = _maker(dep, needs.successors(stage))
                if hasattr(dep, "read_params"):
                    entry["params"][dep.def_path] = dep.read_params()
                elif made_by is None:
                    entry["deps"][dep.def_path] = str(dep.get_hash().value)
                elif made_by.cmd is None or made_by is maker[clips]:
                    entry["deps"][dep.def_path] = sorted(str(out.hash_info.value) for out in made_by.outs)
                else:
                    waiting.append(made_by)
            seen[stage.addressing] = entry
    return hashlib.sha256(json.dumps(seen, sort_keys=True, default=str).encode()).hexdigest()


def _maker(dep: Any, needed: Any) -> Any:
    """The stage whose output a dependency is, or lies in, or holds."""
    path = Path(dep.fs_path)
    for stage in needed:
        for out in stage.outs:
            made = Path(out.fs_path)
            if path == made or made in path.parents or path in made.parents:
                return stage
    return None
