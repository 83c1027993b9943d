"""The report's charts: metrics over denoiser steps, and the curves of each training stage."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from onestep.inference.rows import CEILINGS, TEACHER
from onestep.report.charts import Level, Series, line_chart
from onestep.report.metric_definitions import definition_of
from onestep.report.tables import in_order

_CHARTED = ("frechet_video_distance", "attribute_accuracy", "patch_frechet_distance", "structural_stability")
_PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif"}


def step_charts(numbers: Mapping[str, Any]) -> list[str]:
    """Each charted metric over the number of denoiser steps: the teacher per guidance scale, the students as marks."""
    charts = []
    for name in _CHARTED:
        lines: dict[str, list[tuple[float, float, float, float]]] = {}
        for model in in_order(numbers):
            setting, cell = numbers["settings"].get(model), numbers["models"][model].get(name)
            if cell is None or setting is None or setting["steps"] < 1:
                continue
            guidance = setting["guidance"]
            teacher = "teacher, no guidance" if guidance == 1.0 else f"teacher, guidance {guidance:g}"
            line = teacher if model.startswith(TEACHER) else model
            lines.setdefault(line, []).append((setting["steps"], cell["value"], cell["low"], cell["high"]))
        levels = [
            Level(row, numbers["models"][row][name]["value"])
            for row in CEILINGS
            if name in numbers["models"].get(row, {})
        ]
        if lines:
            metric = definition_of(name)
            title = f"{metric.title} ({metric.better} is better)"
            charts.append(
                line_chart(
                    [Series(line, points) for line, points in lines.items()],
                    levels,
                    "denoiser steps",
                    title,
                    log_x=True,
                )
            )
    return charts


def training_charts(curves: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Per training stage: a chart of every curve, and the last sample sheet."""
    stages = []
    for stage, folder in curves.items():
        charts = [
            line_chart([Series(file.stem, points)], [], "update", file.stem.replace("_", " "))
            for file in sorted(folder.glob("plots/metrics/**/*.tsv"))
            if len(points := _curve(file)) > 1
        ]
        sheets = [file for file in sorted(folder.iterdir()) if file.suffix in _PICTURES] if folder.is_dir() else []
        if charts or sheets:
            stages.append({"stage": stage, "charts": charts, "sheet": _inline_picture(sheets[-1]) if sheets else None})
    return stages


def _curve(file: Path) -> list[tuple[float, float, float, float]]:
    table = pd.read_csv(file, sep="\t")
    thinned = table.iloc[:: max(len(table) // 300, 1)].dropna()
    return [(float(x), float(y), float(y), float(y)) for x, y in zip(thinned["step"], thinned.iloc[:, -1], strict=True)]


def _inline_picture(file: Path) -> str:
    return f"data:{_PICTURES[file.suffix]};base64,{base64.b64encode(file.read_bytes()).decode()}"
