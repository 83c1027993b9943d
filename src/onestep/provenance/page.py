"""`onestep lineage show --html`: one offline page with the graph from footage files to weights; click what you ask about."""

import base64
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from onestep.core.storage import replacing
from onestep.provenance.diff import flattened
from onestep.provenance.record import Item, Record, StageRecord
from onestep.provenance.show import number, place
from onestep.provenance.store import Found, manifest, sources
from onestep.vcs.project import Project

BOX, GAP_X, GAP_Y, CHIP, HEAD, MARGIN = 218, 22, 54, 19, 26, 24  # pixels


def write_page(project: Project, found: Found, out: Path) -> None:
    """Write the page; it loads nothing from anywhere."""
    from jinja2 import Environment

    record, rows = found.record, sources(project, found)
    boxes = layout(record)
    template = Environment(autoescape=True).from_string(
        files("onestep.report").joinpath("lineage.html.j2").read_text(encoding="utf-8")
    )
    text = template.render(
        found=found,
        record=record,
        place=place(project, found),
        metrics={name: number(cell) for name, cell in record.metrics.items()},
        boxes=boxes,
        edges=_edges(record, boxes),
        width=max(box["x"] for box in boxes) + BOX + MARGIN,
        height=max(box["y"] + box["height"] for box in boxes) + MARGIN,
        box_width=BOX,
        # base64, so that no text of a record can end the script
        data=base64.b64encode(json.dumps(_details(record, rows, manifest(project, found))).encode()).decode(),
    )
    with replacing(out) as partial:
        partial.write_text(text, encoding="utf-8")


def layout(record: Record) -> list[dict[str, Any]]:
    """A box per stage with its outputs as lines in it, in rows: a stage stands below all that it needs."""
    levels = _levels(record)
    boxes: list[dict[str, Any]] = []
    y = MARGIN
    for level in range(max(levels.values()) + 1):
        row = [stage for stage in record.stages if levels[stage.name] == level]
        row.sort(key=lambda stage: _pull(record, stage, boxes))
        tallest = 0
        for place_, stage in enumerate(row):
            height = HEAD + CHIP * len(stage.outs) + 6
            outs = [{"path": out.path, "y": HEAD + CHIP * index} for index, out in enumerate(stage.outs)]
            x = MARGIN + place_ * (BOX + GAP_X)
            boxes.append({"name": stage.name, "x": x, "y": y, "height": height, "outs": outs})
            tallest = max(tallest, height)
        y += tallest + GAP_Y
    _centre(boxes)
    return boxes


def _levels(record: Record) -> dict[str, int]:
    """The row of each stage: one below the lowest of those it needs; what needs nothing stands just above its first user."""
    needs = {stage.name: _needs(record, stage) for stage in record.stages}
    levels: dict[str, int] = {}
    for stage in record.stages:
        levels[stage.name] = max((levels[name] + 1 for name in needs[stage.name] if name in levels), default=0)
    for stage in record.stages:
        users = [levels[name] for name, needed in needs.items() if stage.name in needed]
        if not needs[stage.name] and users:
            levels[stage.name] = min(users) - 1
    return levels


def _needs(record: Record, stage: StageRecord) -> set[str]:
    makers = (record.producer(dep.path) for dep in stage.deps)
    return {maker.name for maker in makers if maker is not None and maker.name != stage.name}


def _pull(record: Record, stage: StageRecord, boxes: list[dict[str, Any]]) -> float:
    """Where the stages that a stage needs stand, on average: the order within a row."""
    xs = [box["x"] for box in boxes if box["name"] in _needs(record, stage)]
    return sum(xs) / len(xs) if xs else 0.0


def _centre(boxes: list[dict[str, Any]]) -> None:
    right = max(box["x"] for box in boxes)
    for y in {box["y"] for box in boxes}:
        row = [box for box in boxes if box["y"] == y]
        shift = (right - max(box["x"] for box in row)) // 2
        for box in row:
            box["x"] += shift


def _edges(record: Record, boxes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One curve from each output to each stage that reads it."""
    at = {box["name"]: box for box in boxes}
    found = []
    for stage in record.stages:
        target = at[stage.name]
        readers = [dep.path for dep in stage.deps if (m := record.producer(dep.path)) and m.name != stage.name]
        for place_, path in enumerate(readers):
            maker = record.producer(path)
            assert maker is not None
            source = at[maker.name]
            x1, y1 = source["x"] + BOX / 2, source["y"] + source["height"]
            x2, y2 = target["x"] + BOX * (place_ + 1) / (len(readers) + 1), target["y"]
            bend = max((y2 - y1) / 2, 24)
            curve = f"M{x1:.0f},{y1:.0f} C{x1:.0f},{y1 + bend:.0f} {x2:.0f},{y2 - bend:.0f} {x2:.0f},{y2:.0f}"
            found.append({"from": maker.name, "to": stage.name, "curve": curve})
    return found


def _details(record: Record, rows: list[dict[str, Any]], kept: list[dict[str, Any]]) -> dict[str, Any]:
    """What the page shows on a click: stages, outputs with their files, sources."""
    stages = {
        stage.name: {
            "cmd": stage.cmd or "imported",
            "params": {key: json.dumps(value) for key, value in flattened(stage.params)} if stage.params else {},
            "deps": [_item(item) for item in stage.deps],
            "outs": [out.path for out in stage.outs],
            "needs": sorted(_needs(record, stage)),
        }
        for stage in record.stages
    }
    outs = {}
    for path, item in record.outs().items():
        inside = [row for row in kept if row["path"] == path or row["path"].startswith(f"{path}/")]
        maker = record.producer(path)
        outs[path] = _item(item) | {
            "stage": maker.name if maker else "",
            "inside": [
                [row["path"].removeprefix(path).lstrip("/") or path, row["size"], row["sha256"]] for row in inside
            ],
        }
    listed = [[row["source"], row["sha256"] or "", _use(row)] for row in rows]
    clips = next((stage.name for stage in record.stages if any("clips" in out.path for out in stage.outs)), "")
    return {"stages": stages, "outs": outs, "sources": listed, "first": clips, "model": record.path}


def _item(item: Item) -> dict[str, Any]:
    return item.model_dump(exclude_none=True)


def _use(row: dict[str, Any]) -> str:
    said = [f"{len(clips)} {split}" for split, clips in sorted(row["clips"].items())]
    said += [f"refused: {reason}" for reason in row.get("quarantined", [])]
    return ", ".join(said)
