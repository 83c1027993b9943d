"""How far a model and its metrics are from the recorded ones, where they are not the same bytes."""

import json
import math
from pathlib import Path
from typing import Any

from onestep.core.rounding import DECIMALS
from onestep.provenance.diff import flattened

WEIGHTS = ".safetensors"


def weights_distance(before: Path, after: Path) -> float:
    """The largest relative distance of a tensor, ‖a − b‖ / ‖a‖; infinite where shapes or other files differ."""
    names = {
        path.relative_to(folder).as_posix()
        for folder in (before, after)
        for path in folder.rglob("*")
        if path.is_file()
    }
    return max((_file_distance(before / name, after / name) for name in names), default=0.0)


def metrics_distance(before: bytes, after: bytes) -> tuple[float, str]:
    """The largest relative difference of a number, |a − b| / max(|a|, |b|), and its name; infinite where keys differ."""
    one, other = dict(flattened(json.loads(before))), dict(flattened(json.loads(after)))
    worst, where = 0.0, ""
    for key in sorted({*one, *other}):
        distance = _number_distance(one.get(key), other.get(key))
        if distance > worst:
            worst, where = distance, key
    return worst, where


def _file_distance(before: Path, after: Path) -> float:
    if not before.is_file() or not after.is_file():
        return math.inf
    if before.read_bytes() == after.read_bytes():
        return 0.0
    if not before.name.endswith(WEIGHTS):
        return math.inf
    from safetensors.torch import load_file

    one, other = load_file(before), load_file(after)
    if one.keys() != other.keys() or any(one[name].shape != other[name].shape for name in one):
        return math.inf
    worst = 0.0
    for name, tensor in one.items():
        scale = float(tensor.double().norm())
        apart = float((tensor.double() - other[name].double()).norm())
        distance = apart / scale if scale else (0.0 if apart == 0 else math.inf)
        worst = max(worst, distance if math.isfinite(distance) else math.inf)
    return worst


def _number_distance(one: Any, other: Any) -> float:
    if one == other:
        return 0.0
    numbers = [value for value in (one, other) if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < 2 or not all(map(math.isfinite, numbers)):
        return math.inf
    apart = abs(numbers[0] - numbers[1])
    # a report's last decimal may fall on either side: of a number near zero that is much of its value, and says nothing
    return 0.0 if apart < 1.5 * 10**-DECIMALS else apart / max(map(abs, numbers))
