"""The sets of `profiles/ablations.yaml`, and what became of each set and seed."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onestep.cli.params import overrides
from onestep.core.params import SettingsError, merged
from onestep.core.yaml_files import dump_yaml, read_yaml


class AblationError(RuntimeError):
    """The ablations cannot be run or read; the message names what is wrong."""


@dataclass(frozen=True)
class Ablation:
    """One set of `profiles/ablations.yaml`."""

    name: str
    title: str
    seeds: tuple[int, ...]
    settings: Mapping[str, Mapping[str, Any]]
    compare: str  # the set that it is held against

    def changes(self, seed: int) -> dict[str, dict[str, Any]]:
        """What it changes of params.yaml with this seed in both training stages."""
        seeded = {group: {"seed": seed} for group in ("consistency", "adversarial")}
        return merged(self.settings, seeded)

    def experiment(self, seed: int) -> str:
        """The experiment's name."""
        return f"ablation-{self.name}-{seed}"


@dataclass(frozen=True)
class Run:
    """One experiment and what became of it."""

    ablation: Ablation
    seed: int
    metrics: Mapping[str, Any] | None  # None until it is finished
    failure: str | None = None
    events: Sequence[Mapping[str, Any]] | None = None  # what the guard did; None where nothing says
    commit: str | None = None  # that it ran at, where DVC has it


def read_profile(profile: Path, params: Path | None) -> list[Ablation]:
    """The sets; raises `AblationError`.

    params: the settings over which each set must be legal; null = none is to be run.
    """
    content = read_yaml(profile)
    common = content.get("settings") or {}
    sets = [
        Ablation(
            name,
            entry["title"],
            tuple(entry.get("seeds", content["seeds"])),
            merged(common, entry["settings"]),
            entry.get("compare", content["compare"]),
        )
        for name, entry in content["sets"].items()
    ]
    for found in sets:
        if found.compare not in content["sets"]:
            raise AblationError(
                f"{profile}, set {found.name}: compare = {found.compare} is not a set; known are {', '.join(content['sets'])}"
            )
        if params is None:
            continue
        try:
            set_params(found, found.seeds[0], params)
        except SettingsError as error:
            raise AblationError(f"{profile}, set {found.name}: {error}") from error
    return sets


def set_params(ablation: Ablation, seed: int, params: Path) -> list[str]:
    """The changes as `--set-param` takes them, checked; raises `SettingsError`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / ablation.name
        file.write_text(dump_yaml(ablation.changes(seed)), encoding="utf-8")
        return overrides(file, params)
