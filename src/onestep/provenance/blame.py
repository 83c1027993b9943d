"""`onestep lineage blame` and `without`: which runs used a source file, and what would have to be made again without it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onestep.core.paths import CLIPS, MODEL, PRODUCTION
from onestep.core.storage import sha256_file
from onestep.provenance.collect import stage_name
from onestep.provenance.store import Found, everything
from onestep.provenance.store import manifest as files_of
from onestep.provenance.store import sources as sources_of
from onestep.vcs.project import Project
from onestep.vcs.versions import in_stage

_ROLES = {"train": "trained on it", "dev": "stopped and chosen by it", "test": "judged on it"}


class NoSource(RuntimeError):
    """No recorded run knows this file or clip; the message says what was looked for."""

    exit_code = 1


@dataclass(frozen=True)
class Use:
    """How one run used a source file: the file's name there, its clips by split, why it was refused, its champion tag."""

    model: str
    run: str
    verdict: str
    recorded_at: str
    source: str
    sha256: str | None
    clips: dict[str, list[str]]
    quarantined: list[str]
    in_production: bool

    @property
    def role(self) -> str:
        """What the run did with the file, in words."""
        said = [words for split, words in _ROLES.items() if self.clips.get(split)]
        if said:
            return ", ".join(said)
        return f"refused it ({', '.join(self.quarantined)})" if self.quarantined else "had it among its files"

    @property
    def trained(self) -> bool:
        """Whether the weights were fitted to the file or chosen by it; without an index of clips that must be assumed."""
        return bool(self.clips.get("train") or self.clips.get("dev")) or not (self.clips or self.quarantined)


@dataclass(frozen=True)
class Without:
    """What a source file's removal asks for: the models to make again, and the stages to run, in order."""

    source: list[str]
    retrain: list[Use]
    measure: list[Use]
    stages: list[str]


def blame(project: Project, name: str) -> list[Use]:
    """Every recorded run that used a source file, oldest first.

    name: a file on disk (found by its sha256, whatever it was called), a sha256, a source's name, or a clip's id. Raises
    `NoSource` where no run knows it.
    """
    runs, now = everything(project), in_stage(project.git, MODEL, PRODUCTION)
    digest = _digest(name)
    uses = []
    for found in runs:
        in_production = now is not None and now.commit == found.commit
        uses += [_use(found, row, in_production) for row in _rows(project, found) if _is(row, name, digest)]
    if not uses:
        shown = f"{name} (sha256 {digest})" if digest and digest != name else name
        raise NoSource(
            f"none of {len(runs)} recorded runs used {shown}; a file that was encoded anew has another sha256"
        )
    return uses


def without(project: Project, name: str) -> Without:
    """What would have to be made again if the source file had to go; raises `NoSource`."""
    uses = blame(project, name)
    stages = _stages_after_footage(project)
    names = sorted({use.source for use in uses})
    return Without(names, [use for use in uses if use.trained], [use for use in uses if not use.trained], stages)


def _digest(name: str) -> str | None:
    if re.fullmatch(r"[0-9a-f]{64}", name):
        return name
    return sha256_file(Path(name)) if Path(name).is_file() else None


def _rows(project: Project, found: Found) -> list[dict[str, Any]]:
    """The sources; and the files of stages that read no other stage's, which hold the refused sources' sha256."""
    rows = sources_of(project, found)
    known = {row["source"]: row for row in rows}
    first = [out.path for stage in found.record.stages for out in stage.outs if _is_first(found, stage.name)]
    for file in files_of(project, found):
        folder = next((path for path in first if file["path"].startswith(f"{path}/")), None)
        if folder is None:
            continue
        source = file["path"].removeprefix(f"{folder}/")
        if source in known:
            known[source]["sha256"] = known[source]["sha256"] or file["sha256"]
        else:
            rows.append({"source": file["path"], "sha256": file["sha256"], "clips": {}})
    return rows


def _is_first(found: Found, name: str) -> bool:
    stage = found.record.stage(name)
    return stage is not None and not any(found.record.producer(dep.path) for dep in stage.deps)


def _is(row: dict[str, Any], name: str, digest: str | None) -> bool:
    if digest is not None and row["sha256"] is not None:
        return bool(row["sha256"] == digest)
    source = row["source"]
    return source == name or source.endswith(f"/{name}") or any(name in clips for clips in row["clips"].values())


def _use(found: Found, row: dict[str, Any], in_production: bool) -> Use:
    record = found.record
    return Use(
        found.title,
        record.run,
        record.verdict.verdict,
        record.recorded_at,
        row["source"],
        row["sha256"],
        row["clips"],
        row.get("quarantined", []),
        in_production,
    )


def _stages_after_footage(project: Project) -> list[str]:
    """The stages of today's graph that a change of the footage reaches, in the order of `dvc.yaml`."""
    from dvc.repo.reproduce import get_active_graph, plan_repro

    clips = project.artifact(CLIPS)
    with project.graph() as repo:
        active = get_active_graph(repo.index.graph)
        order = list(plan_repro(active))
        reached: set[Any] = set()
        for stage in order:
            made = {Path(out.fs_path).relative_to(repo.root_dir).as_posix() for out in stage.outs if out.is_in_repo}
            if clips in made or any(needed in reached for needed in active.successors(stage)):
                reached.add(stage)
        return [stage_name(stage, Path(repo.root_dir)) for stage in order if stage in reached]
