"""The report's numbers as rows: tables of every model, differences from the candidate, preference, latency."""

from collections.abc import Mapping, Sequence
from typing import Any

from onestep.evaluation.columns import PER_ATTRIBUTE
from onestep.evaluation.names import QUESTIONS
from onestep.evaluation.teacher import best_teacher
from onestep.inference.rows import CANDIDATE, CEILINGS, REAL, TEACHER
from onestep.report.metric_definitions import definition_of, in_order_of_definition

# What three human raters a pair said of APT's one step against its own 25, video, in % (arXiv 2501.08316, section 4.2).
PUBLISHED = {"fidelity": 10.4, "structure": -38.5, "text": -8.3}
_TABLES = {
    "Fidelity": ("frechet_video_distance", "kernel_video_distance", "patch_frechet_distance", "background_grain"),
    "Text": ("attribute_accuracy", "text_alignment"),
    "Structure and motion": ("structural_stability", "motion"),
    "Diversity": ("diversity", "caption_diversity", "mode_coverage"),
}
_COMPARED = ("frechet_video_distance", "patch_frechet_distance", "attribute_accuracy", "structural_stability")


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
        ranks = [name == CANDIDATE, name not in CEILINGS and not name.startswith(TEACHER), name not in CEILINGS]
        rank = ranks.index(True) if any(ranks) else len(ranks) + CEILINGS.index(name)
        return rank, setting["guidance"], setting["steps"], name

    return sorted(numbers["models"], key=place)


def metrics_of(numbers: Mapping[str, Any]) -> list[str]:
    """The metrics of this report, in the order of their definitions."""
    return in_order_of_definition(metric for cells in numbers["models"].values() for metric in cells)


def metric_tables(numbers: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per group of metrics: its columns, rows of models with the ceilings last, and the best model of each column."""
    present = metrics_of(numbers)
    groups = {title: [name for name in names if name in present] for title, names in _TABLES.items()}
    attributes = [name for name in present if name.startswith(PER_ATTRIBUTE)]
    groups["Text"] = [*groups["Text"], *attributes]
    groups["Other"] = [name for name in present if not any(name in names for names in groups.values())]
    rows = in_order(numbers)
    models = [name for name in rows if name not in CEILINGS]
    tables = []
    for title, names in groups.items():
        if not names:
            continue
        columns = []
        for name in names:
            metric = definition_of(name)
            values = {m: numbers["models"][m][name]["value"] for m in models if name in numbers["models"][m]}
            choose = max if metric.better == "higher" else min
            # Motion has no best: more than the real clips' is as wrong as less.
            best = choose(values, key=values.__getitem__) if values and name != "motion" else None
            columns.append({"metric": metric, "best": best, "real": numbers["models"].get(REAL, {}).get(name)})
        tables.append({"title": title, "columns": columns, "rows": rows})
    return tables


def comparisons(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """The candidate's differences: per other model and metric whether it is better, worse or undecided."""
    rows: list[dict[str, Any]] = []
    compared = [name for name in in_order(numbers) if f"{CANDIDATE} vs {name}" in numbers["comparisons"]]
    for other in compared:
        cells = numbers["comparisons"][f"{CANDIDATE} vs {other}"]
        row: list[dict[str, Any] | None] = []
        for name in _COMPARED:
            cell = cells.get(name)
            if cell is not None:
                sign = 1 if definition_of(name).better == "higher" else -1
                low, high = sorted((sign * cell["low"], sign * cell["high"]))
                side = "better" if low > 0 else "worse" if high < 0 else "undecided"
                row.append({**cell, "side": side})
            else:
                row.append(None)
        rows.append({"other": other, "cells": row})
    metrics = [definition_of(name) for name in _COMPARED]
    kept = [place for place in range(len(metrics)) if any(row["cells"][place] for row in rows)]
    return {
        "metrics": [metrics[place] for place in kept],
        "rows": [{"other": row["other"], "cells": [row["cells"][place] for place in kept]} for row in rows],
    }


def preference(numbers: Mapping[str, Any]) -> dict[str, Any] | None:
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


def headline(numbers: Mapping[str, Any], latency: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """The few numbers of the page's head: the candidate's, each with what it should be read against."""
    own, best = numbers["models"].get(CANDIDATE, {}), best_teacher(numbers["models"])
    cards = []
    for name in ("frechet_video_distance", "attribute_accuracy", "text_alignment", "structural_stability"):
        if name not in own:
            continue
        beside = [row for row in (best, REAL) if row and name in numbers["models"].get(row, {})]
        cards.append(
            {
                "title": definition_of(name).title,
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


def latency_table(content: Mapping[str, Any] | None, order: Sequence[str]) -> dict[str, Any] | None:
    """Rows of milliseconds per model, one column per part that was timed."""
    if not content or not set(order) & set(content.get("models", {})):
        return None
    models = {name: content["models"][name] for name in order if name in content["models"]}
    parts = list(dict.fromkeys(part for times in models.values() for part in times))
    return {
        "columns": [part.removesuffix("_s").replace("_", " ") for part in parts],
        "rows": [(model, [times.get(part) for part in parts]) for model, times in models.items()],
    }
