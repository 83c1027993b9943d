"""Hundreds of edits of the settings, as hands and broken tools make them: each loads, or is one sentence that names the file."""

import copy
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from onestep.cli.params import load_params, overrides
from onestep.core.params import SettingsError, load_group
from onestep.core.yaml_files import dump_yaml, read_yaml
from onestep.gate.settings import GateSettings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "params.yaml").read_text()
EDITS = 270

VALUES = [None, True, False, 0, -1, 1, 2, 3.5, -0.0, 1e300, -1e300, 1e-300, float("inf"), float("nan"), 2**63, 10**40,
          "", " ", "yes", "no", "0", "1.0", "~", "x" * 5000, "\n", "ü", "\x7f", "s3://", "foo://bar", "../..", "🎬",
          [], [[]], {}, {"a": 1}, [1, 2, 3],
          [1.0, "x"], [None], {"": None}, [[1, 1.0]], {"motion": {"absolut": 1}}]  # fmt: skip
SCALARS = ["yes", "on", "0o17", "1_000", "12:30:45", "2026-01-31",
           "2026-13-45", "1e5", "0x1F", ".inf", "-.INF", ".NaN", "=", "<<",
           "*gone", "&a [*a]", "!!python/object:os.system x", "!!binary aGk=", "!!set {a}", "!mine x", "!!int x",
           "!!bool x", "@x",
           "`x", "%x", "'", '"\\ud800"', '"\\x00"', "{", "[", "]", "- 1",
           "? x", ": x", "| x", "#", "\t1", "1 2", "a: b", "9" * 5000,
           "[" * 200 + "]" * 200, "{a: " * 200 + "1" + "}" * 200]  # fmt: skip
LETTERS = "\t\0\x1b:{}[]#&*!|>'\"%@`-?,~\\ \n\ufeff\u2028ü0aA"

Edit = tuple[str | bytes, str]  # the file, and a word that its sentence names; empty where there is none


def paths(content: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of the settings, groups included."""
    for key, value in content.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from paths(value, (*above, key))


CONTENT = read_yaml(ROOT / "params.yaml")
PATHS = list(paths(CONTENT))


def with_parent(change: Callable[[random.Random, dict[str, Any], str], str]) -> Callable[[random.Random], Edit]:
    """An edit of the parsed settings at a random key; the change says what the sentence must name."""

    def edit(rng: random.Random) -> Edit:
        content, (*above, key) = copy.deepcopy(CONTENT), rng.choice(PATHS)
        parent = content
        for name in above:
            parent = parent[name]
        named = change(rng, parent, key)
        return dump_yaml(content), named

    return edit


def dropped(_rng: random.Random, parent: dict[str, Any], key: str) -> str:
    del parent[key]
    return ""  # a margin or floor less is legal


def misspelt(rng: random.Random, parent: dict[str, Any], key: str) -> str:
    place = rng.randrange(len(key))
    other = rng.choice(
        [key[:place] + key[place + 1 :], key + "s", key.upper(), key[:place] + "x" + key[place:], f" {key}"]
    )
    if other in parent or not other.strip():
        return ""
    parent[other] = parent.pop(key)
    return other.strip()


def replaced(rng: random.Random, parent: dict[str, Any], key: str) -> str:
    parent[key] = copy.deepcopy(rng.choice(VALUES))
    return ""


def swapped(rng: random.Random, parent: dict[str, Any], key: str) -> str:
    other = rng.choice(list(parent))
    parent[key], parent[other] = parent[other], parent[key]
    return ""


def scaled(rng: random.Random, parent: dict[str, Any], key: str) -> str:
    def times(value: Any) -> Any:
        if isinstance(value, list):
            return [times(entry) for entry in value]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return value * factor if is_number else value

    factor = rng.choice([-1, 0, 0.5, 2, 1000, 1e-9, 1e9, 10**30])
    parent[key] = times(parent[key])
    return ""


def line_replaced(rng: random.Random) -> Edit:
    lines = TEXT.splitlines()
    place = rng.choice([number for number, line in enumerate(lines) if ":" in line.partition("#")[0]])
    key = lines[place].partition(":")[0]
    lines[place] = f"{key}: {rng.choice(SCALARS)}"
    return "\n".join(lines), ""


def lines_moved(rng: random.Random) -> Edit:
    lines = TEXT.splitlines()
    place = rng.randrange(len(lines))
    return "\n".join(
        rng.choice(
            [
                lines[:place] + lines[place + 1 :],
                lines[:place] + [lines[place]] * 2 + lines[place + 1 :],
                [*lines[:place], f" {lines[place]}", *lines[place + 1 :]],
                [*lines[:place], lines[place].lstrip(), *lines[place + 1 :]],
                lines[place:] + lines[:place],
                [*lines[:place], "---", *lines[place:]],
                lines[:place],
            ]
        )
    ), ""


def letters_changed(rng: random.Random) -> Edit:
    text = list(TEXT)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(text))
        text[place : place + rng.randint(0, 2)] = rng.choice(LETTERS)
    return "".join(text), ""


def bytes_changed(rng: random.Random) -> Edit:
    data = bytearray(TEXT.encode())
    for _ in range(rng.randint(1, 3)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data[: rng.choice([None, rng.randrange(len(data))])]), ""


EDITORS = [*map(with_parent, (dropped, misspelt, replaced, swapped, scaled)), line_replaced, lines_moved, letters_changed,
           bytes_changed]  # fmt: skip


def loaded(path: Path) -> None:
    load_params(path)
    load_group(GateSettings, path, "gate")
    assert overrides(ROOT / "profiles/full.yaml", path)


def test_each_edit_loads_or_is_one_sentence_that_names_the_file(tmp_path: Path) -> None:
    path, refused = tmp_path / "params.yaml", 0
    for number in range(EDITS):
        text, named = EDITORS[number % len(EDITORS)](random.Random(number))
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        try:
            loaded(path)
        except SettingsError as error:
            refused += 1
            said = str(error)
            assert str(path) in said or "profiles/full.yaml" in said, (number, said)
            assert not set(said) & set("\n\r\0\x1b"), (number, said)
            assert len(said) < 4000, (number, said)
            assert named in said, (number, named, said)
        except Exception as error:
            pytest.fail(f"edit {number}: {type(error).__name__}: {error}")
        else:
            assert not named, (number, named)
    assert refused > EDITS / 2


def test_each_edit_of_a_profile_is_settings_for_dvc_or_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "profile.yaml"
    for number in range(100):
        rng = random.Random(number)
        content: dict[str, Any] = {}
        for *above, key in rng.sample(PATHS, 2):
            parent = content
            for name in above:
                parent = parent.setdefault(name, {}) if isinstance(parent, dict) else {}
            if isinstance(parent, dict):
                parent[key] = copy.deepcopy(rng.choice(VALUES))
        path.write_text(dump_yaml(content))
        try:
            said = overrides(path, ROOT / "params.yaml")
        except SettingsError as error:
            assert str(error).startswith(str(path)), (number, str(error))
            assert "\n" not in str(error)
        else:
            assert all("=" in change for change in said)
