"""How long each stage took, against the budget in its own `meta:`: written by the stages, shown after a run.

Times lie in `.onestep/`, outside every out: nothing that DVC versions may depend on the clock.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onestep.core import paths

FOLDER = Path(paths.TIMES)
GRAPH = Path(paths.GRAPH)


class TimesError(RuntimeError):
    """There is no graph to show the times of; the message says where one was looked for."""


@contextmanager
def timed(words: Sequence[str]) -> Iterator[None]:
    """Note how long this process took, imports and all, when these words are a stage's command and it ends well."""
    try:
        yield
    except SystemExit as end:  # how a command line ends, well or badly
        if not end.code and words and "--help" not in words:
            _note(words)
        raise


def table(since: float) -> str:
    """One line per stage: its budget and the seconds it took after `since` (seconds of the epoch), or that it was cached."""
    stages = _stages()
    if not stages:
        raise TimesError(f"{GRAPH} is not here: run from the folder that holds it")
    lines = [("stage", "budget", "took")]
    budgets, total = 0.0, 0.0
    for name, stage in stages.items():
        budget = _budget(name, stage)
        budgets += budget or 0
        seconds = _seconds(name, since)
        total += seconds or 0.0
        lines.append((name, _shown(budget), "cached" if seconds is None else _shown(seconds)))
    lines.append(("stages", _shown(budgets), _shown(total)))
    if since:
        lines.append(("whole run", "", _shown(time.time() - since)))
    return "\n".join(f"{name:<22}{budget:>8}{took:>8}" for name, budget, took in lines)


def _note(words: Sequence[str]) -> None:
    from psutil import Process

    from onestep.core.storage import write_json

    try:
        stage = next((name for name, stage in _stages().items() if _words(stage) == list(words)), None)
    except TimesError:
        return  # what was asked for is done; a graph that cannot be read is said by what runs it
    if stage is not None:
        ended = time.time()
        write_json(FOLDER / f"{stage}.json", {"ended": ended, "seconds": ended - Process().create_time()})


def _stages() -> dict[str, dict[str, Any]]:
    from onestep.core.yaml_files import YamlError, read_yaml

    if not GRAPH.exists():
        return {}
    try:
        content = read_yaml(GRAPH)
    except YamlError as error:
        raise TimesError(str(error)) from error
    stages = content.get("stages") if isinstance(content, dict) else None
    if not isinstance(stages, dict):
        raise TimesError(f"{GRAPH}: stages is missing, or holds no stages by name")
    return {str(name): stage for name, stage in stages.items() if isinstance(stage, dict)}


def _budget(name: str, stage: dict[str, Any]) -> float | None:
    """The seconds of a stage's `meta: budget_s`, null where it has none; raises `TimesError`."""
    meta = stage.get("meta")
    budget = meta.get("budget_s") if isinstance(meta, dict) else None
    if budget is not None and (
        isinstance(budget, bool) or not isinstance(budget, int | float) or not 0 <= budget < 1e9
    ):
        raise TimesError(f"{GRAPH}: stages.{name}.meta.budget_s = {budget!r}: must be seconds, from 0 on")
    return budget


def _words(stage: dict[str, Any]) -> list[str]:
    import shlex

    try:
        return shlex.split(stage["cmd"])[1:] if isinstance(stage.get("cmd"), str) else []
    except ValueError:  # an open quote: none of our commands
        return []


def _seconds(name: str, since: float) -> float | None:
    from onestep.core.storage import read_mapping

    path = FOLDER / f"{name}.json"
    if not path.is_file():
        return None
    found = read_mapping(path, ended=(int, float), seconds=(int, float))
    return float(found["seconds"]) if found["ended"] >= since else None


def _shown(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.0f} s"
