"""Write the folders of odd footage, ingest them, and compare what came out with what must."""

import csv
import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from onestep.config import IngestSettings, load_params
from onestep.data.clips import load_frames, read_index, read_quarantine
from onestep.data.ingest import ingest

from . import broken, captions, codecs, colours, gifs, limits, places, shapes, streams
from .card import faults
from .odd import MAIN, SMALL, Odd

ROOT = Path(__file__).parents[2]
KINDS = (streams, codecs, colours, shapes, gifs, captions, places, broken, limits)
COLUMNS = ("file_name", "caption", "start_s", "end_s", "held_out")
SMALL_LIMITS = {"pixels": 4096 * 2160, "frames": 2_000, "seconds": 85.0, "deadline_s": 8.0}


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
        return (
            ", ".join(clips + [reason if n == 1 else f"{n} × {reason}" for reason, n in reasons.items()])
            or "no footage"
        )


def everything() -> list[Odd]:
    """All odd files, in the order of the page."""
    return [odd for kind in KINDS for odd in kind.odd()]


def write(folder: Path, odd: Sequence[Odd]) -> None:
    """Write the files of one folder and their `metadata.csv`; the same bytes every time."""
    folder.mkdir(parents=True)
    rows = []
    for one in odd:
        path = folder / one.name
        path.parent.mkdir(parents=True, exist_ok=True)
        one.make(path, one.picture)
        rows += [{"file_name": one.listed_as or one.name, **row} for row in one.table]
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)


def settings_of(folder: str, workers: int) -> IngestSettings:
    """The settings of params.yaml; small limits for the second folder."""
    settings = load_params(ROOT / "params.yaml").ingest.model_copy(update={"workers": workers})
    if folder != SMALL or not hasattr(settings, "limits"):
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
                getattr(outcome, table).append(
                    {str(key): None if value is pd.NA else value for key, value in row.items()}
                )
    for outcome in outcomes.values():
        outcome.wrong += [*_counted(outcome), *_captioned(outcome), *_seen(outcome, clips, settings.fps)]
    if strange:
        next(iter(outcomes.values())).wrong.append(f"the tables name what the folder does not hold: {strange}")
    return list(outcomes.values())


def _key(source: str) -> str:
    escaped = os.fsencode(source).decode("utf-8", "backslashreplace")
    return unicodedata.normalize("NFC", posixpath.normpath(escaped))


def _counted(outcome: Outcome) -> Iterator[str]:
    odd, refused = outcome.odd, [f"{row['reason']}: {row['detail']}" for row in outcome.refused]
    clips, patterns = odd.clips, list(odd.refused)
    if odd.root_reads and os.geteuid() == 0:
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


def _captioned(outcome: Outcome) -> Iterator[str]:
    known = {row["caption"].strip() for row in outcome.odd.table}
    yield from (f"a clip has the caption {row['caption']!r}" for row in outcome.clips if row["caption"] not in known)
    windows = {row["caption"].strip(): row for row in outcome.odd.table}
    for clip in outcome.clips:
        row = windows.get(clip["caption"], {})
        low, high = float(row.get("start_s") or 0), float(row.get("end_s") or "inf")
        if clip["start_s"] < low - 0.05 or clip["end_s"] > high + 0.05:
            yield f"a clip of {clip['start_s']} to {clip['end_s']} s has the caption of {low} to {high} s"
        if bool(clip["held_out"]) != (row.get("held_out") == "true"):
            yield f"the clip at {clip['start_s']} s has lost its row's held_out"


def _seen(outcome: Outcome, clips: Path, fps: float) -> Iterator[str]:
    odd = outcome.odd
    if odd.looks == "unknown":
        return
    for row in outcome.clips:
        frames = load_frames(clips, [row["clip_id"]])[0]
        yield from faults(frames, odd.picture, row["start_s"], fps, odd.looks, odd.shift_s)
