"""Resume points: everything a training run needs to go on, as safetensors and JSON, never pickle.

They live outside the stage's outs, under a digest of what the run was asked to do, so that an interrupted stage goes on
where it stopped and a stage with other inputs or settings starts anew.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from onestep.core.storage import read_mapping, reading, replacing_folder, write_json
from onestep.training.trainer import Callback, Trainer

ROOT = Path(".onestep/resume")
FILES = "files"  # folder of a resume point: what the run had written into its outs so far


class ResumeRefused(RuntimeError):
    """A resume point does not belong to this run; the message names what differs."""


def digest(request: Mapping[str, Any]) -> str:
    """A short name for what a run was asked to do: its settings and the fingerprints of its inputs."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]


class ResumePoint:
    """The resume folder of one run: `save` replaces it whole, `load` gives the last whole one."""

    def __init__(self, stage: str, request: Mapping[str, Any], parent: Path = ROOT) -> None:
        self.request = json.loads(json.dumps(request))
        self.folder = parent / stage / digest(request)

    def save(
        self,
        progress: Mapping[str, Any],
        groups: Mapping[str, Mapping[str, Tensor]],
        files: Iterable[Path] = (),
    ) -> None:
        """Keep progress (JSON), named groups of tensors and copies of files; a kill leaves the previous point."""
        with replacing_folder(self.folder) as partial:
            tensors = {
                f"{group}/{name}": t.detach().cpu().clone(memory_format=torch.contiguous_format)
                for group, g in groups.items()
                for name, t in g.items()
            }
            save_file(tensors, partial / "state.safetensors")
            (partial / FILES).mkdir()
            for path in files:
                shutil.copyfile(path, partial / FILES / path.name)
            write_json(partial / "state.json", {"request": self.request, "progress": progress})

    def load(self) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]] | None:
        """Progress and tensor groups, or None when there is nothing to resume; raises `ResumeRefused`."""
        if not (self.folder / "state.json").is_file():
            return None
        content = read_mapping(self.folder / "state.json", request=dict, progress=dict)
        if content["request"] != self.request:
            keys = sorted(
                key
                for key in {*content["request"], *self.request}
                if content["request"].get(key) != self.request.get(key)
            )
            raise ResumeRefused(
                f"{self.folder} was made by another run (different: {', '.join(keys)}): remove it to start anew, "
                "or restore those settings"
            )
        groups: dict[str, dict[str, Tensor]] = {}
        path = self.folder / "state.safetensors"
        with reading(path, "the state of a run", f"remove {self.folder} to start anew"):
            tensors = load_file(path)
        for name, tensor in tensors.items():
            group, key = name.split("/", 1)
            groups.setdefault(group, {})[key] = tensor
        return content["progress"], groups

    def bring_back(self, folder: Path, pattern: str) -> None:
        """Leave in `folder`, of the files that match `pattern`, those that were there at the resume point, as they were.

        DVC removes a stage's outs before it runs the stage again; by hand, files of another run may lie there.
        """
        for stale in folder.glob(pattern):
            stale.unlink()
        kept = sorted((self.folder / FILES).glob(pattern))
        if kept:
            folder.mkdir(parents=True, exist_ok=True)
        for path in kept:
            shutil.copyfile(path, folder / path.name)

    def clear(self) -> None:
        """Forget the run: its outs are complete."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Resume(Callback):
    """Goes on where an interrupted run of the same request stopped, exactly; it stands last among the callbacks."""

    def __init__(self, point: ResumePoint, every: int, folder: Path, pattern: str) -> None:
        """every: updates between two resume points; folder, pattern: files of the run that a point keeps too."""
        self.point, self.every, self.folder, self.pattern = point, every, folder, pattern

    def setup(self, trainer: Trainer) -> None:
        """Restore the run, where there is a point; raises `ResumeRefused` when it is another run's."""
        if trainer.accelerator.is_main_process:
            self.point.bring_back(self.folder, self.pattern)
        if found := self.point.load():
            trainer.restore(*found)
            trainer.accelerator.print(f"{trainer.name}: resumed at update {trainer.step} of {trainer.updates}")

    def on_update_end(self, trainer: Trainer) -> None:
        """Keep a resume point where it is time."""
        step = trainer.step
        if trainer.accelerator.is_main_process and step % self.every == 0 and step < trainer.updates:
            self.point.save(*trainer.state(), sorted(self.folder.glob(self.pattern)))
