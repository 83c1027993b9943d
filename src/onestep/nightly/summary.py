"""The summary of a scheduled run: outcome, decision, verdict and numbers, as one offline page."""

import base64
import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onestep.core.paths import DRIFT, DRIFT_PAGE, METRICS, PAGES, REPORT_PAGE, SAMPLE_SHEET, VALIDATION, VALIDATION_PAGE
from onestep.core.redaction import without_home, without_secrets
from onestep.core.storage import read_mapping, replacing
from onestep.nightly.retrain_policy import Decision
from onestep.vcs.project import Project

_PAGES = {"report with the videos": REPORT_PAGE, "validation": VALIDATION_PAGE, "drift": DRIFT_PAGE}
_SHEET_BYTES = 4 << 20  # a larger sheet is linked, not inlined
_FRAME_PX = 1000  # the longer side
_KINDS = ("promoted", "hold", "reject", "nothing", "ready", "stopped", "waiting", "failed")


@dataclass
class RunSummary:
    """What the page shows: filled while the run goes on, and written however it ends.

    kind: one of promoted, hold, reject, nothing (no reason to retrain), ready (the clips are in), stopped (they
    failed validation), waiting (for a person or for the promotion), failed.
    """

    run: str
    flow: str
    started: str
    commit: str = ""
    branch: str = ""
    kind: str = "failed"
    headline: str = "The run did not reach its end."
    notes: list[str] = field(default_factory=list)
    decision: Decision | None = None
    verdict: dict[str, Any] | None = None
    stages: list[dict[str, Any]] = field(default_factory=list)
    minutes: float = 0.0

    @property
    def verdict_reason(self) -> str:
        """The reason of the verdict, in one sentence."""
        return str(self.verdict["reason"]) if self.verdict else "its verdict stands in its record"

    def page(self, project: Project) -> Path:
        """Where the page of the flow's latest run lies; git keeps none of them."""
        return project.root / PAGES / f"{self.flow}.html"

    def ended(self, kind: str, headline: str) -> str:
        """Set the outcome; returns the headline. Raises `ValueError` for an unknown kind."""
        if kind not in _KINDS:
            raise ValueError(f"{kind!r} is none of {', '.join(_KINDS)}")
        self.kind, self.headline = kind, without_home(without_secrets(headline))
        return self.headline


def metric_rows(project: Project) -> list[dict[str, str]]:
    """One row per model, one column per headline metric, each `value [low, high]`; empty before any was measured."""
    if not (project.root / METRICS).is_file():
        return []
    models = read_mapping(project.root / METRICS).get("models", {})
    names = [name for name in _first(models) if not name.startswith("attribute_accuracy_")]
    order = sorted(models, key=lambda model: (model not in ("onestep", "champion"), model != "onestep"))
    return [{"model": model} | {name: _cell(models[model].get(name)) for name in names} for model in order]


def first_frame(project: Project) -> str | None:
    """The sample sheet's first frame as a JPEG data URI, small enough for an artifact; null where there is no sheet."""
    from PIL import Image

    if not (project.root / SAMPLE_SHEET).is_file():
        return None
    with Image.open(project.root / SAMPLE_SHEET) as sheet:
        image = sheet.convert("RGB")
    image.thumbnail((_FRAME_PX, _FRAME_PX))
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def write_summary(page: Path, summary: RunSummary, clone: Project | None) -> None:
    """Write the page atomically; clone: the run's, whose reports it shows and links, null = there is none."""
    import jinja2

    loader = jinja2.PackageLoader("onestep.report", ".")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    judged = clone is not None and summary.verdict is not None
    summary.notes = [without_home(without_secrets(note)) for note in summary.notes]
    text = environment.get_template("nightly.html.j2").render(
        summary=summary,
        metrics=metric_rows(clone) if judged and clone else [],
        sheet=_sheet(clone) if judged and clone else None,
        links=_links(page, clone) if clone else {},
    )
    with replacing(page) as partial:
        partial.write_text(text, encoding="utf-8")


def _first(models: dict[str, Any]) -> dict[str, Any]:
    return next(iter(models.values()), {})


def _cell(found: Any) -> str:
    if not isinstance(found, dict) or found.get("value") is None:
        return ""
    interval = "" if found.get("low") is None else f" [{found['low']:.3g}, {found['high']:.3g}]"
    return f"{found['value']:.3g}{interval}"


def _sheet(clone: Project) -> str | None:
    path = clone.root / SAMPLE_SHEET
    if not path.is_file() or path.stat().st_size > _SHEET_BYTES:
        return None
    return "data:image/gif;base64," + base64.b64encode(path.read_bytes()).decode()


def _links(page: Path, clone: Project) -> dict[str, str]:
    """The clone's pages, each by its path relative to this page."""
    named = _PAGES | {"validation, as data": VALIDATION, "drift, as data": DRIFT}
    found = {name: clone.root / path for name, path in named.items() if (clone.root / path).is_file()}
    return {name: Path(os.path.relpath(path, page.parent)).as_posix() for name, path in found.items()}
