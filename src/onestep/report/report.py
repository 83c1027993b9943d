"""`report.html`: one file with the videos side by side, every number with its interval, and the verdict."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onestep.core.storage import read_json, read_mapping, read_table, replacing
from onestep.data.clips import load_frames
from onestep.evaluation.settings import EvaluateSettings
from onestep.evaluation.teacher import best_teacher
from onestep.inference.rows import CANDIDATE, CEILINGS, CHAMPION, CONSISTENCY, REAL, REAL_VAE, teacher_row
from onestep.inference.samples import Samples, read_samples
from onestep.report.attribute_errors import attribute_errors
from onestep.report.gallery import inline_animation, side_by_side
from onestep.report.metric_definitions import definition_of
from onestep.report.report_charts import step_charts, training_charts
from onestep.report.tables import (
    comparisons,
    headline,
    in_order,
    latency_table,
    metric_tables,
    metrics_of,
    number,
    preference,
)

_FEW_STEPS = (1, 2, 4)  # of the teacher, shown without guidance beside its best setting
_ATTRIBUTE_ERRORS = 8  # rows of their table
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
    curves and sample sheets of each training stage, by the stage's name; per_prompt: `per_prompt.parquet`, for the
    attribute errors.
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
        headline=headline(numbers, _optional(latency)),
        gallery=_inline_gallery(found, clips, numbers, settings.gallery),
        tables=metric_tables(numbers),
        charts=step_charts(numbers),
        compared=comparisons(numbers),
        preference=preference(numbers),
        attribute_errors=_attribute_errors(numbers, per_prompt),
        latency=latency_table(_optional(latency), in_order(numbers)),
        verdict=_optional(verdict),
        training=training_charts(curves or {}),
        definitions=[definition_of(name) for name in metrics_of(numbers)],
        unmeasured={definition_of(name).title: reason for name, reason in numbers["unmeasured"].items()},
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


def gallery_columns(numbers: Mapping[str, Any], samples: Samples) -> list[str]:
    """Which models are shown beside each other: the students, some of the teacher's settings, and the ceilings."""
    best = best_teacher(numbers["models"])
    few = [teacher_row(steps, 1.0) for steps in _FEW_STEPS]
    wanted = [CANDIDATE, CHAMPION, CONSISTENCY, *few, best, REAL_VAE]
    shown = [name for name in dict.fromkeys(wanted) if name and samples.named(name)]
    return [*shown, REAL]


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


def _attribute_errors(numbers: Mapping[str, Any], per_prompt: Path | None) -> dict[str, Any] | None:
    """Attribute errors of the candidate beside its opponent in preference, else beside the best teacher."""
    if per_prompt is None or CANDIDATE not in numbers["models"]:
        return None
    against = numbers.get("gsb", {}).get("against") or best_teacher(numbers["models"])
    models = [name for name in (CANDIDATE, against, *CEILINGS) if name and name in numbers["models"]]
    found = attribute_errors(read_table(per_prompt), models, _ATTRIBUTE_ERRORS)
    return {"models": models, "rows": found} if found else None


def _optional(path: Path | None) -> Any:
    return read_json(path) if path is not None and path.is_file() else None
