"""The ablations of RECIPE.md section 7 as DVC experiments: queue what is missing, run DVC's queue, write the tables.

    python benchmarks/ablations.py                      # everything in profiles/ablations.yaml; hours
    python benchmarks/ablations.py --sets default published --seeds 1
    python benchmarks/ablations.py --report             # run nothing: docs/ablations.md from what is there

Every set and seed is one experiment named `ablation-<set>-<seed>`. It is finished when docs/results/ablations.json, or DVC,
has one of that name with the very settings, stages and code of the checkout, and then it is not run again: stop this at
any moment and start it again, in another clone too once that file is committed. One that failed is reported with its
reason, and tried again with `--retry`. The code that runs is the experiment's own, not the checkout's, so the checkout
may be worked on meanwhile.
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
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

from onestep.cli.params import Params, overrides
from onestep.core.failures import one_sentence
from onestep.core.params import SettingsError, merged, parse_settings
from onestep.core.storage import read_json, write_json
from onestep.core.yaml_files import dump_yaml, parse_yaml, read_yaml

PROFILE, PARAMS, METRICS = Path("profiles/ablations.yaml"), Path("params.yaml"), Path("reports/metrics.json")
RECORD = "reports/curves/adversarial/run.json"  # what the guard saw and did
RESULTS = Path("docs/results/ablations.json")  # what is finished: DVC's experiments stay in the clone that ran them
PAGE, PICTURE = Path("docs/ablations.md"), Path("docs/images/ablations.png")
GRAPH = "dvc.yaml"
TARGET = "evaluate"  # the stage whose metrics are compared
KEPT = ("onestep", "consistency", "real")  # models whose metrics are kept of every experiment
POLL_S = 15.0
STATES = ("Queued", "Running")


class AblationError(RuntimeError):
    """The ablations cannot be run or read; the message names what is wrong."""


@dataclass(frozen=True)
class Ablation:
    """One set of `profiles/ablations.yaml`."""

    name: str
    title: str
    seeds: tuple[int, ...]
    settings: Mapping[str, Mapping[str, Any]]
    compare: str  # the set that it is held against

    def changes(self, seed: int) -> dict[str, dict[str, Any]]:
        """What it changes of params.yaml with this seed in both training stages."""
        seeded = {group: {"seed": seed} for group in ("consistency", "adversarial")}
        return merged(self.settings, seeded)

    def experiment(self, seed: int) -> str:
        """The experiment's name."""
        return f"ablation-{self.name}-{seed}"


@dataclass(frozen=True)
class Run:
    """One experiment and what became of it."""

    ablation: Ablation
    seed: int
    metrics: Mapping[str, Any] | None  # None until it is finished
    failure: str | None = None
    events: Sequence[Mapping[str, Any]] | None = None  # what the guard did; None where nothing says
    commit: str | None = None  # that it ran at, where DVC has it


def read_profile(profile: Path, params: Path) -> list[Ablation]:
    """The sets, each checked against params.yaml; raises `AblationError`."""
    content = read_yaml(profile)
    common = content.get("settings") or {}
    sets = [
        Ablation(
            name,
            entry["title"],
            tuple(entry.get("seeds", content["seeds"])),
            merged(common, entry["settings"]),
            entry.get("compare", content["compare"]),
        )
        for name, entry in content["sets"].items()
    ]
    for found in sets:
        if found.compare not in content["sets"]:
            raise AblationError(
                f"{profile}, set {found.name}: compare = {found.compare} is not a set; known are {', '.join(content['sets'])}"
            )
        try:
            set_params(found, found.seeds[0], params)
        except SettingsError as error:
            raise AblationError(f"{profile}, set {found.name}: {error}") from error
    return sets


def set_params(ablation: Ablation, seed: int, params: Path) -> list[str]:
    """The changes as `--set-param` takes them, checked; raises `SettingsError`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / ablation.name
        file.write_text(dump_yaml(ablation.changes(seed)), encoding="utf-8")
        return overrides(file, params)


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


def params_of(ablation: Ablation, seed: int) -> Params:
    """All of the committed params.yaml with the set's changes."""
    content = parse_yaml(git("show", f"HEAD:{PARAMS}"), str(PARAMS))
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
    """What became of each set and seed so far."""
    states, kept = waiting(), read_json(RESULTS) if RESULTS.is_file() else {}
    for ablation in sets:
        for seed in seeds or ablation.seeds:
            name, settings = ablation.experiment(seed), params_of(ablation, seed)
            entry = kept.get(name, {})
            if not _current(entry, settings):
                entry = {}
            if entry.get("metrics"):
                yield Run(ablation, seed, entry["metrics"], events=entry["events"])
            elif ref := finished(name, settings):
                metrics = json.loads(git("show", f"{ref}:{METRICS}"))
                yield Run(ablation, seed, metrics, events=guarded(ref), commit="".join(ref.split("/")[2:4]))
            else:
                failed = failure(name) if states.get(name) == "Failed" else entry.get("failure")
                yield Run(ablation, seed, None, failed)


def keep(found: Sequence[Run]) -> None:
    """Put what is finished into the file of results, each with what tells whether it is still of this code."""
    kept = read_json(RESULTS) if RESULTS.is_file() else {}
    for run in found:
        name, settings = run.ablation.experiment(run.seed), params_of(run.ablation, run.seed)
        there = kept.get(name, {})
        if _current(there, settings) and there["metrics"]:
            continue  # with the commit that it ran at
        if run.metrics or run.failure:
            kept[name] = {
                "commit": run.commit or git("rev-parse", "HEAD").strip(),
                "code": code_of("HEAD"),
                "params": _hash(settings),
                "changes": run.ablation.changes(run.seed),
                "metrics": _kept(run.metrics) if run.metrics else None,
                "failure": run.failure,
                "events": run.events,
            }
    write_json(RESULTS, dict(sorted(kept.items())))


def _current(entry: Mapping[str, Any], settings: Params) -> bool:
    return (entry.get("code"), entry.get("params")) == (code_of("HEAD"), _hash(settings))


def _kept(metrics: Mapping[str, Any]) -> dict[str, Any]:
    models = {name: cells for name, cells in metrics["models"].items() if name in KEPT}
    return {"models": models, "gsb": metrics.get("gsb", {})}


def _hash(settings: Params) -> str:
    return hashlib.sha256(settings.model_dump_json().encode()).hexdigest()


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
    from ablations_page import write_page

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
        every = read_profile(options.profile, PARAMS)
        unknown = set(options.sets or ()) - {found.name for found in every}
        if unknown:
            known = ", ".join(found.name for found in every)
            raise AblationError(f"{options.profile} has no set {sorted(unknown)[0]}; known are {known}")
        sets = [found for found in every if not options.sets or found.name in options.sets]
        if not options.report:
            changed = git(
                "status", "--porcelain", "--untracked-files=no", "--", "src", GRAPH, "constraints.txt", str(PARAMS)
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
        found = list(runs(every, None))
        keep(found)
        write_page(found, PAGE, PICTURE)
        missing = [run.ablation.experiment(run.seed) for run in found if run.metrics is None and not run.failure]
        print(f"wrote {PAGE}: {len(found) - len(missing)} of {len(found)} experiments")
    except AblationError as error:
        raise SystemExit(f"ablations: {error}") from None


if __name__ == "__main__":
    with one_sentence("ablations", sys.argv[1:]):
        main()
