"""What a command takes: numbers with their range, files, folders and sentences, each refused with its nearest legal value.

A path that is missing is left to what reads it, which knows the stage that makes it.
"""

import math
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from onestep.core import paths
from onestep.core.disk import MachineFailed

LONGEST_TEXT = 10_000  # characters
SEEDS = 2**63 - 1
HAND = "By hand"  # the panel of the help for what people and schedules type
_READ_ONLY = getattr(os, "ST_RDONLY", 1)


def whole(low: int, high: int, help: str) -> Any:
    """An option for a whole number from `low` to `high`."""
    return typer.Option(help=help, parser=_number(int, low, high), metavar=f"{low}..{high}")


def decimal(low: float, high: float, help: str) -> Any:
    """An option for a finite number from `low` to `high`."""
    return typer.Option(help=help, parser=_number(float, low, high), metavar=f"{low:g}..{high:g}")


def sentence(help: str, option: bool = False, **more: Any) -> Any:
    """A text that people wrote: not empty, at most 10,000 characters, without control characters."""
    return _info(option, help, _text, {"metavar": "TEXT", **more})


def input_file(help: str, *names: str, option: bool = False) -> Any:
    """A file to read: nothing that is a folder, a pipe or a device."""
    return _info(option, help, _input(folder=False), {"metavar": "FILE", "callback": _noting("inputs")}, *names)


def input_folder(help: str, *names: str, option: bool = False) -> Any:
    """A folder to read; `StorageError` where it holds weights or JSON that are not whole."""
    return _info(option, help, _input(folder=True), {"metavar": "FOLDER", "callback": _noting("inputs")}, *names)


def output_file(help: str, *names: str, option: bool = True) -> Any:
    """A file to write: a place that can be written to, and nothing there but a regular file."""
    return _info(option, help, _output(folder=False), {"metavar": "FILE", "callback": _noting("outputs")}, *names)


def output_folder(help: str, *names: str, option: bool = True) -> Any:
    """A folder to write anew: a place that can be written to, and none that holds an input."""
    return _info(option, help, _output(folder=True), {"metavar": "FOLDER", "callback": _noting("outputs")}, *names)


def output_place(help: str, *names: str, option: bool = True) -> Any:
    """A folder to write into; what else it holds stays."""
    return _info(option, help, _output(folder=True), {"metavar": "FOLDER"}, *names)


def source_url(help: str) -> Any:
    """A folder to read, by its path or any fsspec URL."""
    check = _input(folder=True, weights=False)
    parser = lambda value: value if "://" in str(value) else str(check(value))  # noqa: E731
    return _info(False, help, parser, {"metavar": "FOLDER_OR_URL", "callback": _noting("inputs")})


def require_text(words: list[str]) -> None:
    """Refuse a command line with a word that is not UTF-8: no file of the project could hold it."""
    for number, word in enumerate(words, 1):
        try:
            word.encode()
        except UnicodeEncodeError:
            raise typer.BadParameter(f"word {number} of the command, {word!r}, is not UTF-8: rename the file") from None


def _info(option: bool, help: str, parser: Callable[[Any], Any], more: dict[str, Any], *names: str) -> Any:
    parser.__name__ = more["metavar"].lower()  # what the help shows beside an argument's own name
    if option:
        return typer.Option(*names, help=help, parser=parser, **more)
    return typer.Argument(help=help, parser=parser, **{key: value for key, value in more.items() if key != "metavar"})


def _number(kind: type, low: float, high: float) -> Callable[[Any], Any]:
    legal = f"a {'whole ' if kind is int else ''}number from {_digits(low)} to {_digits(high)}"

    def parsed(value: Any) -> Any:
        try:
            found = kind(str(value))
        except ValueError:
            raise typer.BadParameter(f"{_short(value)} is not {legal}") from None
        if math.isnan(found):
            raise typer.BadParameter(f"{_short(value)} is not {legal}")
        if not low <= found <= high:
            nearest = low if found < low else high
            raise typer.BadParameter(f"{_short(value)} is not {legal}; the nearest legal value is {_digits(nearest)}")
        return found

    return parsed


def _text(value: Any) -> str:
    text = str(value)
    if not text.strip():
        raise typer.BadParameter("the text is empty: write at least one word")
    if len(text) > LONGEST_TEXT:
        raise typer.BadParameter(f"the text has {len(text)} characters; the most that are legal are {LONGEST_TEXT}")
    bad = next((character for character in text if not character.isprintable()), None)
    if bad is not None:
        raise typer.BadParameter(f"the text holds the control character {bad!r}: leave it out")
    return text


def _input(folder: bool, weights: bool = True) -> Callable[[Any], Path]:
    def parsed(value: Any) -> Path:
        path = _path(value)
        found = _stat(path)
        if found is None:
            if path.is_symlink():
                raise typer.BadParameter(f"{_short(path)} is a link to what does not exist")
        elif folder and not stat.S_ISDIR(found.st_mode):
            raise typer.BadParameter(f"{_short(path)} is not a folder: give the folder")
        elif folder and path.resolve() == path.resolve().parent:
            raise typer.BadParameter(f"{_short(path)} is the root of all files: give the folder itself")
        elif not folder:
            _require_regular(path, found)
        if found is not None and not os.access(path, os.R_OK | (os.X_OK if folder else 0)):
            raise typer.BadParameter(f"{_short(path)} cannot be read: permission denied")
        if found is not None and folder and weights:
            from onestep.models.weights import require_whole

            require_whole(path)
        return path

    return parsed


def _output(folder: bool) -> Callable[[Any], Path]:
    def parsed(value: Any) -> Path:
        path = _path(value)
        found = _stat(path)
        if found is not None and not folder:
            _require_regular(path, found)
        elif found is not None and not stat.S_ISDIR(found.st_mode):
            raise typer.BadParameter(f"{_short(path)} is a file: give a folder's name")
        _require_writable(path)
        return path

    return parsed


def _path(value: Any) -> Path:
    text = os.fspath(value)
    if not text:
        raise typer.BadParameter("the path is empty: give one")
    if "\0" in text or any(len(os.fsencode(part)) > 255 for part in Path(text).parts) or len(text) > 4000:
        raise typer.BadParameter(f"{_short(text)} is too long for a path: a name has at most 255 bytes")
    return Path(text)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise typer.BadParameter(f"{_short(path)} cannot be read: permission denied") from None
    except OSError as error:
        raise typer.BadParameter(f"{_short(path)} cannot be read: {error.strerror}") from None


def _require_regular(path: Path, found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise typer.BadParameter(f"{_short(path)} is a folder: give a file")
    if not stat.S_ISREG(found.st_mode):
        raise typer.BadParameter(f"{_short(path)} is a pipe or a device: give a regular file")


def _require_writable(path: Path) -> None:
    if path.resolve() == path.resolve().parent:
        raise typer.BadParameter(f"{_short(path)} is the root of all files: give a place of its own")
    place = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if not place.is_dir():
        raise typer.BadParameter(f"{_short(path)} cannot be written: {_short(place)} is not a folder")
    if os.statvfs(place).f_flag & _READ_ONLY:
        raise MachineFailed(f"{_short(path)} cannot be written: the file system of {_short(place)} is read-only")
    if not os.access(place, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"{_short(path)} cannot be written: permission denied in {_short(place)}")


def _noting(kind: str) -> Callable[[typer.Context, Any], Any]:
    """A callback that keeps a command's paths together and refuses an output in the place of an input."""

    def noted(context: typer.Context, value: Any) -> Any:
        known = context.meta.setdefault(kind, [])
        known += value if isinstance(value, list | tuple) else [] if value is None else [value]
        places = [Path(place).resolve() for place in context.meta.get("outputs", [])]
        if len(set(places)) < len(places):
            raise typer.BadParameter(f"{_short(value)} is given for another result too: give each a place of its own")
        for output in context.meta.get("outputs", []):
            for given in (path for path in context.meta.get("inputs", []) if "://" not in str(path)):
                if Path(given).resolve().is_relative_to(Path(output).resolve()):
                    raise typer.BadParameter(
                        f"{_short(output)} would replace {_short(given)}, which is read: give another place"
                    )
        return value

    return noted


def _digits(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 100 else f"{text[:80]}…"


PARAMS = Path(paths.PARAMS)
ParamsFile = Annotated[Path, input_file("The settings file.", "--params", option=True)]
