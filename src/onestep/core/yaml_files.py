"""Every YAML file of the project through one reader, DVC's own (ruamel.yaml, YAML 1.2): a value here is what it is to DVC.

To PyYAML, which reads YAML 1.1, `3e-05` is a text and `yes` is true. What is no plain YAML ends in one sentence.
"""

import io
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from math import isfinite
from pathlib import Path
from typing import Any

MOST_BYTES = 64 << 20  # of a file; the lock of a graph with 100,000 stages is smaller
MOST_DEPTH = 100  # of values within values; the parser's own recursion ends in a crash of the interpreter
MOST_VALUES = 1_000_000  # of a file whose aliases are written out
SHOWN = 120  # characters of a parser's own words


class YamlError(ValueError):
    """A file cannot be read as YAML; the message names the file, the line where there is one, and the reason."""

    exit_code = 2


@dataclass(frozen=True)
class Document:
    """What a YAML file says, and where it says it."""

    content: Any
    node: Any

    def line(self, keys: Sequence[Any]) -> int | None:
        """The line, from 1, of the value under these keys and indices, or of the last of them that is written there."""
        node, line = self.node, None
        for key in keys:
            inner = _below(node, key)
            if inner is None:
                break
            node, line = inner
        return line


def read_yaml(path: Path) -> Any:
    """What a YAML file holds, null where it is empty; raises `YamlError`."""
    return read_document(path).content


def read_document(path: Path) -> Document:
    """A YAML file with its lines; raises `YamlError`."""
    return parse_document(_bytes(path), str(path))


def parse_yaml(text: str | bytes, source: str) -> Any:
    """What a YAML text holds, null where it is empty; `source` names it in a `YamlError`."""
    return parse_document(text, source).content


def parse_document(text: str | bytes, source: str) -> Document:
    """A YAML text with its lines; `source` names it in a `YamlError`."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if isinstance(text, bytes):
        text = _decoded(text, source)
    reader = YAML(typ="safe")
    try:
        _require_shallow(reader.parse(text), source)
        constructor, parser = reader.get_constructor_parser(text)
        try:
            node = constructor.composer.get_single_node()
            if node is None:
                return Document(None, None)
            _require_small(node, source)
            return Document(_constructed(constructor, node, source), node)
        finally:
            parser.dispose()
    except YamlError:
        raise
    except (YAMLError, UnicodeError) as error:
        raise YamlError(_sentence(error, text, source)) from error


def dump_yaml(content: Any, sort_keys: bool = False) -> str:
    """YAML that says the same to readers of YAML 1.1 and 1.2: `3.0e-05` has its point, and a text like `yes` its quotes."""
    from ruamel.yaml import YAML

    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.allow_unicode = True
    writer.width = 4096
    writer.sort_base_mapping_type_on_output = sort_keys  # type: ignore[assignment]
    writer.Representer = _representer()
    stream = io.StringIO()
    writer.dump(content, stream)
    return stream.getvalue().removesuffix("...\n")


def plain(value: Any) -> Any:
    """A value as JSON holds it: dates and numbers that are not finite become text, tuples and sets lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(inner) for inner in value), key=str)
    if isinstance(value, date):  # and datetime, which is one
        return value.isoformat()
    return str(value) if isinstance(value, bytes) or (isinstance(value, float) and not isfinite(value)) else value


def _representer() -> Any:
    from ruamel.yaml.representer import SafeRepresenter
    from ruamel.yaml.resolver import implicit_resolvers

    class Representer(SafeRepresenter):
        def ignore_aliases(self, data: Any) -> bool:
            return True

        def represent_text(self, data: str) -> Any:
            taken = any(pattern.match(data) for _, _, pattern, _ in implicit_resolvers)
            return self.represent_scalar("tag:yaml.org,2002:str", data, style="'" if taken else None)

        def represent_number(self, data: float) -> Any:
            node = self.represent_float(data)
            if "." not in node.value:
                node.value = node.value.replace("e", ".0e")
            return node

    Representer.add_representer(str, Representer.represent_text)
    Representer.add_representer(float, Representer.represent_number)
    return Representer


def _bytes(path: Path) -> bytes:
    """The bytes of a regular file: a pipe would be waited for without end."""
    try:
        found = path.stat()
        if stat.S_ISREG(found.st_mode) and found.st_size <= MOST_BYTES:
            return path.read_bytes()
    except FileNotFoundError as error:
        raise YamlError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise YamlError(f"{path} cannot be read: {reason}") from error
    if stat.S_ISDIR(found.st_mode):
        raise YamlError(f"{path} is a folder: give a YAML file")
    if not stat.S_ISREG(found.st_mode):
        raise YamlError(f"{path} is not a regular file: give a YAML file")
    raise YamlError(f"{path} is larger than {MOST_BYTES >> 20} MiB: no file of settings or stages is")


def _decoded(text: bytes, source: str) -> str:
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text[: error.start].count(b"\n") + 1
        raise YamlError(
            f"{source}, line {line}: byte {text[error.start]:#04x} is not UTF-8: save the file as UTF-8"
        ) from error


def _require_shallow(events: Iterator[Any], source: str) -> None:
    from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent

    depth = 0
    for event in events:
        if isinstance(event, CollectionStartEvent):
            depth += 1
        elif isinstance(event, CollectionEndEvent):
            depth -= 1
        if depth > MOST_DEPTH:
            line = event.start_mark.line + 1
            raise YamlError(f"{source}, line {line}: values within values more than {MOST_DEPTH} deep")


def _require_small(top: Any, source: str) -> None:
    """Refuse what aliases would make endless or enormous, and a key that stands twice in one mapping."""
    sizes: dict[int, int] = {}  # of a node with all below it; 0 while it is being counted

    def size(node: Any, where: str) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = 0
            pairs = [inner if isinstance(inner, tuple) else (None, inner) for inner in _inside(node)]
            _require_once([key for key, _ in pairs if key is not None], where, source)
            total = 1
            for key, value in pairs:
                total += size(value, f"{where}{key.value if key and isinstance(key.value, str) else '…'}.")
                total += size(key, where) if key is not None else 0
            sizes[id(node)] = total
            if sizes[id(node)] > MOST_VALUES:
                raise YamlError(
                    f"{source}, line {_line(node)}: aliases of aliases stand for more than {MOST_VALUES:,} values"
                )
        if not sizes[id(node)]:
            raise YamlError(f"{source}, line {_line(node)}: a value that holds itself by an alias")
        return sizes[id(node)]

    size(top, "")


def _constructed(constructor: Any, top: Any, source: str) -> Any:
    """The value of a document; what the constructor of a scalar raises is of any kind, and without its line."""
    from ruamel.yaml.error import YAMLError

    scalars: list[Any] = []
    construct = constructor.construct_object

    def noting(node: Any, deep: bool = False) -> Any:
        scalars.append(node)
        return construct(node, deep=deep)

    constructor.construct_object = noting
    try:
        return constructor.construct_document(top)
    except YAMLError:
        raise
    except Exception as error:
        last = scalars[-1]
        reason = f"{short(str(last.value))} is no {last.tag.rpartition(':')[2]}: {short(str(error))}"
        raise YamlError(f"{source}, line {_line(last)}: {reason}") from error


def _require_once(keys: Sequence[Any], where: str, source: str) -> None:
    first: dict[tuple[str, str], Any] = {}
    for key in keys:
        if isinstance(key.value, str) and first.setdefault((key.tag, key.value), key) is not key:
            before = _line(first[key.tag, key.value])
            raise YamlError(
                f"{source}, line {_line(key)}: {short(where + key.value)} stands twice, first on line {before}: keep one"
            )


def _inside(node: Any) -> Sequence[Any]:
    """The nodes of a list, the pairs of nodes of a mapping, nothing of a scalar."""
    return node.value if isinstance(node.value, list) else ()


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


def _below(node: Any, key: Any) -> tuple[Any, int] | None:
    """The node under a key or index and its line; a mapping's own keys come after those that were merged into it."""
    if isinstance(key, int):
        items = _inside(node)
        return (items[key], _line(items[key])) if key < len(items) and not isinstance(items[key], tuple) else None
    pairs = [pair for pair in _inside(node) if isinstance(pair, tuple) and pair[0].value == str(key)]
    return (pairs[-1][1], _line(pairs[-1][0])) if pairs else None


def _sentence(error: Exception, text: str, source: str) -> str:
    """What is wrong in one line, for all that a parser and the constructors of values raise."""
    conflict = re.search(r"^(<{7} |={7}$|>{7} )", text, flags=re.MULTILINE)
    if conflict:
        line = text[: conflict.start()].count("\n") + 1
        return f"{source}, line {line}: the marks of a merge that was not finished: choose one side"
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        return f"{source} is not valid YAML: {short(str(error))}"
    where = f"{source}, line {mark.line + 1}"
    if text.splitlines()[mark.line :] and text.splitlines()[mark.line][mark.column : mark.column + 1] == "\t":
        return f"{where} is not valid YAML: a tab; indent with spaces"
    said = [words for words in (getattr(error, "context", None), getattr(error, "problem", None)) if words]
    return f"{where} is not valid YAML: {short(', '.join(said) or str(error))}"


def short(words: str, most: int = SHOWN) -> str:
    """The words on one line of at most so many characters, without any that a terminal would obey."""
    line = "".join(letter if letter.isprintable() else "�" for letter in " ".join(words.split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"
