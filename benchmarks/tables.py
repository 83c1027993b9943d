"""The tables of a page from the runs in `results/runs.csv` that each names, so that no number is copied by hand.

    python benchmarks/tables.py               # README.md and docs/results.md
    python benchmarks/tables.py docs/page.md

A table stands between two marks: `<!-- models of RUN: MODEL, MODEL -->` (also `differences of`, `preference of`) and
`<!-- end -->`. `<!-- runs of RUN, RUN: MODEL -->` has a row for each run, against one model; `<!-- origins of RUN, RUN -->`
says which commit and command each run came from. What is between the marks is written anew.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from onestep.core.failures import one_sentence
from onestep.core.storage import replacing
from onestep.evaluation.names import QUESTIONS
from runs import RUNS, Row, metrics_of, origin_of, read_runs

MARK = re.compile(
    r"(?P<mark><!-- (?P<kind>\w+) of (?P<runs>[^:>]+?)(?:: (?P<models>[^>]+))? -->\n)(?P<old>.*?)(?P<end><!-- end -->)",
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
        steps = metrics["settings"].get(name, {}).get("steps") or 0
        yield [
            f"**{name}**" if name == CANDIDATE else name,
            f"{steps:g}" if steps else "",
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


def against(measured: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> Iterator[list[str]]:
    """The candidate of each run against one model: quotient of the distances, GSB in percent, shares of real."""
    (opponent,) = names
    heads = [*(f"{question}, %" for question in QUESTIONS), "diversity of real", "motion of real"]
    yield [f"against {opponent}", "Fréchet video distance, ratio", *heads]
    for run, metrics in measured.items():
        one, other, real = (metrics["models"][name] for name in (CANDIDATE, opponent, REAL))
        _, (_, *answers) = preference(metrics, [opponent])
        yield [
            run,
            number(one[RATIO]["value"] / other[RATIO]["value"], 2),
            *answers,
            *(number(one[m]["value"] / real[m]["value"], 2) for m in ("diversity", "motion")),
        ]


def origins(rows: Mapping[str, Sequence[Row]]) -> Iterator[list[str]]:
    """Commit, seed and command of each run, and the branch of its record where it has one."""
    yield ["run", "commit", "seed", "command", "record"]
    for run, found in rows.items():
        origin = origin_of(found)
        yield [run, origin.commit or "unknown", origin.seed, f"`{origin.command}`", origin.record or "none"]


ONE_RUN = {"models": models, "differences": differences, "preference": preference}
KINDS = (*ONE_RUN, "runs", "origins")


def number(value: float, digits: int, signed: bool = False) -> str:
    """A number with a true minus sign."""
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def interval(cell: Mapping[str, float], digits: int, key: str = "value", signed: bool = False) -> str:
    """`value [low, high]`."""
    value, low, high = (number(cell[name], digits, signed) for name in (key, "low", "high"))
    return f"{value} [{low}, {high}]"


def filled(page: Path, rows: Mapping[str, Sequence[Row]]) -> str:
    """The page with every marked table written anew from these runs; raises `TableError`."""

    def table(found: re.Match[str]) -> str:
        try:
            head, *lines = _table(found["kind"], _listed(found["runs"]), _listed(found["models"]), rows)
        except TableError as error:
            raise TableError(f"{page}: {found['mark'].strip()}: {error}") from None
        every = [head, ["---"] * len(head), *lines]
        return found["mark"] + "".join(f"| {' | '.join(line)} |\n" for line in every) + found["end"]

    return MARK.sub(table, page.read_text(encoding="utf-8"))


def _listed(text: str | None) -> list[str]:
    return [part.strip() for part in text.split(",")] if text else []


def _table(
    kind: str, names: Sequence[str], models: Sequence[str], rows: Mapping[str, Sequence[Row]]
) -> Iterator[list[str]]:
    if kind not in KINDS:
        raise TableError(f"no table {kind!r}; known are {', '.join(KINDS)}")
    if missing := [name for name in names if name not in rows]:
        raise TableError(f"no run {missing[0]!r} in {RUNS}; known are {', '.join(rows)}")
    if kind == "origins":
        return origins({name: rows[name] for name in names})
    measured = {name: metrics_of(rows[name]) for name in names}
    for name, metrics in measured.items():
        if missing := [model for model in models if model not in metrics["models"]]:
            raise TableError(f"no model {missing[0]!r} in {name}; known are {', '.join(metrics['models'])}")
    if len(models if kind == "runs" else names) != 1:
        raise TableError(f"{kind} takes one {'model' if kind == 'runs' else 'run'}")
    return against(measured, models) if kind == "runs" else ONE_RUN[kind](measured[names[0]], models)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", type=Path, nargs="*", default=PAGES)
    for page in parser.parse_args().pages:
        try:
            text = filled(page, read_runs(RUNS))
        except TableError as error:
            raise SystemExit(f"tables: {error}") from None
        with replacing(page) as partial:
            partial.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    with one_sentence("tables", sys.argv[1:]):
        main()
