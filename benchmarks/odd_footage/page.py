"""The table of docs/your-own-footage.md, and a picture of the clips."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from onestep.core.storage import replacing
from onestep.data.clips import read_frames, read_index

from .judged import ROOT, Outcome
from .odd import SMALL

PAGE = ROOT / "docs" / "your-own-footage.md"
MARK = re.compile(r"(<!-- odd footage -->\n).*?(<!-- end of odd footage -->)", re.DOTALL)
_COLUMNS = 12
_LABEL = 26  # pixels under each clip


def table(outcomes: Sequence[Outcome]) -> str:
    """One row for all files of a folder that are odd in the same way and became the same."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for outcome in outcomes:
        folder, _, name = outcome.odd.name.rpartition("/")
        what = outcome.odd.what + (", with the limits below" if outcome.odd.folder == SMALL else "")
        words = outcome.words or "nothing: it is no footage"
        words = "cannot be read" if outcome.odd.root_reads else words  # root may read it
        groups.setdefault((folder, what, words), []).append(name)
    lines = ["| files | what is odd | what becomes of them |", "| --- | --- | --- |"]
    for (folder, what, words), names in groups.items():
        lines.append(f"| {_called(folder, names)} | {what} | {words} |")
    return "\n".join(lines) + "\n"


def write_table(outcomes: Sequence[Outcome], page: Path = PAGE) -> None:
    """Write the table between its marks; raises `ValueError` where the page has none."""
    text, count = MARK.subn(lambda found: found[1] + table(outcomes) + found[2], page.read_text(encoding="utf-8"))
    if count != 1:
        raise ValueError(f"{page} has no marks for the table")
    with replacing(page) as partial:
        partial.write_text(text, encoding="utf-8")


def sheet(clips: Path, picture: Path) -> None:
    """A PNG of the first frame of every clip of a folder, with the file it comes from."""
    sources = dict(zip(read_index(clips)["clip_id"], read_index(clips)["source"], strict=True))
    tiles = list(_tiles(clips, sources))
    height, width, _ = tiles[0].shape
    rows = -(-len(tiles) // _COLUMNS)
    whole = np.full((rows * height, _COLUMNS * width, 3), 255, np.uint8)
    for number, tile in enumerate(tiles):
        y, x = divmod(number, _COLUMNS)
        whole[y * height : (y + 1) * height, x * width : (x + 1) * width] = tile
    Image.fromarray(whole).save(picture)


def _tiles(clips: Path, sources: dict[str, str]) -> Iterator[np.ndarray]:
    for clip_id, frames in read_frames(clips):
        first = Image.fromarray(frames[0]).resize((96, 96), Image.Resampling.NEAREST)
        tile = Image.new("RGB", (132, 96 + _LABEL), "white")
        tile.paste(first, (2, 2))
        folder, _, name = sources[clip_id].rpartition("/")
        label = f"{folder}\n{name[:21]}".encode("ascii", "replace").decode()
        ImageDraw.Draw(tile).multiline_text((2, 99), label, fill="black", spacing=1)
        yield np.asarray(tile)


def _called(folder: str, names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"`{_printable(f'{folder}/{names[0]}')}`"
    if len(stems := {name.rpartition(".")[0] for name in names}) == 1:
        return f"`{_printable(f'{folder}/{stems.pop()}')}.{{{', '.join(name.rpartition('.')[2] for name in names)}}}`"
    return f"`{folder}/`: " + ", ".join(f"`{_printable(name)}`" for name in names)


def _printable(name: str) -> str:
    shown = os.fsencode(name).decode("utf-8", "backslashreplace")
    shown = re.sub(r"(x{20})x+", r"\1…", shown)
    return shown.replace("\n", "\\n").replace("|", "\\|").replace("`", "'")
