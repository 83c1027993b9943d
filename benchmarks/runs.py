"""`results/runs.csv`: every measured run, one row a number, with the commit and the command that it came from.

    python benchmarks/runs.py add demo --command "make demo"    # from reports/metrics.json of the working copy

A run that is there already with the same numbers stays as it is, one with other numbers is replaced. `model` is a model's
name, or `ONE vs OTHER` for a comparison on the same prompts. Tables and plots of the pages are made from these rows.
"""

import argparse
import csv
import io
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from onestep.core.failures import one_sentence
from onestep.core.storage import read_json, replacing

RUNS, METRICS = Path("results/runs.csv"), Path("reports/metrics.json")
DIGITS = 10  # significant ones
GSB, OPPONENT, SETTINGS = "gsb_", "gsb_opponent", ("steps", "guidance")
VERSUS = " vs "


class Row(NamedTuple):
    """One measured number; `low` and `high` are empty where it has no interval, what is not known is empty too.

    commit: of the code that ran. record: the branch `runs/…` that holds the run's record. seed: of the training.
    """

    run: str
    commit: str
    record: str
    seed: str
    model: str
    metric: str
    value: str
    low: str
    high: str
    command: str


class Origin(NamedTuple):
    """What a run's rows have in common."""

    run: str
    commit: str
    record: str
    seed: str
    command: str


def read_runs(path: Path) -> dict[str, list[Row]]:
    """The rows of each run, in the order of the file; empty where there is no file."""
    if not path.is_file():
        return {}
    runs: dict[str, list[Row]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for cells in csv.DictReader(file):
            runs.setdefault(cells["run"], []).append(Row(**cells))
    return runs


def write_runs(path: Path, runs: Mapping[str, Sequence[Row]]) -> None:
    """Replace the file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Row._fields)
    writer.writerows(row for rows in runs.values() for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(text.getvalue(), encoding="utf-8")


def add(path: Path, origin: Origin, metrics: Mapping[str, Any]) -> bool:
    """Put a run's `metrics.json` into the file; false where its numbers are there already."""
    runs, rows = read_runs(path), list(rows_of(origin, metrics))
    if metrics_of(runs.get(origin.run, [])) == metrics_of(rows):
        return False
    write_runs(path, runs | {origin.run: rows})
    return True


def rows_of(origin: Origin, metrics: Mapping[str, Any]) -> Iterator[Row]:
    """What a `metrics.json` measured, as rows: models, paired differences, GSB, and each model's steps and guidance."""
    for model, cells in metrics["models"].items():
        for name, cell in cells.items():
            yield row(origin, model, name, cell)
    for model, settings in metrics.get("settings", {}).items():
        for name in SETTINGS:
            if name in settings:
                yield row(origin, model, name, {"value": settings[name]})
    for pair, cells in metrics.get("comparisons", {}).items():
        for name, cell in cells.items():
            yield row(origin, pair, name, cell | {"value": cell["difference"]})
    gsb = metrics.get("gsb", {})
    for pair, cells in gsb.items():
        if VERSUS in pair:
            for question, cell in cells.items():
                yield row(origin, pair, GSB + question, cell)
    if "against" in gsb:
        yield row(origin, gsb["against"], OPPONENT, {"value": 1})


def row(origin: Origin, model: str, metric: str, cell: Mapping[str, Any]) -> Row:
    """One row; a cell has a value, and low and high where it has an interval."""
    value, low, high = (_written(cell.get(key)) for key in ("value", "low", "high"))
    return Row(origin.run, origin.commit, origin.record, origin.seed, model, metric, value, low, high, origin.command)


def metrics_of(rows: Sequence[Row]) -> dict[str, Any]:
    """The same numbers in the shape of `metrics.json`, which tables are made from."""
    models: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    comparisons: dict[str, Any] = {}
    gsb: dict[str, Any] = {}
    for each in rows:
        cell = {key: float(text) for key in ("value", "low", "high") if (text := getattr(each, key))}
        if each.metric == OPPONENT:
            gsb["against"] = each.model
        elif each.metric.startswith(GSB):
            gsb.setdefault(each.model, {})[each.metric.removeprefix(GSB)] = cell
        elif VERSUS in each.model:
            difference = {"difference" if key == "value" else key: number for key, number in cell.items()}
            comparisons.setdefault(each.model, {})[each.metric] = difference
        elif each.metric in SETTINGS:
            settings.setdefault(each.model, {})[each.metric] = float(each.value)
        else:
            models.setdefault(each.model, {})[each.metric] = cell
    return {"models": models, "settings": settings, "comparisons": comparisons, "gsb": gsb}


def origin_of(rows: Sequence[Row]) -> Origin:
    """Where a run's numbers come from."""
    return Origin(*(getattr(rows[0], name) for name in Origin._fields))


def _written(value: Any) -> str:
    return "" if value is None else f"{value:.{DIGITS}g}"


def record_of(metrics: Path) -> str:
    """The newest branch `runs/…` whose copy of this file is the one in the working copy; empty where there is none."""
    blob = _git("hash-object", str(metrics))
    for branch in _git("for-each-ref", "--sort=-committerdate", "--format=%(refname:short)", "refs/heads/runs").split():
        if _git("rev-parse", "--verify", "--quiet", f"{branch}:{metrics.as_posix()}", missing=True) == blob:
            return branch
    return ""


def _commit_of(metrics: Path) -> str:
    """The commit that brought this file as it is; the checkout's where it is not committed."""
    committed = not _git("status", "--porcelain", "--", str(metrics))
    return _git("log", "-1", "--format=%h", "--abbrev=9", *(["--", str(metrics)] if committed else []))


def _git(*words: str, missing: bool = False) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=not missing)
    return done.stdout.strip()


def main() -> None:
    from onestep.cli.params import load_params

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    adding = parser.add_subparsers(required=True).add_parser("add", help="put a run's metrics.json into the file")
    adding.add_argument("run", help="its name in tables")
    adding.add_argument("--command", required=True, help="what was typed to get it")
    adding.add_argument("--metrics", type=Path, default=METRICS)
    adding.add_argument("--seed", help="of the training; default: adversarial.seed of params.yaml")
    adding.add_argument(
        "--commit", help="of the code that ran; default: the one that brought the file, or the checkout's"
    )
    options = parser.parse_args()
    seed = options.seed or str(load_params(Path("params.yaml")).adversarial.seed)
    commit = options.commit or _commit_of(options.metrics)
    origin = Origin(options.run, commit, record_of(options.metrics), seed, options.command)
    changed = add(RUNS, origin, read_json(options.metrics))
    print(f"{RUNS}: {options.run} {'written' if changed else 'has these numbers already'}")


if __name__ == "__main__":
    with one_sentence("runs", sys.argv[1:]):
        main()
