"""`onestep lineage show`: a model's record as a tree in the terminal."""

from typing import TYPE_CHECKING

from onestep.core.paths import MODEL, PRODUCTION
from onestep.provenance import ledger
from onestep.provenance.entries import Promotion, of_kind
from onestep.provenance.record import Item, Record
from onestep.provenance.store import Found, sources
from onestep.vcs.project import Project
from onestep.vcs.versions import assignments, in_stage

if TYPE_CHECKING:
    from rich.tree import Tree


def tree(project: Project, found: Found) -> "Tree":
    """The record as a rich tree: verdict, origin, footage, stages with what they made, metrics, licences."""
    from rich.tree import Tree

    record = found.record
    top = Tree(f"[bold]{found.title}[/bold]  {record.path}  sha256 {record.sha256[:12]}  {place(project, found)}")
    verdict = top.add(f"verdict [bold]{record.verdict.verdict}[/bold]: {record.verdict.reason}")
    for name, outcome in record.verdict.rules.items():
        verdict.add(f"{outcome}: {name}")
    top.add(signature(found))
    top.add(f"recorded {record.recorded_at}, run {record.run}, ledger head {record.ledger_head[:12]}")
    dirty = f"; not committed then: {', '.join(record.dirty)}" if record.dirty else ""
    top.add(f"git {record.source_commit[:12]}, run's commit {record.run_commit[:12]}{dirty}")
    made_on = f"{record.hardware.cpu}, {record.hardware.cores} cores"
    gpus = f", {', '.join(record.hardware.gpus)}" if record.hardware.gpus else ""
    threads = ", ".join(f"{name} {count}" for name, count in record.threads.items())
    top.add(
        f"environment python {record.environment.python}, {len(record.environment.packages)} packages; {made_on}{gpus}"
    )
    top.add(f"threads {threads or 'not pinned'}; seeds {_pairs(record)}")
    if record.flow_run:
        top.add(f"flow run {record.flow_run}")
    _add_footage(top, project, found)
    stages = top.add(f"{len(record.stages)} stages")
    for stage in record.stages:
        branch = stages.add(f"[bold]{stage.name}[/bold]  {stage.cmd or 'imported'}")
        for item in stage.outs:
            branch.add(described(item))
    if record.metrics:
        metrics = top.add("metrics")
        for name, cell in record.metrics.items():
            metrics.add(f"{name} {number(cell)}")
    licences = top.add("licences")
    for licence in record.licences:
        licences.add(f"{licence.path}: {licence.licence or '[bold]not stated[/bold] in dvc.yaml'}")
    return top


def place(project: Project, found: Found) -> str:
    """Where the model stands: in production, promoted once, or not promoted."""
    now = in_stage(project.git, MODEL, PRODUCTION)
    tags = [known.tag for known in assignments(project.git, MODEL) if known.commit == found.commit]
    if now is not None and now.commit == found.commit:
        return f"in production ({now.tag})"
    if tags:
        return f"was in production ({', '.join(tags)})"
    moves = of_kind(ledger.read(project.git), Promotion)
    return "promotion cut off" if any(m.run == found.record.run for m in moves) else "not promoted"


def signature(found: Found) -> str:
    """Who signed, as far as the record says."""
    if found.signer is None:
        return "[bold red]UNSIGNED[/bold red]: this record does not prove who wrote it"
    return f"signed by {found.signer.fingerprint} (onestep lineage verify checks it)"


def described(item: Item) -> str:
    """An item in one line: path, hashes, how many files, who keeps it."""
    count = f"  {item.files} files" if item.files else ""
    sha256 = f"sha256 {item.sha256[:12]}" if item.sha256 else "outside"
    md5 = f"  md5 {item.md5[:12]}" if item.md5 else ""
    return f"{item.path}  {sha256}{md5}{count}  ({item.kept})"


def number(cell: object) -> str:
    """A metric with its interval, where it has one."""
    if isinstance(cell, dict) and isinstance(cell.get("value"), int | float):
        low, high = cell.get("low"), cell.get("high")
        interval = f" [{low:.4g}, {high:.4g}]" if isinstance(low, int | float) and isinstance(high, int | float) else ""
        return f"{cell['value']:.4g}{interval}"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _add_footage(top: "Tree", project: Project, found: Found) -> None:
    rows = sources(project, found)
    if not rows:
        return
    count = {split: sum(len(row["clips"].get(split, [])) for row in rows) for split in ("train", "dev", "test")}
    refused = sum(not row["clips"] for row in rows)
    clips = ", ".join(f"{number} {split}" for split, number in count.items() if number)
    branch = top.add(f"footage: {len(rows)} source files, clips: {clips}; {refused} files refused whole")
    for row in rows[:3]:
        branch.add(f"{row['source']}  sha256 {(row['sha256'] or 'refused')[:12]}")
    if len(rows) > 3:
        branch.add(f"and {len(rows) - 3} more: show --html lists them, blame looks one up")


def _pairs(record: Record) -> str:
    return ", ".join(f"{name} {seed}" for name, seed in record.seeds.items()) or "none"
