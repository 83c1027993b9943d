"""The ablations of `profiles/ablations.yaml` as DVC experiments: queue what is missing, run DVC's queue, write the tables.

    python benchmarks/ablations.py                      # everything in profiles/ablations.yaml; hours
    python benchmarks/ablations.py --sets default published --seeds 1
    python benchmarks/ablations.py --report             # run nothing: docs/ablations.md from results/runs.csv

Every set and seed is one experiment named `ablation-<set>-<seed>`. It is finished when results/runs.csv, or DVC, has one of
that name, of a commit with the very settings, stages and code of the checkout's, and then it is not run again: stop this at
any moment and start it again, in another clone too once that file is committed. One that failed is reported with its
reason, and tried again with `--retry`. The code that runs is the experiment's own, not the checkout's, so the checkout may
be worked on meanwhile. The page shows what was measured last of each, and of which commits that was.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

from ablation_sets import Ablation, AblationError, Run, read_profile, set_params
from ablations_page import write_page
from onestep.cli.params import Params
from onestep.core.failures import one_sentence
from onestep.core.params import SettingsError, merged, parse_settings
from onestep.core.yaml_files import YamlError, parse_yaml
from runs import RUNS, Origin, Row, metrics_of, origin_of, read_runs, row, rows_of, write_runs

PROFILE, PARAMS, METRICS = Path("profiles/ablations.yaml"), Path("params.yaml"), Path("reports/metrics.json")
RECORD = "reports/curves/adversarial/run.json"  # what the guard saw and did
PAGE, PICTURE = Path("docs/ablations.md"), Path("docs/images/ablations.png")
GRAPH = "dvc.yaml"
TARGET = "evaluate"  # the stage whose metrics are compared
KEPT = ("onestep", "consistency", "real")  # models whose metrics are kept of every experiment
POLL_S = 15.0
STATES = ("Queued", "Running")
EVENTS, EVENT = "guard_events", "guard "  # rows of the guard: how often it acted; what it did, at which update
FAILED = "failed: "  # the row of an experiment that ended without a model


def finished(name: str, settings: Params) -> str | None:
    """The git ref of DVC's experiment of this name with these settings and today's code; None where there is none."""
    for line in git("for-each-ref", "--sort=-committerdate", "--format=%(refname)", "refs/exps").splitlines():
        parts = line.split("/")  # refs/exps/<2>/<38>/<name>; DVC's own bookkeeping is not as deep
        if len(parts) == 5 and parts[4] == name and code_of(line) == code_of("HEAD") and _params_of(line) == settings:
            return line
    return None


def guarded(ref: str) -> Sequence[Mapping[str, Any]] | None:
    """What the guard did during an experiment's training, from DVC's cache; None where there is no record."""
    from dvc.api import read
    from dvc.exceptions import DvcException

    try:
        return json.loads(read(RECORD, rev=ref)).get("events", [])
    except (DvcException, OSError):
        return None


def params_of(ablation: Ablation, seed: int, revision: str = "HEAD") -> Params:
    """All of params.yaml at a revision, with the set's changes; raises `SettingsError`."""
    content = parse_yaml(git("show", f"{revision}:{PARAMS}"), str(PARAMS))
    return parse_settings(Params, merged(content, ablation.changes(seed)), str(PARAMS))


def code_of(revision: str) -> str:
    """A hash of what an experiment's numbers depend on beside its settings.

    That is the stages up to the target, and every file in git that they read.
    """
    return _code_of(git("rev-parse", revision).strip())


@cache
def _code_of(revision: str) -> str:
    stages = parse_yaml(git("show", f"{revision}:{GRAPH}"), GRAPH)["stages"]
    makers = {_path(out): name for name, stage in stages.items() for out in stage.get("outs", ())}
    needed, waiting_for, files = set(), [TARGET], set()
    while waiting_for:
        name = waiting_for.pop()
        if name in needed:
            continue
        needed.add(name)
        for read in map(_path, (*stages[name].get("deps", ()), *stages[name].get("params", ()))):
            made = [maker for out, maker in makers.items() if read == out or read.startswith(f"{out}/")]
            waiting_for += made
            files |= set() if made else {read, f"{read}.dvc"}
    what = [[name, *(stages[name].get(part) for part in ("cmd", "deps", "params", "outs"))] for name in sorted(needed)]
    blobs = git("ls-tree", "-r", revision, "--", *sorted(files - {str(PARAMS)}))
    return hashlib.sha256(json.dumps([what, blobs]).encode()).hexdigest()


def _path(entry: str | Mapping[str, Any]) -> str:
    """The path of a dependency, an output or a file of params, with or without options of its own."""
    return entry if isinstance(entry, str) else next(iter(entry))


def _params_of(ref: str) -> Params | None:
    try:
        return parse_settings(Params, parse_yaml(git("show", f"{ref}:{PARAMS}"), ref), ref)
    except SettingsError:  # of another time
        return None


def waiting() -> dict[str, str]:
    """By name the state of every experiment that DVC's queue knows: Queued, Running, Failed or Success; the newest counts."""
    from dvc.repo import Repo

    with Repo() as repo:
        tasks = [task for task in repo.experiments.celery_queue.status() if task["name"]]
    tasks.sort(key=lambda task: (task["status"] in STATES, task["timestamp"]))
    return {str(task["name"]): str(task["status"]) for task in tasks}


def failure(name: str) -> str:
    """The last line that a failed experiment's stage wrote by itself."""
    done = subprocess.run(["dvc", "queue", "logs", name], capture_output=True, text=True, check=False)
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    own = [line for line in lines if line.startswith("onestep:")]
    return (own or [line for line in lines if line.startswith("ERROR:")] or lines or ["DVC kept no log of it"])[-1]


def runs(sets: Sequence[Ablation], seeds: Sequence[int] | None) -> Iterator[Run]:
    """What became of each set and seed so far, with the settings and the code of the checkout."""
    states, kept = waiting(), read_runs(RUNS)
    for ablation in sets:
        for seed in seeds or ablation.seeds:
            name, settings = ablation.experiment(seed), params_of(ablation, seed)
            there = kept.get(name, [])
            found = run_of(ablation, seed, there) if is_current(there, ablation, seed) else Run(ablation, seed, None)
            if found.metrics:
                yield found
            elif ref := finished(name, settings):
                metrics = json.loads(git("show", f"{ref}:{METRICS}"))
                yield Run(ablation, seed, metrics, events=guarded(ref), commit="".join(ref.split("/")[2:4]))
            else:
                failed = failure(name) if states.get(name) == "Failed" else found.failure
                yield Run(ablation, seed, None, failed)


def measured(sets: Sequence[Ablation]) -> list[Run]:
    """What the file of runs has of each set and seed, of whichever commit."""
    kept = read_runs(RUNS)
    return [run_of(each, seed, kept.get(each.experiment(seed), [])) for each in sets for seed in each.seeds]


def keep(found: Sequence[Run]) -> None:
    """Put what is finished into the file of runs; what it has of the checkout's code and settings stays."""
    kept = read_runs(RUNS)
    for run in found:
        name = run.ablation.experiment(run.seed)
        there = kept.get(name, [])
        has_numbers = run_of(run.ablation, run.seed, there).metrics is not None
        if (run.metrics or run.failure) and not (has_numbers and is_current(there, run.ablation, run.seed)):
            commit = run.commit or git("rev-parse", "HEAD").strip()
            command = f"python benchmarks/ablations.py --sets {run.ablation.name} --seeds {run.seed}"
            kept[name] = list(rows_of_run(run, Origin(name, commit[:9], "", str(run.seed), command)))
    write_runs(RUNS, kept)


def rows_of_run(run: Run, origin: Origin) -> Iterator[Row]:
    """One experiment's rows: its metrics and what the guard did, or why it failed."""
    if run.metrics is None:
        yield row(origin, "", f"{FAILED}{run.failure}", {})
        return
    models = {name: cells for name, cells in run.metrics["models"].items() if name in KEPT}
    yield from rows_of(origin, {"models": models, "gsb": run.metrics.get("gsb", {})})
    if run.events is not None:
        yield row(origin, KEPT[0], EVENTS, {"value": len(run.events)})
        for event in run.events:
            yield row(origin, KEPT[0], f"{EVENT}{event['action']}: {event['reason']}", {"value": event["step"]})


def run_of(ablation: Ablation, seed: int, rows: Sequence[Row]) -> Run:
    """One experiment from its rows; without metrics where there are none."""
    if not rows:
        return Run(ablation, seed, None)
    commit = origin_of(rows).commit
    if rows[0].metric.startswith(FAILED):
        return Run(ablation, seed, None, rows[0].metric.removeprefix(FAILED), commit=commit)
    watched = any(each.metric == EVENTS for each in rows)
    events = [
        dict(zip(("action", "reason"), each.metric.removeprefix(EVENT).split(": ", 1), strict=True))
        | {"step": int(each.value)}
        for each in rows
        if each.metric.startswith(EVENT)
    ]
    numbers = metrics_of([each for each in rows if not each.metric.startswith((EVENT, EVENTS))])
    return Run(ablation, seed, numbers, events=events if watched else None, commit=commit)


def is_current(rows: Sequence[Row], ablation: Ablation, seed: int) -> bool:
    """Whether the commit that these rows are of has the checkout's code, settings and sets."""
    if not rows:
        return False
    commit = origin_of(rows).commit
    try:
        there = parse_yaml(git("show", f"{commit}:{PROFILE.as_posix()}"), str(PROFILE))
        here = parse_yaml(git("show", f"HEAD:{PROFILE.as_posix()}"), str(PROFILE))
        same_set = _changes(there, ablation.name) == _changes(here, ablation.name)
        same_settings = params_of(ablation, seed, commit) == params_of(ablation, seed)
        return same_set and same_settings and code_of(commit) == code_of("HEAD")
    except (AblationError, SettingsError, YamlError):  # of another time, or not in this clone
        return False


def _changes(profile: Mapping[str, Any], name: str) -> Any:
    return profile.get("settings"), profile["sets"].get(name, {}).get("settings")


def enqueue(run: Run) -> None:
    """Put one experiment into DVC's queue; raises `AblationError`."""
    name, head = run.ablation.experiment(run.seed), git("rev-parse", "HEAD").strip()
    if git("for-each-ref", f"refs/exps/{head[:2]}/{head[2:]}/{name}"):
        raise AblationError(
            f"{name} exists with other settings than {run.ablation.name} has now: rename the set, or dvc exp remove {name}"
        )
    changes = [word for change in set_params(run.ablation, run.seed, PARAMS) for word in ("--set-param", change)]
    call("dvc", "exp", "run", "--queue", "--name", name, *changes, TARGET)


def work(names: set[str], jobs: int) -> Iterator[None]:
    """Start DVC's workers and wait until none of these experiments is queued or running; yields after every change."""
    said: dict[str, str] = {}
    while True:
        states = {name: state for name, state in waiting().items() if name in names}
        for name, state in states.items():
            if said.get(name) != state:
                print(f"{time.strftime('%H:%M:%S')} {name}: {state.lower()}", flush=True)
        if said != states:
            yield
        said = states
        left = [state for state in states.values() if state in STATES]
        if not left:
            return
        if left.count("Running") < min(jobs, len(left)):
            # A worker ends when its queue is empty; starting those that are there does nothing. `src` first: the stages run
            # in DVC's copy of the commit, and an editable install would give them the checkout's code.
            path = os.pathsep.join(filter(None, ["src", os.environ.get("PYTHONPATH")]))
            call("dvc", "queue", "start", "--jobs", str(jobs), env={"PYTHONPATH": path})
        time.sleep(POLL_S)


def git(*words: str) -> str:
    """What a git command says; raises `AblationError`."""
    return call("git", *words)


def call(*words: str, env: Mapping[str, str] | None = None) -> str:
    """What a command says; it need not close its output, because a daemon that it leaves behind may hold it open."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        done = subprocess.run(words, stdout=out, stderr=err, check=False, env=os.environ | dict(env or {}))
        said, complained = (_all_of(stream) for stream in (out, err))
    if done.returncode:
        raise AblationError(f"{' '.join(words)} failed: {(complained or said).strip()}")
    return said


def _all_of(stream: IO[str]) -> str:
    stream.seek(0)
    return stream.read()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", type=Path, default=PROFILE)
    parser.add_argument("--sets", nargs="+", help="only these")
    parser.add_argument("--seeds", nargs="+", type=int, help="these instead of the profile's")
    parser.add_argument("--retry", action="store_true", help="run again what failed")
    parser.add_argument(
        "--jobs", type=int, default=1, help="experiments at once; each takes machine.threads of the profile"
    )
    parser.add_argument("--report", action="store_true", help="run nothing, write the page from what is there")
    options = parser.parse_args()
    try:
        every = read_profile(options.profile, None if options.report else PARAMS)
        unknown = set(options.sets or ()) - {found.name for found in every}
        if unknown:
            known = ", ".join(found.name for found in every)
            raise AblationError(f"{options.profile} has no set {sorted(unknown)[0]}; known are {known}")
        sets = [found for found in every if not options.sets or found.name in options.sets]
        if not options.report:
            changed = git(
                "status",
                "--porcelain",
                "--untracked-files=no",
                "--",
                "src",
                GRAPH,
                "constraints.txt",
                str(PARAMS),
                str(PROFILE),
            ).strip()
            if changed:
                raise AblationError(f"commit {changed.split()[-1]} first: an experiment is told by its commit")
            known_states = waiting()
            names = set()
            for run in runs(sets, options.seeds):
                name = run.ablation.experiment(run.seed)
                if run.metrics is None and (run.failure is None or options.retry):
                    names.add(name)
                    if known_states.get(name) not in STATES:
                        enqueue(run)
            for _ in work(names, options.jobs):
                keep(list(runs(every, None)))
            keep(list(runs(every, None)))
        found = measured(every)
        write_page(found, PAGE, PICTURE)
        missing = [run.ablation.experiment(run.seed) for run in found if run.metrics is None and not run.failure]
        print(f"wrote {PAGE}: {len(found) - len(missing)} of {len(found)} experiments")
    except AblationError as error:
        raise SystemExit(f"ablations: {error}") from None


if __name__ == "__main__":
    with one_sentence("ablations", sys.argv[1:]):
        main()
