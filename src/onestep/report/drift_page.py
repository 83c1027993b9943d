"""The page of `drift.json`: Evidently's own, of the comparison that the record holds; or that there was none to make."""

import re
from pathlib import Path

from onestep.core.storage import read_mapping, replacing
from onestep.data.clips import read_index
from onestep.data.drift_comparison import compared, reference_clips, tables, training_clips
from onestep.report.page import render_page

_RANDOM_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<=metric_)[0-9a-f]{32}")


def write_drift_page(clips: Path, reference: Path, drift: Path, page: Path) -> None:
    """Write `page` (HTML, offline) from the record and the two indices that it compares; the same files, the same bytes.

    reference: the `clips.parquet` of the model in production; read where the record compares with it. Raises
    `StorageError` where a file is missing or broken.
    """
    record = read_mapping(drift)
    if record["drifted"] is None:
        render_page("drift.html.j2", page, record=record)
        return
    now, then = tables(training_clips(read_index(clips)), reference_clips(reference))
    snapshot = compared(now, then, record["limit"]["distance"])
    with replacing(page) as partial:
        snapshot.save_html(str(partial))
        partial.write_text(_without_random_ids(partial.read_text(encoding="utf-8")), encoding="utf-8")


def _without_random_ids(page: str) -> str:
    """The page with its random ids numbered in order, so that the same data give the same bytes."""
    numbers: dict[str, int] = {}
    return _RANDOM_ID.sub(lambda match: f"id{numbers.setdefault(match[0], len(numbers)):06d}", page)
