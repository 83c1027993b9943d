"""The only reader of settings files besides DVC: YAML, of which JSON is left, as strict groups.

Whatever is wrong ends as `SettingsError`: one sentence for each wrong key, with its file and line, the reason and the
nearest legal value. A whole number may stand for a number; true and texts may not.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import ValidationError

from onestep.core.settings import Settings
from onestep.core.yaml_files import Document, YamlError, read_document, short

MOST_SHOWN = 80  # characters of a refused key or value
MOST_SENTENCES = 8
_KEY = "[key]"  # how pydantic marks that a key is refused, not its value


class SettingsError(ValueError):
    """A setting is missing, unknown or impossible; the message names its file and key."""

    exit_code = 2


AnySettings = TypeVar("AnySettings", bound=Settings)


def read_settings(kind: type[AnySettings], path: Path) -> AnySettings:
    """Read and check a settings file; raises `SettingsError`."""
    found = _read(path)
    return _parsed(kind, found.content, str(path), found)


def load_group(kind: type[AnySettings], path: Path, group: str) -> AnySettings:
    """One group alone, whatever the other groups of the file are; raises `SettingsError`."""
    found = _read(path)
    _require_json(found.content, str(path), found, ())
    if not isinstance(found.content, dict):
        raise SettingsError(f"{path}: {_not_groups(found.content)}")
    if group not in found.content:
        raise SettingsError(f"{path}: {group} is missing")
    return _parsed(kind, found.content[group], str(path), found, (group,))


def parse_settings(kind: type[AnySettings], content: Any, source: str) -> AnySettings:
    """Settings from parsed YAML; raises `SettingsError`, each of whose sentences names `source`."""
    return _parsed(kind, content, source)


def merged(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with changes over them: a group within a group is changed key by key, everything else is replaced."""
    result = dict(content)
    for key, value in changes.items():
        below = content.get(key)
        result[key] = merged(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return result


def overrides(kind: type[Settings], profile: Path, params: Path) -> list[str]:
    """A profile's settings as `group.key=value` for `dvc exp run --set-param`; raises `SettingsError`."""
    below, above = _read(params), _read(profile)
    _parsed(kind, below.content, str(params), below)
    _require_json(above.content, str(profile), above, ())
    if not isinstance(above.content, dict) or not above.content:
        raise SettingsError(f"{profile}: {_not_groups(above.content)}")
    _parsed(kind, merged(below.content, above.content), str(profile), above)
    return [f"{key}={json.dumps(value, separators=(',', ':'))}" for key, value in _leaves(above.content)]


def _leaves(changes: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is not a group, under its dotted key, which is the only way that DVC takes it."""
    for key, value in changes.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _read(path: Path) -> Document:
    try:
        return read_document(path)
    except YamlError as error:
        hint = "" if path.exists() else ": run from the project's root or pass --params"
        raise SettingsError(f"{error}{hint}") from error


def _parsed(
    kind: type[AnySettings], content: Any, source: str, lines: Document | None = None, above: tuple[str, ...] = ()
) -> AnySettings:
    """above: the groups of the file that lead to this content."""
    _require_json(content, source, lines, above)
    if not isinstance(content, dict):
        where = f"{source}: {'.'.join(above)}" if above else source
        raise SettingsError(f"{where}: {_not_groups(content)}")
    try:
        return kind.model_validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        said = [_sentence(kind, content, problem, source, lines, above) for problem in error.errors()]
        more = [f"and {len(said) - MOST_SENTENCES} more"] if len(said) > MOST_SENTENCES else []
        raise SettingsError("; ".join([*said[:MOST_SENTENCES], *more])) from error


def _not_groups(content: Any) -> str:
    return (
        "it is empty"
        if not content and not isinstance(content, bool | int | float)
        else (f"it holds {_kind(content)} where settings by name are due")
    )


def _require_json(content: Any, source: str, lines: Document | None, above: tuple[Any, ...]) -> None:
    """Refuse what YAML can say and JSON cannot: dates, sets, endless numbers, keys that are no text."""
    for keys, reason in _not_json(content, above):
        key = short(".".join(map(str, keys)), MOST_SHOWN)
        raise SettingsError(f"{_where(source, lines, keys)}: {f'{key} ' if key else ''}{reason}")


def _not_json(value: Any, keys: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                yield keys, f"has the key {_shown(key)}, which is no name: put it in quotes, or leave it out"
            else:
                yield from _not_json(inner, (*keys, key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _not_json(inner, (*keys, index))
    elif isinstance(value, float) and not math.isfinite(value):
        yield keys, f"= {_shown(value)}: must be a finite number"
    elif isinstance(value, str) and any(0xD800 <= ord(letter) <= 0xDFFF for letter in value):
        yield keys, "holds half of a character, which is no text: leave it out"
    elif not isinstance(value, str | int | float | None):
        yield keys, f"= {_shown(value)} is {_kind(value)}, which no setting is: if it is a text, put it in quotes"


def _sentence(
    kind: type[Settings], content: Any, problem: Any, source: str, lines: Document | None, above: tuple[str, ...]
) -> str:
    """One problem that pydantic found, in words."""
    place = tuple(problem["loc"])
    if problem["type"] == "conflict":
        place += tuple(int(part) if part.isdigit() else part for part in problem["ctx"]["key"].split("."))
    of_key = place[-1:] == (_KEY,)
    place = place[:-1] if of_key else place
    keys = (*above, *place)
    key, where = short(".".join(map(str, keys)), MOST_SHOWN), _where(source, lines, keys)
    if problem["type"] == "extra_forbidden":
        known = _names(kind, place[:-1])
        meant = get_close_matches(str(place[-1]), known, n=1)
        hint = f"did you mean {'.'.join([*map(str, keys[:-1]), *meant])}?" if meant else f"known are {', '.join(known)}"
        return f"{where}: {key} is not a known setting; {hint}"
    if problem["type"] == "missing":
        return f"{where}: {key} is missing"
    reason = _reason(problem)
    value = "" if of_key else _value(content, place)
    return f"{where}: {key}{value}: {reason}" if key else f"{where}: {reason}"


def _value(content: Any, place: Sequence[Any]) -> str:
    for part in place:
        try:
            content = content[part]
        except (LookupError, TypeError):
            return ""
    return f" = {_shown(content)}"


def _where(source: str, lines: Document | None, keys: Sequence[Any]) -> str:
    line = lines.line(keys) if lines and keys else None
    return f"{source}, line {line}" if line else source


_MUST_BE = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "a text",
    "tuple": "a list",
    "list": "a list",
    "dict": "values by name",
    "model": "settings by name",
}


def _reason(problem: Any) -> str:
    given, kind = problem["input"], problem["type"].removesuffix("_type")
    if kind in _MUST_BE:
        return f"must be {_MUST_BE[kind]}, not {_kind(given)}{_nearest(given, kind)}"
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", problem["ctx"]["expected"])
        meant = get_close_matches(str(given), known, n=1)
        hint = f"; the nearest legal value is {meant[0]}" if meant else ""
        return f"must be {problem['ctx']['expected']}{hint}"
    if kind in ("too_long", "too_short"):
        due = problem["ctx"].get("max_length", problem["ctx"].get("min_length"))
        return f"must have {due} values, not {problem['ctx']['actual_length']}"
    return str(problem["msg"].removeprefix("Value error, "))


def _nearest(given: Any, kind: str) -> str:
    """The legal value that was meant by a number in quotes or with a point, where one can be told."""
    if isinstance(given, bool) or kind not in ("int", "float"):
        return ""
    try:
        number = float(given)
    except (TypeError, ValueError, OverflowError):
        return ""
    if not math.isfinite(number):
        return ""
    return f"; the nearest legal value is {round(number) if kind == 'int' else f'{number:g}'}"


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    kinds = {
        str: "a text",
        int: "a whole number",
        float: "a number with a point",
        dict: "values by name",
        list: "a list",
    }
    return kinds.get(type(value), f"a {type(value).__name__}")


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return _kind(value)
    if isinstance(value, list | dict):
        return short(json.dumps(value, default=str), MOST_SHOWN)
    return short(repr(value) if isinstance(value, str | int | float) else str(value), MOST_SHOWN)


def _names(kind: Any, groups: Iterable[Any]) -> list[str]:
    """The keys of a group of settings within `kind`, as the file spells them."""
    for part in groups:
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
        elif isinstance(kind, type) and issubclass(kind, Settings):
            fields = {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
            kind = fields.get(str(part))
    if not (isinstance(kind, type) and issubclass(kind, Settings)):
        return []
    return [field.alias or name for name, field in kind.model_fields.items()]
