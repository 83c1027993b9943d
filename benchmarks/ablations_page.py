"""`docs/ablations.md` and its picture, from what the ablations' experiments measured."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ablation_sets import Run

CONFIDENCE = 0.95
BEGIN, END = "<!-- written by benchmarks/ablations.py, from here -->", "<!-- to here -->"
CANDIDATE, START, REAL = "onestep", "consistency", "real"


class Value(NamedTuple):
    """A number with its interval; `low` and `high` are None where nothing says how sure it is."""

    value: float
    low: float | None
    high: float | None


class Column(NamedTuple):
    """One column of the table: how it is read from a `metrics.json`, as value, low and high."""

    title: str
    better: str
    read: Callable[[Mapping[str, Any]], Value | None]


def write_page(runs: Sequence[Run], page: Path, picture: Path) -> None:
    """Write the tables between the page's two marks, and keep what people wrote around them; and the picture."""
    text = (
        page.read_text(encoding="utf-8")
        if page.is_file()
        else f"# Ablations\n\n{BEGIN}\n{END}\n\n## What was learned\n"
    )
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    by_set = _by_set(runs)
    link = Path(picture.name) if picture.parent == page.parent else picture.relative_to(page.parent)
    body = [BEGIN, "", _how(runs), "", *_table(by_set), "", *_differences(by_set), *_stage(by_set)]
    if any(run.metrics for run in runs):
        draw(by_set, picture)
        body += [f"![Each set's mean over seeds, and each seed]({link.as_posix()})", ""]
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(before + "\n".join([*body, *_not_there(runs), END]) + after, encoding="utf-8")


def mean_over_seeds(values: Sequence[Value]) -> Value:
    """The mean, with Student's t interval over seeds; of one seed its own interval, over prompts."""
    from scipy import stats

    if len(values) == 1:
        return values[0]
    each = np.array([value.value for value in values])
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(each) - 1) * each.std(ddof=1) / len(each) ** 0.5
    return Value(float(each.mean()), float(each.mean() - half), float(each.mean() + half))


def difference(ours: Mapping[int, Value], theirs: Mapping[int, Value]) -> Value | None:
    """Ours less theirs over the seeds that both have; with one seed there is no interval."""
    shared = sorted(set(ours) & set(theirs))
    if not shared:
        return None
    each = [Value(ours[seed].value - theirs[seed].value, None, None) for seed in shared]
    return mean_over_seeds(each)


def draw(by_set: Mapping[str, list[Run]], picture: Path) -> None:
    """One panel per number: each set's mean with its interval, each seed as a dot, a bar at what it is compared with.

    A set so far from the others that they could not be told apart beside it is written at the panel's edge.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [column for column in COLUMNS if any(_values(found, column) for found in by_set.values())]
    names = [name for name, found in by_set.items() if any(run.metrics for run in found)][::-1]
    width = 2.6 + 2.3 * len(shown)
    figure, axes = plt.subplots(
        1, len(shown), figsize=(width, 1.2 + 0.32 * len(names)), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, column in zip(axes[0], shown, strict=True):
        low, high = _range([value.value for name in names for value in _values(by_set[name], column).values()])
        axis.set_xlim(low, high)
        for place, name in enumerate(names):
            values = list(_values(by_set[name], column).values())
            if not values:
                continue
            mean, compare = mean_over_seeds(values), by_set[name][0].ablation.compare
            colour = "#d2601a" if name == compare else "#2457d6"
            if not low <= mean.value <= high:
                side, edge = ("left", low) if mean.value < low else ("right", high)
                text = f"◂ {mean.value:.3g}" if side == "left" else f"{mean.value:.3g} ▸"
                axis.text(edge, place, text, color=colour, ha=side, va="center", fontsize=8)
                continue
            if mean.low is not None and mean.high is not None:
                axis.plot([mean.low, mean.high], [place, place], color=colour, alpha=0.5)
            axis.plot(
                [value.value for value in values], [place] * len(values), ".", color=colour, alpha=0.5, markersize=5
            )
            axis.plot(mean.value, place, "o", color=colour, markersize=6)
            if held := list(_values(by_set.get(compare, []), column).values()):
                axis.plot(mean_over_seeds(held).value, place, "|", color="#d2601a", markersize=13)
        axis.set_title(f"{column.title}\n({column.better})", fontsize=9)
        axis.grid(axis="x", alpha=0.3)
    axes[0][0].set_yticks(range(len(names)), names)
    picture.parent.mkdir(parents=True, exist_ok=True)
    # without the library's version in it, the same numbers give the same file
    figure.savefig(picture, dpi=120, metadata={"Software": None})
    plt.close(figure)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Limits of an axis: what lies within ten median deviations of the median, and a margin."""
    each = np.array(values)
    away = np.abs(each - np.median(each))
    near = each[away <= 10 * max(float(np.median(away)), 1e-9)]
    margin = max(0.25 * float(np.ptp(near)), 1e-3)
    return float(near.min() - margin), float(near.max() + margin)


def _by_set(runs: Sequence[Run]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.ablation.name, []).append(run)
    return found


def _values(runs: Sequence[Run], column: Column) -> dict[int, Value]:
    found = {run.seed: column.read(run.metrics) for run in runs if run.metrics}
    return {seed: value for seed, value in found.items() if value is not None}


def _how(runs: Sequence[Run]) -> str:
    against = sorted(
        {run.metrics["gsb"]["against"] for run in runs if run.metrics and run.metrics.get("gsb", {}).get("against")}
    )
    gsb = f" GSB is against {' or '.join(against)}." if against else ""
    commits = sorted({run.commit for run in runs if run.metrics and run.commit})
    at = (
        f" Measured at commit{'s' * (len(commits) > 1)} {', '.join(commits)}, each run as results/runs.csv says."
        if commits
        else ""
    )
    return (
        "`python benchmarks/ablations.py` made this part from `profiles/ablations.yaml`. Numbers are means over seeds with "
        f"{100 * CONFIDENCE:.0f} % t intervals; of one seed, its own interval over prompts. The lower tables are each set "
        "less the one that it is held against, seed by seed; bold where the interval is clear of zero, and without an "
        f"interval, which decides nothing, where only one seed is shared.{gsb}{at}"
    )


def _table(by_set: Mapping[str, list[Run]]) -> list[str]:
    shown = [column for column in COLUMNS if any(_values(found, column) for found in by_set.values())]
    guarded = any(run.events is not None for found in by_set.values() for run in found)
    heads = ["set", "what", "seeds", *(f"{column.title} ({column.better})" for column in shown)]
    rows = [[*heads, *(["guard"] if guarded else [])]]
    for name, found in by_set.items():
        done = [run for run in found if run.metrics]
        cells = [list(_values(found, column).values()) for column in shown]
        rows.append(
            [
                f"`{name}`",
                found[0].ablation.title,
                f"{len(done)} of {len(found)}",
                *(_written(mean_over_seeds(values)) if values else "–" for values in cells),
                *([_guard(found)] if guarded else []),
            ]
        )
    return _markdown(rows)


def _differences(by_set: Mapping[str, list[Run]]) -> list[str]:
    """A table for each set that others are held against, in the order of the profile."""
    lines = []
    for compare in dict.fromkeys(found[0].ablation.compare for found in by_set.values()):
        held = by_set.get(compare, [])
        shown = [column for column in COLUMNS if _values(held, column)]
        rows = [[f"less `{compare}`", *(column.title for column in shown)]]
        for name, found in by_set.items():
            if found[0].ablation.compare == compare != name and any(run.metrics for run in found):
                rows.append([f"`{name}`", *(_less(found, held, column) for column in shown)])
        if len(rows) > 1 and shown:
            lines += [*_markdown(rows), ""]
    return lines


def _stage(by_set: Mapping[str, list[Run]]) -> list[str]:
    """What the adversarial stage made of its start, where it made anything of it: GSB of its end against its start."""
    rows = [["what the stage made of its start", *(f"{column.title} ({column.better})" for column in STAGE)]]
    for name, found in by_set.items():
        cells = [list(_values(found, column).values()) for column in STAGE]
        if any(value.value for column in OVER_START for value in _values(found, column).values()):
            rows.append([f"`{name}`", *(_written(mean_over_seeds(values)) if values else "–" for values in cells)])
    return [*_markdown(rows), ""] if len(rows) > 1 else []


def _less(ours: Sequence[Run], theirs: Sequence[Run], column: Column) -> str:
    value = difference(_values(ours, column), _values(theirs, column))
    if value is None:
        return "–"
    clear = value.low is not None and value.high is not None and not value.low <= 0 <= value.high
    text = _written(value, signed=True)
    return f"**{text}**" if clear else text


def _guard(runs: Sequence[Run]) -> str:
    """What the guard did over a set's seeds, and the last reason that ended a run."""
    watched = [run.events for run in runs if run.events is not None]
    if not watched:
        return "–"
    events = [event for each in watched for event in each]
    stopped = [event for event in events if event["action"] == "stopped"]
    rolled = len(events) - len(stopped)
    said = [f"{rolled} rollback{'s' * (rolled != 1)}"] if rolled else []
    if stopped:
        said.append(
            f"{len(stopped)} of {len(watched)} stopped, last at update {stopped[-1]['step']}: {stopped[-1]['reason']}"
        )
    return "; ".join(said) or "quiet"


def _not_there(runs: Sequence[Run]) -> list[str]:
    failed = [
        f"- `{run.ablation.name}`, seed {run.seed}, ended without a model: {run.failure}" for run in runs if run.failure
    ]
    missing = [f"`{run.ablation.name}` {run.seed}" for run in runs if run.metrics is None and not run.failure]
    return [*failed, *([""] if failed else []), *([f"Not run yet: {', '.join(missing)}.", ""] if missing else [])]


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---"] * len(rows[0])
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (rows[0], rule, *rows[1:])]


def _written(value: Value, signed: bool = False) -> str:
    text = f"{value.value:+.3g}" if signed else f"{value.value:.3g}"
    return text if value.low is None else f"{text} ({value.low:.3g} … {value.high:.3g})"


def _metric(name: str, model: str = CANDIDATE) -> Callable[[Mapping[str, Any]], Value | None]:
    def read(metrics: Mapping[str, Any]) -> Value | None:
        cell = metrics["models"].get(model, {}).get(name)
        return Value(cell["value"], cell["low"], cell["high"]) if cell else None

    return read


def _share_of_real(name: str) -> Callable[[Mapping[str, Any]], Value | None]:
    def read(metrics: Mapping[str, Any]) -> Value | None:
        cell, real = (metrics["models"].get(model, {}).get(name) for model in (CANDIDATE, REAL))
        if not cell or not real or not real["value"]:
            return None
        return Value(*(cell[key] / real["value"] for key in ("value", "low", "high")))

    return read


def _gsb(question: str, pair: str | None = None) -> Callable[[Mapping[str, Any]], Value | None]:
    """The candidate against its opponent, or, with `pair`, what metrics.json has under "X vs Y"."""

    def read(metrics: Mapping[str, Any]) -> Value | None:
        gsb = metrics.get("gsb", {})
        cell = gsb.get(pair or f"{CANDIDATE} vs {gsb.get('against')}", {}).get(question)
        return Value(*(100 * cell[key] for key in ("value", "low", "high"))) if cell else None

    return read


COLUMNS = (
    Column("Fréchet video distance", "lower", _metric("frechet_video_distance")),
    Column("attribute accuracy", "higher", _metric("attribute_accuracy")),
    Column("structural stability", "higher", _metric("structural_stability")),
    Column("diversity / real", "1 is right", _share_of_real("diversity")),
    Column("motion / real", "1 is right", _share_of_real("motion")),
    Column("GSB fidelity, %", "higher", _gsb("fidelity")),
    Column("GSB structure, %", "higher", _gsb("structure")),
    Column("GSB text, %", "higher", _gsb("text")),
)

_PAIR = f"{CANDIDATE} vs {START}"
OVER_START = (
    Column("GSB fidelity over the start, %", "higher", _gsb("fidelity", _PAIR)),
    Column("GSB structure over the start, %", "higher", _gsb("structure", _PAIR)),
    Column("GSB text over the start, %", "higher", _gsb("text", _PAIR)),
)
STAGE = (
    Column("Fréchet video distance of the start", "lower", _metric("frechet_video_distance", START)),
    Column("Fréchet video distance", "lower", _metric("frechet_video_distance")),
    Column("attribute accuracy of the start", "higher", _metric("attribute_accuracy", START)),
    Column("attribute accuracy", "higher", _metric("attribute_accuracy")),
    *OVER_START,
)
