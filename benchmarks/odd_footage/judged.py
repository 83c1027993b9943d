"""Write the folders of odd footage, ingest them, and compare what came out with what must."""

import csv
import io
import os
import posixpath
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from onestep.cli.params import load_params
from onestep.data.clips import load_frames, read_index, read_quarantine
from onestep.data.ingest import ingest
from onestep.data.ingest_settings import IngestSettings

from . import broken, captions, codecs, colours, gifs, limits, places, shapes, streams
from .card import faults
from .odd import MAIN, SMALL, Odd

ROOT = Path(__file__).parents[2]
KINDS = (streams, codecs, colours, shapes, gifs, captions, places, broken, limits)
COLUMNS = ("file_name", "caption", "start_s", "end_s", "held_out")
SMALL_LIMITS = {"pixels": 1 << 29, "frames": 2_000, "seconds": 60.0, "memory_gb": 2.0, "deadline_s": 8.0}
_ROUNDING_S = 0.05


@dataclass
class Outcome:
    """What became of one file: its rows of the index and of the quarantine, and how that differs from what must be."""

    odd: Odd
    clips: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def words(self) -> str:
        """The outcome in a few words."""
        clips = [f"{len(self.clips)} clip{'s' * (len(self.clips) > 1)}"] if self.clips else []
        reasons = Counter(str(row["reason"]) for row in self.refused)
        return ", ".join(clips + [reason if n == 1 else f"{n} × {reason}" for reason, n in reasons.items()])


def everything() -> list[Odd]:
    """All odd files, in the order of the page."""
    return [odd for kind in KINDS for odd in kind.odd()]


def write(folder: Path, odd: Sequence[Odd]) -> None:
    """Write the files of one folder and their `metadata.csv`; the same bytes every time."""
    folder.mkdir(parents=True)
    for one in odd:
        path = folder / one.name
        path.parent.mkdir(parents=True, exist_ok=True)
        one.make(path, one.picture)
    table, _ = table_of(odd)
    (folder / "metadata.csv").write_text(table, encoding="utf-8")


def table_of(odd: Sequence[Odd]) -> tuple[str, dict[str, list[int]]]:
    """The text of `metadata.csv`, and by file the lines that its rows begin on, from 1."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    lines: dict[str, list[int]] = {}
    for one in odd:
        for row in one.table:
            lines.setdefault(one.name, []).append(text.getvalue().count("\n") + 1)
            writer.writerow({"file_name": one.listed_as or one.name, **row})
    return text.getvalue(), lines


def settings_of(folder: str, workers: int) -> IngestSettings:
    """The settings of params.yaml; other limits for the second folder."""
    settings = load_params(ROOT / "params.yaml").ingest.model_copy(update={"workers": workers})
    if folder != SMALL:
        return settings
    return settings.model_copy(update={"limits": settings.limits.model_copy(update=SMALL_LIMITS)})


def judge(work: Path, workers: int = 1, only: str = "") -> Iterator[Outcome]:
    """Write, ingest and compare all odd files below `work`, folder by folder; the clips stay in `clips-<folder>`."""
    chosen = [one for one in everything() if re.search(only, one.name)]
    for name in (MAIN, SMALL):
        odd = [one for one in chosen if one.folder == name]
        if odd:
            write(work / name, odd)
            settings = settings_of(name, workers)
            ingest(str(work / name), work / f"clips-{name}", settings)
            yield from compare(work / f"clips-{name}", odd, settings)


def compare(clips: Path, odd: Sequence[Odd], settings: IngestSettings) -> list[Outcome]:
    """What became of each file of a clips folder, and of what is not in the list."""
    outcomes = {_key(one.called): Outcome(one) for one in odd}
    strange: list[str] = []
    for table, rows in (("clips", read_index(clips)), ("refused", read_quarantine(clips))):
        for row in rows.to_dict("records"):
            outcome = outcomes.get(_key(row["source"]))
            if outcome is None:
                strange.append(row["source"])
            else:
                found = {str(key): None if value is pd.NA else value for key, value in row.items()}
                getattr(outcome, table).append(found)
    _, lines = table_of(odd)
    for outcome in outcomes.values():
        outcome.wrong += [*_counted(outcome), *_captioned(outcome), *_seen(outcome, clips, settings.fps)]
        outcome.wrong += _accounted(outcome, lines.get(outcome.odd.name, []))
    if strange:
        next(iter(outcomes.values())).wrong.append(f"the tables name what the folder does not hold: {strange}")
    return list(outcomes.values())


def _key(source: str) -> str:
    escaped = os.fsencode(source).decode("utf-8", "backslashreplace")
    return unicodedata.normalize("NFC", posixpath.normpath(escaped))


def _counted(outcome: Outcome) -> Iterator[str]:
    odd, refused = outcome.odd, [f"{row['reason']}: {row['detail']}" for row in outcome.refused]
    clips, patterns = odd.clips, list(odd.refused)
    if odd.root_reads and _reads_all():
        clips, patterns = 1, []
    if len(outcome.clips) != clips:
        yield f"{len(outcome.clips)} clips instead of {clips}"
    for text in refused:
        found = next((pattern for pattern in patterns if re.search(pattern, text)), None)
        if found is None:
            yield f"refused as {text!r}"
        else:
            patterns.remove(found)
    yield from (f"not refused as {pattern!r}" for pattern in patterns)


@cache
def _reads_all() -> bool:
    """Whether this user may read a file without permissions, as root may."""
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).chmod(0)
        return os.access(file.name, os.R_OK)


def _captioned(outcome: Outcome) -> Iterator[str]:
    """A clip shows what its row speaks of, and carries what the row says."""
    rows = {row["caption"].strip(): row for row in outcome.odd.table}
    for clip in outcome.clips:
        row = rows.get(clip["caption"])
        if row is None:
            yield f"a clip has the caption {clip['caption']!r}"
            continue
        low, high = float(row.get("start_s") or 0), float(row.get("end_s") or "inf")
        if clip["start_s"] < low - _ROUNDING_S or clip["end_s"] > high + _ROUNDING_S:
            yield f"a clip of {clip['start_s']} to {clip['end_s']} s has the caption of {low} to {high} s"
        if bool(clip["held_out"]) != (row.get("held_out") == "true"):
            yield f"the clip at {clip['start_s']} s has lost its row's held_out"


def _accounted(outcome: Outcome, lines: Sequence[int]) -> Iterator[str]:
    """Every row is a clip's or has its line in the quarantine."""
    captions = {clip["caption"] for clip in outcome.clips}
    named = {row.get("line") for row in outcome.refused}
    for row, line in zip(outcome.odd.table, lines, strict=True):
        if row["caption"].strip() not in captions and line not in named:
            yield f"the row of line {line} is neither a clip nor in quarantine"


def _seen(outcome: Outcome, clips: Path, fps: float) -> Iterator[str]:
    odd = outcome.odd
    if odd.looks == "unknown":
        return
    for row in outcome.clips:
        frames = load_frames(clips, [row["clip_id"]])[0]
        yield from faults(frames, odd.picture, row["start_s"], fps, odd.looks, odd.shift_s)
