"""Line charts as inline SVG, coloured by the page's style sheet, so that they need no file and no script."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 14, 40
_TICKS = 5
_ASIDE = 5.0  # between the points of two series at one x, so that their intervals stay apart
_COLOURS = 6  # that the page's style sheet has
_Place = Callable[[float], float]


@dataclass(frozen=True)
class Series:
    """A named line of points x, y, low, high; one of a single point is drawn as a mark."""

    name: str
    points: Sequence[tuple[float, float, float, float]]


@dataclass(frozen=True)
class Level:
    """A horizontal line across the chart, such as a ceiling."""

    name: str
    y: float


def line_chart(
    series: Sequence[Series], levels: Sequence[Level], x_title: str, y_title: str, log_x: bool = False
) -> str:
    """An `<svg>` element with a legend below; points carry their numbers as tooltips, intervals are upright bars."""
    xs = [p[0] for s in series for p in s.points]
    ys = [value for s in series for p in s.points for value in p[1:]] + [level.y for level in levels]
    ticks = _ticks(min(*ys, 0.0) if min(ys) < 0.3 * max(ys) else min(ys), max(ys))
    low, high = ticks[0], ticks[-1]
    left, right = min(xs), max(xs)

    def place_x(x: float) -> float:
        share = _share(math.log(x), math.log(left), math.log(right)) if log_x else _share(x, left, right)
        return _LEFT + 12 + share * (_WIDTH - _LEFT - _RIGHT - 24)

    def place_y(y: float) -> float:
        return _HEIGHT - _BOTTOM - _share(y, low, high) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [_grid(ticks, place_y)]
    every = sorted(set(xs)) if log_x else _ticks(left, right)
    parts += [
        f'<text class="tick" x="{place_x(x):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{x:g}</text>'
        for x in every
        if left <= x <= right
    ]
    for number, level in enumerate(levels):
        y = place_y(level.y)
        parts.append(
            f'<line class="level level{number}" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
    for number, line in enumerate(series):
        aside = (number - (len(series) - 1) / 2) * _ASIDE
        parts.append(_drawn(line, number % _COLOURS, aside, place_x, place_y))
    parts.append(
        f'<text class="axis" x="{(_LEFT + _WIDTH) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_title)}</text>'
    )
    legend = [
        f'<span class="key s{number % _COLOURS}">{escape(line.name)}</span>' for number, line in enumerate(series)
    ]
    legend += [f'<span class="key level{number}">{escape(level.name)}</span>' for number, level in enumerate(levels)]
    return (
        f'<figure class="chart"><figcaption>{escape(y_title)}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(y_title)}">{"".join(parts)}</svg>'
        f'<div class="legend">{"".join(legend)}</div></figure>'
    )


def _drawn(line: Series, number: int, aside: float, place_x: _Place, place_y: _Place) -> str:
    parts = []
    if len(line.points) > 1:
        path = " ".join(f"{place_x(x) + aside:.1f},{place_y(y):.1f}" for x, y, _, _ in line.points)
        parts.append(f'<polyline class="line s{number}" points="{path}"/>')
    for x, y, low, high in line.points:
        if high > low:
            parts.append(
                f'<line class="bar s{number}" x1="{place_x(x) + aside:.1f}" x2="{place_x(x) + aside:.1f}" '
                f'y1="{place_y(low):.1f}" y2="{place_y(high):.1f}"/>'
            )
        if len(line.points) <= 24:
            radius = 5 if len(line.points) == 1 else 3.5
            parts.append(
                f'<circle class="dot s{number}" cx="{place_x(x) + aside:.1f}" cy="{place_y(y):.1f}" r="{radius}">'
                f"<title>{escape(line.name)}, {x:g}: {y:.4g} [{low:.4g}, {high:.4g}]</title></circle>"
            )
    return "".join(parts)


def _grid(ticks: Sequence[float], place_y: _Place) -> str:
    lines = [
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{place_y(y):.1f}" y2="{place_y(y):.1f}"/>'
        f'<text class="tick" x="{_LEFT - 6}" y="{place_y(y) + 4:.1f}" text-anchor="end">{y:g}</text>'
        for y in ticks
    ]
    return "".join(lines)


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.5


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers that cover the range."""
    span = (high - low) or abs(high) or 1.0
    rough = span / _TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]
