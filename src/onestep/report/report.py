"""`report.html`: one file with the videos side by side, every number with its interval, and the verdict."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from onestep.core.storage import read_json, read_mapping, read_table, replacing
from onestep.data.clips import load_frames
from onestep.evaluation.evaluate import CANDIDATE, REAL
from onestep.evaluation.fidelity import PUBLISHED, QUESTIONS
from onestep.evaluation.metrics import METRICS, metric_named
from onestep.evaluation.settings import EvaluateSettings
from onestep.inference.samples import Samples, read_samples
from onestep.report.charts import Level, Series, line_chart
from onestep.report.gallery import inline_animation, side_by_side
from onestep.report.wording import missed_words

REAL_VAE = "real-vae"
CEILINGS = (REAL_VAE, REAL)
_TEACHER = "teacher-"
_CHARTED = ("frechet_video_distance", "attribute_accuracy", "patch_frechet_distance", "structural_stability")
_TABLES = {
    "Fidelity": ("frechet_video_distance", "kernel_video_distance", "patch_frechet_distance", "background_grain"),
    "Text": ("attribute_accuracy", "text_alignment"),
    "Structure and motion": ("structural_stability", "motion"),
    "Diversity": ("diversity", "caption_diversity", "mode_coverage"),
}
_COMPARED = ("frechet_video_distance", "patch_frechet_distance", "attribute_accuracy", "structural_stability")
_PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif"}
_WORDS = 8
_TILE_PX = 112
_PICTURE_TILE_PX = 128
_PICTURE_ROWS = 4


def write_report(
    metrics: Path,
    samples: Sequence[Path],
    clips: Path,
    out: Path,
    settings: EvaluateSettings,
    latency: Path | None = None,
    verdict: Path | None = None,
    curves: Mapping[str, Path] | None = None,
    per_prompt: Path | None = None,
) -> None:
    """Write the page to `out`; it needs no other file and no network.

    metrics: `metrics.json`; latency, verdict: their JSON files where they exist; curves: the folder of dvclive's
    curves and sample sheets of each training stage, by the stage's name; per_prompt: `per_prompt.parquet`, for the words
    that are missed.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    numbers = read_mapping(metrics, models=dict)
    found = read_samples(samples)
    environment = Environment(
        loader=PackageLoader("onestep.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["number"] = number
    page = environment.get_template("report.html.j2").render(
        numbers=numbers,
        candidate=CANDIDATE,
        headline=_headline(numbers, _optional(latency)),
        gallery=_inline_gallery(found, clips, numbers, settings.gallery),
        tables=_tables(numbers),
        charts=_step_charts(numbers),
        compared=_comparisons(numbers),
        preference=_preference(numbers),
        words=_words(numbers, per_prompt),
        latency=_latency(_optional(latency), in_order(numbers)),
        verdict=_optional(verdict),
        training=_training(curves or {}),
        definitions=[metric_named(name) for name in _ordered(numbers)],
        unmeasured={metric_named(name).title: reason for name, reason in numbers["unmeasured"].items()},
        tile_px=_TILE_PX,
    )
    with replacing(out) as partial:
        partial.write_text(page, encoding="utf-8")


def write_picture(metrics: Path, samples: Sequence[Path], clips: Path, out: Path, settings: EvaluateSettings) -> None:
    """Write the page's first clips as one GIF at `out`."""
    found = read_samples(samples)
    columns, rows = _gallery(found, clips, read_mapping(metrics, models=dict), min(settings.gallery, _PICTURE_ROWS))
    largest = max(clip.shape[2] for _, shown in rows for clip in shown)
    side_by_side(columns, rows, out, found.fps, scale=max(_PICTURE_TILE_PX // largest, 1))


def number(value: float) -> str:
    """A number in three significant digits, without exponents for ordinary sizes."""
    if value == 0:
        return "0"
    digits = 3 if abs(value) >= 0.001 else 2
    text = f"{value:#.{digits}g}".removesuffix(".") if abs(value) < 1000 else f"{value:,.0f}"
    return text.replace("-", "−")


def in_order(numbers: Mapping[str, Any]) -> list[str]:
    """The rows of every table: the candidate, other students, the teacher by guidance and steps, then the ceilings."""

    def place(name: str) -> tuple[int, float, int, str]:
        setting = numbers["settings"].get(name, {"guidance": 0.0, "steps": 0})
        ranks = [name == CANDIDATE, name not in CEILINGS and not name.startswith(_TEACHER), name not in CEILINGS]
        rank = ranks.index(True) if any(ranks) else len(ranks) + CEILINGS.index(name)
        return rank, setting["guidance"], setting["steps"], name

    return sorted(numbers["models"], key=place)


def gallery_columns(numbers: Mapping[str, Any], samples: Samples) -> list[str]:
    """Which models are shown beside each other: the students, the teacher's telling settings, and the ceilings."""
    best = best_teacher(numbers)
    wanted = [CANDIDATE, "champion", "consistency", "teacher-1", "teacher-2", "teacher-4", best, REAL_VAE]
    shown = [name for name in dict.fromkeys(wanted) if name and samples.named(name)]
    return [*shown, REAL]


def best_teacher(numbers: Mapping[str, Any]) -> str | None:
    """The teacher's setting with the lowest Fréchet video distance."""
    scores = {
        name: cells["frechet_video_distance"]["value"]
        for name, cells in numbers["models"].items()
        if name.startswith(_TEACHER)
    }
    return min(sorted(scores), key=lambda name: scores[name], default=None)


def _gallery(
    samples: Samples, clips: Path, numbers: Mapping[str, Any], count: int
) -> tuple[list[str], list[tuple[str, list[np.ndarray]]]]:
    """Names of the columns, and per prompt its caption and the clip of each column, uint8 `[T, H, W, 3]`."""
    rows = samples.to_show(count)
    columns = gallery_columns(numbers, samples)
    shown = {REAL: load_frames(clips, samples.prompts.loc[rows, "clip_id"].tolist())}
    shown |= {name: samples.shown(name, rows) for name in columns if name != REAL}
    captions = samples.prompts.loc[rows, "caption"]
    return columns, [(caption, [shown[name][place] for name in columns]) for place, caption in enumerate(captions)]


def _inline_gallery(samples: Samples, clips: Path, numbers: Mapping[str, Any], count: int) -> dict[str, Any]:
    columns, rows = _gallery(samples, clips, numbers, count)
    return {
        "columns": columns,
        "rows": [
            {
                "caption": caption,
                "clips": [inline_animation(np.ascontiguousarray(clip), samples.fps) for clip in shown],
            }
            for caption, shown in rows
        ],
    }


def _ordered(numbers: Mapping[str, Any]) -> list[str]:
    """The metrics of this report: in the registry's order, then those of other vocabularies."""
    present = {metric for cells in numbers["models"].values() for metric in cells}
    return [name for name in METRICS if name in present] + sorted(present - set(METRICS))


def _tables(numbers: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per group of metrics: its columns, rows of models with the ceilings last, and the best model of each column."""
    present = _ordered(numbers)
    groups = {title: [name for name in names if name in present] for title, names in _TABLES.items()}
    attributes = [name for name in present if name.startswith("attribute_accuracy_")]
    groups["Text"] = [*groups["Text"], *attributes]
    rows = in_order(numbers)
    models = [name for name in rows if name not in CEILINGS]
    tables = []
    for title, names in groups.items():
        if not names:
            continue
        columns = []
        for name in names:
            metric = metric_named(name)
            values = {m: numbers["models"][m][name]["value"] for m in models if name in numbers["models"][m]}
            choose = max if metric.better == "higher" else min
            # Motion has no best: more than the real clips' is as wrong as less.
            best = choose(values, key=values.__getitem__) if values and name != "motion" else None
            columns.append({"metric": metric, "best": best, "real": numbers["models"].get(REAL, {}).get(name)})
        tables.append({"title": title, "columns": columns, "rows": rows})
    return tables


def _step_charts(numbers: Mapping[str, Any]) -> list[str]:
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
            line = teacher if model.startswith(_TEACHER) else model
            lines.setdefault(line, []).append((setting["steps"], cell["value"], cell["low"], cell["high"]))
        levels = [
            Level(row, numbers["models"][row][name]["value"])
            for row in CEILINGS
            if name in numbers["models"].get(row, {})
        ]
        if lines:
            metric = metric_named(name)
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


def _comparisons(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """The candidate's differences: per other model and metric whether it is better, worse or undecided."""
    rows: list[dict[str, Any]] = []
    compared = [name for name in in_order(numbers) if f"{CANDIDATE} vs {name}" in numbers["comparisons"]]
    for other in compared:
        cells = numbers["comparisons"][f"{CANDIDATE} vs {other}"]
        row: list[dict[str, Any] | None] = []
        for name in _COMPARED:
            cell = cells.get(name)
            if cell is not None:
                sign = 1 if metric_named(name).better == "higher" else -1
                low, high = sorted((sign * cell["low"], sign * cell["high"]))
                side = "better" if low > 0 else "worse" if high < 0 else "undecided"
                row.append({**cell, "side": side})
            else:
                row.append(None)
        rows.append({"other": other, "cells": row})
    metrics = [metric_named(name) for name in _COMPARED]
    kept = [place for place in range(len(metrics)) if any(row["cells"][place] for row in rows)]
    return {
        "metrics": [metrics[place] for place in kept],
        "rows": [{"other": row["other"], "cells": [row["cells"][place] for place in kept]} for row in rows],
    }


def _words(numbers: Mapping[str, Any], per_prompt: Path | None) -> dict[str, Any] | None:
    """The words that the candidate misses more often than its opponent in preference, else than the best teacher."""
    if per_prompt is None or CANDIDATE not in numbers["models"]:
        return None
    against = numbers.get("gsb", {}).get("against") or best_teacher(numbers)
    models = [name for name in (CANDIDATE, against, *CEILINGS) if name and name in numbers["models"]]
    found = missed_words(read_table(per_prompt), models, _WORDS)
    return {"models": models, "rows": found} if found else None


def _preference(numbers: Mapping[str, Any]) -> dict[str, Any] | None:
    """The candidate's GSB in percent per other model and question, beside the published one; None where there is none."""
    found = numbers.get("gsb")
    if found is None:
        return None
    versus = {name: found.get(f"{CANDIDATE} vs {name}") for name in in_order(numbers)}
    rows = [
        {"other": name, "cells": [_percent(cells[q]) if q in cells else None for q in QUESTIONS]}
        for name, cells in versus.items()
        if cells
    ]
    return {
        "questions": QUESTIONS,
        "rows": rows,
        "against": found["against"],
        "margins": {
            question: found["margins"][question] for question in QUESTIONS if question in found.get("margins", {})
        },
        "published": [PUBLISHED[question] for question in QUESTIONS],
        "unmeasured": found["unmeasured"],
    }


def _percent(cell: Mapping[str, float]) -> dict[str, Any]:
    side = "better" if cell["low"] > 0 else "worse" if cell["high"] < 0 else "undecided"
    return {name: 100 * value for name, value in cell.items()} | {"side": side}


def _headline(numbers: Mapping[str, Any], latency: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """The few numbers of the page's head: the candidate's, each with what it should be read against."""
    own, best = numbers["models"].get(CANDIDATE, {}), best_teacher(numbers)
    cards = []
    for name in ("frechet_video_distance", "attribute_accuracy", "text_alignment", "structural_stability"):
        if name not in own:
            continue
        beside = [row for row in (best, REAL) if row and name in numbers["models"].get(row, {})]
        cards.append(
            {
                "title": metric_named(name).title,
                "value": number(own[name]["value"]),
                "interval": f"{number(own[name]['low'])} to {number(own[name]['high'])}",
                "beside": " · ".join(f"{row} {number(numbers['models'][row][name]['value'])}" for row in beside),
            }
        )
    times = (latency or {}).get("models", {})
    slow, fast = (times.get(row, {}).get("denoiser_s") for row in (best, CANDIDATE))
    if slow and fast:
        cards.append(
            {
                "title": "Denoiser speed-up",
                "value": f"{number(slow['value'] / fast['value'])}×",
                "interval": f"{number(1000 * fast['value'])} ms a batch",
                "beside": f"{best} {number(1000 * slow['value'])} ms",
            }
        )
    return cards


def _latency(content: Mapping[str, Any] | None, order: Sequence[str]) -> dict[str, Any] | None:
    """Rows of milliseconds per model, one column per part that was timed."""
    if not content or not set(order) & set(content.get("models", {})):
        return None
    models = {name: content["models"][name] for name in order if name in content["models"]}
    parts = list(dict.fromkeys(part for times in models.values() for part in times))
    return {
        "columns": [part.removesuffix("_s").replace("_", " ") for part in parts],
        "rows": [(model, [times.get(part) for part in parts]) for model, times in models.items()],
    }


def _training(curves: Mapping[str, Path]) -> list[dict[str, Any]]:
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


def _optional(path: Path | None) -> Any:
    return read_json(path) if path is not None and path.is_file() else None
