"""What the `samples` stage wrote, read back: families of sample sets for one table of prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from onestep.storage import read_json, replacing_folder, write_json

PROMPTS = "prompts.parquet"
RECORD = "samples.json"
MARKER = "champion.json"  # what the production stage leaves in its folder


class SamplesError(RuntimeError):
    """Sample folders are incomplete or do not belong together; the message names the folder."""


@dataclass(frozen=True)
class SampleSet:
    """One model at one setting."""

    name: str
    steps: int  # 0 where nothing was denoised
    guidance: float
    path: Path

    def frames(self) -> np.ndarray:
        """The clips in the prompts' order, uint8 `[N, T, H, W, 3]`."""
        from safetensors.numpy import load_file

        return load_file(self.path)["frames"]


@dataclass(frozen=True)
class Samples:
    """All sample sets of one comparison, the prompts they share, and the frame rate."""

    sets: tuple[SampleSet, ...]
    prompts: pd.DataFrame  # prompt_id, caption, clip_id, and attributes where the footage has them
    fps: float

    def named(self, name: str) -> SampleSet | None:
        """The set of that name, if it was sampled."""
        return next((found for found in self.sets if found.name == name), None)


def read_samples(folders: Sequence[Path]) -> Samples:
    """The families' sets in order; raises `SamplesError` when prompts or noise differ or a name comes twice.

    A folder without `samples.json` is a family that was not sampled (no champion is pinned, say) and is passed over.
    """
    present = [folder for folder in folders if (folder / RECORD).is_file()]
    if not present:
        raise SamplesError(f"none of {', '.join(map(str, folders))} holds samples: run the samples stages first")
    records = {folder: read_json(folder / RECORD) for folder in present}
    prompts = pd.read_parquet(present[0] / PROMPTS)
    sets: dict[str, SampleSet] = {}
    for folder, record in records.items():
        if not pd.read_parquet(folder / PROMPTS).equals(prompts):
            raise SamplesError(f"{folder} has other prompts than {present[0]}: sample both again from the same clips")
        if record["seed"] != records[present[0]]["seed"]:
            raise SamplesError(f"{folder} has other noise than {present[0]}: sample both again with one samples.seed")
        for entry in record["samples"]:
            if entry["name"] in sets:
                raise SamplesError(f"{folder} has a second set named {entry['name']}: pass each family once")
            path = folder / f"{entry['name']}.safetensors"
            if not path.is_file():
                raise SamplesError(f"{path} is missing although {folder / RECORD} lists it: sample the family again")
            sets[entry["name"]] = SampleSet(entry["name"], int(entry["steps"]), float(entry["guidance"]), path)
    return Samples(tuple(sets.values()), prompts, float(records[present[0]]["fps"]))


def pass_over(model: Path, out: Path) -> bool:
    """Whether `model` is the place of a champion that does not exist yet; then `out` gets its marker and no samples."""
    if not (model / MARKER).is_file() or (model / "model_index.json").is_file():
        return False
    with replacing_folder(out) as partial:
        write_json(partial / MARKER, read_json(model / MARKER))
    return True
