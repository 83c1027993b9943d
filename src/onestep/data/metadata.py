"""`metadata.csv`: the captions of a folder of footage, in the video-folder convention."""

import csv
import io
import math
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import fsspec

from onestep.core.storage import MachineFailed
from onestep.data.schema import LICENCE, attribute_columns
from onestep.media.errors import MACHINE

FILE = "metadata.csv"
SPLITS = ("train", "dev", "test")
ROUNDING_S = 0.001  # windows are written with few digits: neighbours may seem to overlap by this much
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}
_SPELLINGS = {"license": LICENCE}
_MOST_BYTES = 1 << 30
_LONGEST_FIELD = 1 << 20  # characters of a caption
_LONGEST_S = 1e7  # seconds; four months


class MetadataError(ValueError):
    """`metadata.csv` is missing or holds something impossible; the message names the file and the line."""


@dataclass(frozen=True)
class Caption:
    """One row of `metadata.csv`: what a time window of a file shows. No window means the whole file."""

    text: str
    start_s: float = 0.0
    end_s: float = float("inf")
    whole: bool = True
    split: str = ""  # blank: by a hash of the file's name
    held_out: bool = False
    licence: str | None = None  # null where the table has no such column
    attributes: tuple[tuple[str, str], ...] = ()
    line: int = 0  # of the file, from 1, on which the row begins

    def overlap_s(self, start_s: float, end_s: float) -> float:
        """How many seconds of a window this row captions."""
        return max(min(end_s, self.end_s) - max(start_s, self.start_s), 0.0)


def captions_of(captions: Sequence[Caption], start_s: float, end_s: float) -> list[Caption]:
    """The rows that caption a shot; one of the whole file only where no row with a window does."""
    touching = [c for c in captions if c.overlap_s(start_s, end_s) > ROUNDING_S]
    return [c for c in touching if not c.whole] or touching


def read_metadata(fs: fsspec.AbstractFileSystem, root: str) -> dict[str, list[Caption]]:
    """The rows of `metadata.csv` by file name, in the file's order; raises `MetadataError`."""
    path = posixpath.join(root, FILE)
    captions: dict[str, list[Caption]] = {}
    for line, row in _rows(path, _text(fs, path)):
        where = f"{path} line {line}"
        name = row["file_name"]
        if not name.strip():
            raise MetadataError(f"{where}: file_name is empty: name the video's path below the folder")
        captions.setdefault(name, []).append(_caption(row, line, where))
    for name, rows in captions.items():
        if len({row.split for row in rows}) > 1:
            lines = ", ".join(str(row.line) for row in rows[:8])
            raise MetadataError(
                f"{path}: {name} has rows in several splits (lines {lines}); all shots of a file belong in one"
            )
    return captions


def _text(fs: fsspec.AbstractFileSystem, path: str) -> str:
    try:
        found = fs.info(path)
        if found["type"] != "file" or (found.get("islink") and not fs.isfile(path)):
            raise MetadataError(
                f"{path} is not a regular file: it must be a table that names every video and its caption"
            )
        if (found.get("size") or 0) > _MOST_BYTES:
            raise MetadataError(f"{path} has {found['size']} bytes: a table of captions has at most {_MOST_BYTES}")
        content = fs.cat_file(path)
    except FileNotFoundError as error:
        raise MetadataError(
            f"{path} does not exist{_misnamed(fs, path)}: it must name every video and its caption"
        ) from error
    except OSError as error:
        failed = MachineFailed if error.errno in MACHINE else MetadataError
        raise failed(f"{path} cannot be read: {error.strerror or error}") from error
    if content[:4] == b"PK\x03\x04":
        raise MetadataError(f"{path} is a spreadsheet or an archive, not a table of text: export it as CSV in UTF-8")
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in (content[:1], content[1:2]):
        raise MetadataError(f"{path} is in UTF-16: save it as UTF-8 (in a spreadsheet: 'CSV UTF-8')")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = _lines(content[: error.start].decode("latin-1"))
        raise MetadataError(
            f"{path} line {line}: byte {content[error.start]:#04x} is not UTF-8: save the table as UTF-8"
        ) from error
    if "\0" in text:
        line = _lines(text[: text.index("\0")])
        raise MetadataError(f"{path} line {line}: a NUL character: this is not a table of text")
    return text


def _misnamed(fs: fsspec.AbstractFileSystem, path: str) -> str:
    """What the folder holds in the table's place: a spreadsheet, or a name whose ending the system did not show."""
    try:
        names = sorted(posixpath.basename(found) for found in fs.ls(posixpath.dirname(path), detail=False))
    except OSError:
        return ""
    found = next((name for name in names if name != FILE and name.casefold().startswith("metadata")), None)
    return f" (the folder has {found!r})" if found else ""


def _lines(before: str) -> int:
    """The line, from 1, of what comes after this text; a line may also end in a carriage return."""
    return len(re.findall(r"\r\n|\r|\n", before)) + 1


def _rows(path: str, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row with the line that it begins on; blank lines are passed over."""
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    header: list[str] | None = None
    before = 0
    try:
        for fields in reader:
            line, before = before + 1, reader.line_num
            if not any(field.strip() for field in fields):
                continue
            if header is None:
                header = _header(path, line, fields)
                continue
            if len(fields) != len(header):
                raise MetadataError(_miscounted(path, line, fields, header))
            yield line, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        hint = "a quote that is not closed, or a quote within a field that is not doubled"
        if "field larger" in str(error):
            hint = f"a field of more than {_LONGEST_FIELD} characters: {hint}"
        raise MetadataError(f"{path} line {before + 1}: {hint} ({error})") from error
    if header is None:
        raise MetadataError(f"{path} is not a CSV table: it is empty; its first line must be file_name,caption")


def _header(path: str, line: int, fields: list[str]) -> list[str]:
    names = [_SPELLINGS.get(name, name) for name in map(str.strip, fields)]
    if len(names) == 1:
        for separator, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
            if separator in names[0]:
                raise MetadataError(f"{path} line {line}: its columns are separated by {word}: write commas instead")
    if fields[0].lower().startswith("sep="):
        raise MetadataError(f"{path} line {line}: remove the line {fields[0]!r}, which only Excel reads")
    if not all(names):
        raise MetadataError(
            f"{path} line {line}: column {names.index('') + 1} has no name: name it, or remove its commas"
        )
    for name in names:
        if names.count(name) > 1:
            raise MetadataError(f"{path} line {line}: the column {name} stands twice: keep one")
    known = {name.lower().replace(" ", "_"): name for name in names}
    for column in ("file_name", "caption"):
        if column not in names:
            meant = f"; did you mean {known[column]!r}?" if column in known else ""
            raise MetadataError(f"{path} has no column {column}: its columns are {', '.join(names)}{meant}")
    return names


def _miscounted(path: str, line: int, fields: list[str], header: list[str]) -> str:
    counts = f"{path} line {line}: {len(fields)} fields where the header has {len(header)}"
    if len(fields) < len(header):
        return f"{counts}: write a comma for each empty one"
    if not any(field.strip() for field in fields[len(header) :]):
        return f"{counts}: remove the commas at the line's end"
    return f'{counts}: a caption with a comma needs quotes, as in "a cat, asleep"'


def _caption(row: dict[str, str], line: int, where: str) -> Caption:
    values = {key: value.strip() for key, value in row.items()}
    split = values.get("split", "").lower()
    if split not in ("", *SPLITS):
        raise MetadataError(f"{where}: split {split!r} is unknown: use {', '.join(SPLITS)}, or leave it blank")
    held_out = values.get("held_out", "").lower()
    if held_out not in _TRUTH:
        raise MetadataError(f"{where}: held_out {held_out!r} is neither true nor false")
    start, end = (_seconds(values.get(key, ""), key, where) for key in ("start_s", "end_s"))
    if start is not None and end is not None and end <= start:
        raise MetadataError(f"{where}: end_s {end} is not after start_s {start}")
    return Caption(
        text=values["caption"],
        start_s=start or 0.0,
        end_s=float("inf") if end is None else end,
        whole=start is None and end is None,
        split=split,
        held_out=_TRUTH[held_out],
        licence=values.get(LICENCE),
        attributes=tuple((name, values[name]) for name in attribute_columns(values)),
        line=line,
    )


def _seconds(value: str, key: str, where: str) -> float | None:
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if 0 <= seconds <= _LONGEST_S and "_" not in value:
        return seconds
    hint = ""
    if ":" in value:
        hint = ": write 65.5 for 1:05.5"
    elif "," in value:
        hint = ": write a point, as in 5.0"
    elif seconds > _LONGEST_S:
        hint = f": the longest is {_LONGEST_S:.0f}"
    raise MetadataError(f"{where}: {key} {value!r} is not a number of seconds from the file's start{hint}")
