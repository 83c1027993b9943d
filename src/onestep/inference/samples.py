"""What the `samples` stage wrote, read back: families of sample sets for one table of prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from onestep.core.storage import read_json, read_mapping, read_table, reading, replacing_folder, write_json
from onestep.inference.rows import MARKER

PROMPTS = "prompts.parquet"
RECORD = "samples.json"
SHOWN = 8  # clips that are kept of a set whose measurements are kept
_COMPRESSED = ".npz"


class SamplesError(RuntimeError):
    """Sample folders are incomplete or do not belong together; the message names the folder."""


@dataclass(frozen=True)
class SampleSet:
    """One model at one setting: all of its clips, or what was measured of them and the first few to show."""

    name: str
    steps: int  # 0 where nothing was denoised
    guidance: float
    path: Path
    measured: Path | None = None  # what `Measured.save` wrote, where the clips themselves are not all kept

    def frames(self) -> np.ndarray:
        """The clips, uint8 `[N, T, H, W, 3]`: in the prompts' order, or the first of `Samples.to_show`."""
        from safetensors.numpy import load_file

        with reading(self.path, "samples", "sample the family again"):
            content = np.load(self.path) if self.path.suffix == _COMPRESSED else load_file(self.path)
            return content["frames"]


@dataclass(frozen=True)
class Samples:
    """All sample sets of one comparison, the prompts they share, and the frame rate."""

    sets: tuple[SampleSet, ...]
    prompts: pd.DataFrame  # prompt_id, caption, clip_id, and attributes where the footage has them
    fps: float

    def named(self, name: str) -> SampleSet | None:
        """The set of that name, if it was sampled."""
        return next((found for found in self.sets if found.name == name), None)

    def to_show(self, count: int) -> list[int]:
        """Rows of the first prompts with different captions: `count`, or fewer where a set kept fewer clips."""
        kept = SHOWN if any(found.measured for found in self.sets) else count
        return rows_to_show(self.prompts, min(count, kept))

    def shown(self, name: str, rows: Sequence[int]) -> np.ndarray:
        """The clips of a set at rows of `to_show`."""
        found = self.named(name)
        if found is None:
            raise SamplesError(f"there are no samples named {name}: known are {', '.join(s.name for s in self.sets)}")
        return found.frames()[: len(rows)] if found.measured else found.frames()[list(rows)]


def rows_to_show(prompts: pd.DataFrame, count: int) -> list[int]:
    """Rows of the first `count` prompts whose captions differ."""
    return prompts.drop_duplicates("caption").index[:count].tolist()


def read_samples(folders: Sequence[Path]) -> Samples:
    """The families' sets in order; raises `SamplesError` when prompts or noise differ or a name comes twice.

    A folder without `samples.json` is a family that was not sampled (no champion is pinned, say) and is passed over.
    """
    present = [folder for folder in folders if (folder / RECORD).is_file()]
    if not present:
        raise SamplesError(f"none of {', '.join(map(str, folders))} holds samples: run the samples stages first")
    records = {folder: read_mapping(folder / RECORD, seed=int, fps=(int, float), samples=list) for folder in present}
    prompts = read_table(present[0] / PROMPTS)
    sets: dict[str, SampleSet] = {}
    for folder, record in records.items():
        if not read_table(folder / PROMPTS).equals(prompts):
            raise SamplesError(f"{folder} has other prompts than {present[0]}: sample both again from the same clips")
        if record["seed"] != records[present[0]]["seed"]:
            raise SamplesError(
                f"{folder} has other noise than {present[0]}: sample both again with one data/production.json"
            )
        for entry in record["samples"]:
            if entry["name"] in sets:
                raise SamplesError(f"{folder} has a second set named {entry['name']}: pass each family once")
            sets[entry["name"]] = _sample_set(folder, entry)
    return Samples(tuple(sets.values()), prompts, float(records[present[0]]["fps"]))


def kept_paths(folder: Path, name: str) -> tuple[Path, Path]:
    """Where a family keeps the few clips to show, and what was measured of all, of a set that is not kept whole."""
    return folder / f"{name}{_COMPRESSED}", folder / f"{name}.measured.safetensors"


def _sample_set(folder: Path, entry: dict[str, Any]) -> SampleSet:
    name, (shown, measured) = entry["name"], kept_paths(folder, entry["name"])
    path = shown if measured.is_file() else folder / f"{name}.safetensors"
    if not path.is_file():
        raise SamplesError(f"{path} is missing although {folder / RECORD} lists it: sample the family again")
    return SampleSet(
        name, int(entry["steps"]), float(entry["guidance"]), path, measured if measured.is_file() else None
    )


def pass_over(model: Path, out: Path) -> bool:
    """Whether `model` is the place of a champion that does not exist yet; then `out` gets its marker and no samples."""
    if not (model / MARKER).is_file() or (model / "model_index.json").is_file():
        return False
    with replacing_folder(out) as partial:
        write_json(partial / MARKER, read_json(model / MARKER))
    return True
