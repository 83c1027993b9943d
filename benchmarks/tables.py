"""The tables of a page from the `metrics.json` that each names, so that no number is copied by hand.

    python benchmarks/tables.py               # README.md and docs/results.md
    python benchmarks/tables.py docs/page.md

A table stands between two marks: `<!-- models of FILE: NAME, NAME -->` (also `differences of`, `preference of`; `runs of
FILE, FILE: NAME` has a row for each file) and `<!-- end -->`. What is between them is written anew.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from onestep.core.failures import one_sentence
from onestep.core.storage import replacing
from onestep.evaluation.names import QUESTIONS

MARK = re.compile(
    r"(?P<mark><!-- (?P<kind>\w+) of (?P<files>[^:]+): (?P<names>[^>]+) -->\n)(?P<old>.*?)(?P<end><!-- end -->)",
    re.DOTALL,
)
PAGES = (Path("README.md"), Path("docs/results.md"))
CANDIDATE, REAL = "onestep", "real"
DISTANCES = {
    "frechet_video_distance": ("Fréchet video distance", 2),
    "patch_frechet_distance": ("patch Fréchet distance", 2),
}
ACCURACY = {"attribute_accuracy": ("attribute accuracy", 3)}
RATIO = "frechet_video_distance"


class TableError(ValueError):
    """A mark asks for what is not there; the message names the mark, the reason and what there is."""


def models(metrics: Mapping[str, Any], names: Sequence[str]) -> Iterator[list[str]]:
    """Each model's distances and accuracy with their intervals, structure, and diversity and motion as shares of real."""
    arrows = {"frechet_video_distance": "↓", "patch_frechet_distance": "↓", "attribute_accuracy": "↑"}
    columns = {**DISTANCES, **ACCURACY}
    heads = [f"{title} {arrows[name]}" for name, (title, _) in columns.items()]
    yield ["model", "steps", *heads, "structural stability ↑", "diversity of real", "motion of real"]
    real = metrics["models"][REAL]
    for name in names:
        cells = metrics["models"][name]
        steps = metrics["settings"].get(name, {}).get("steps") or ""
        yield [
            f"**{name}**" if name == CANDIDATE else name,
            str(steps),
            *(interval(cells[metric], digits) for metric, (_, digits) in columns.items()),
            number(cells["structural_stability"]["value"], 3),
            *(number(cells[m]["value"] / real[m]["value"], 2) for m in ("diversity", "motion")),
        ]


def differences(metrics: Mapping[str, Any], names: Sequence[str]) -> Iterator[list[str]]:
    """The candidate less each model, paired by caption."""
    columns = {**DISTANCES, **ACCURACY}
    yield ["against", *(title for title, _ in columns.values())]
    for name in names:
        cells = metrics["comparisons"][f"{CANDIDATE} vs {name}"]
        signed = (interval(cells[m], digits, "difference", signed=True) for m, (_, digits) in columns.items())
        yield [name, *signed]


def preference(metrics: Mapping[str, Any], names: Sequence[str]) -> Iterator[list[str]]:
    """GSB in percent against each model."""
    yield ["one step against", *QUESTIONS]
    for name in names:
        cells = metrics["gsb"][f"{CANDIDATE} vs {name}"]
        percent = [{key: 100 * cells[q][key] for key in ("value", "low", "high")} for q in QUESTIONS]
        yield [name, *(interval(cell, 0, signed=True) for cell in percent)]


def runs(results: Mapping[str, Mapping[str, Any]], against: str) -> Iterator[list[str]]:
    """The candidate of each file against one model: quotient of the distances, GSB in percent, shares of real."""
    heads = [*(f"{question}, %" for question in QUESTIONS), "diversity of real", "motion of real"]
    yield [f"against {against}", "Fréchet video distance, ratio", *heads]
    for file, metrics in results.items():
        one, other, real = (metrics["models"][name] for name in (CANDIDATE, against, REAL))
        _, (_, *answers) = preference(metrics, [against])
        yield [
            f"[{Path(file).stem}]({file})",
            number(one[RATIO]["value"] / other[RATIO]["value"], 2),
            *answers,
            *(number(one[m]["value"] / real[m]["value"], 2) for m in ("diversity", "motion")),
        ]


ONE_FILE = {"models": models, "differences": differences, "preference": preference}
RUNS = "runs"
KINDS = (*ONE_FILE, RUNS)


def number(value: float, digits: int, signed: bool = False) -> str:
    """A number with a true minus sign."""
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def interval(cell: Mapping[str, float], digits: int, key: str = "value", signed: bool = False) -> str:
    """`value [low, high]`."""
    value, low, high = (number(cell[name], digits, signed) for name in (key, "low", "high"))
    return f"{value} [{low}, {high}]"


def filled(page: Path) -> str:
    """The page with every marked table written anew; raises `TableError`."""

    def table(found: re.Match[str]) -> str:
        mark, kind = found["mark"].strip(), found["kind"]
        files, names = ([part.strip() for part in found[group].split(",")] for group in ("files", "names"))
        if kind not in KINDS:
            raise TableError(f"{page}: {mark}: no table {kind!r}; known are {', '.join(KINDS)}")
        results: dict[str, Any] = {}
        for file in files:
            try:
                results[file] = json.loads((page.parent / file).read_text(encoding="utf-8"))
            except FileNotFoundError:
                raise TableError(f"{page}: {mark}: {file} does not exist") from None
            known = results[file]["models"]
            if missing := [name for name in names if name not in known]:
                raise TableError(f"{page}: {mark}: no model {missing[0]!r} in {file}; known are {', '.join(known)}")
        if len(names if kind == RUNS else files) > 1:
            raise TableError(f"{page}: {mark}: {kind} takes one {'model' if kind == RUNS else 'file'}")
        head, *rows = runs(results, names[0]) if kind == RUNS else ONE_FILE[kind](results[files[0]], names)
        lines = [head, ["---"] * len(head), *rows]
        return found["mark"] + "".join(f"| {' | '.join(line)} |\n" for line in lines) + found["end"]

    return MARK.sub(table, page.read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", type=Path, nargs="*", default=PAGES)
    for page in parser.parse_args().pages:
        try:
            text = filled(page)
        except TableError as error:
            raise SystemExit(f"tables: {error}") from None
        with replacing(page) as partial:
            partial.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    with one_sentence("tables", sys.argv[1:]):
        main()
