"""What scheduling costs: the flow against plain `dvc repro`, on a graph whose stages do next to nothing.

    python benchmarks/flow_overhead.py --stages 8 --repeats 3

Starts a Prefect server of its own on loopback and makes projects in a temporary folder. Per repeat, in turn and on the
same machine: plain `dvc repro` that runs every stage, and the flow that runs them (clone, decision, record, promotion
included); then plain `dvc repro` with nothing to do, and a nightly in which nothing changed. Writes
`results/flow_overhead.json`; the last line is `ratio N`: seconds that the flow adds per stage, over the target of 3.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from onestep.core.failures import one_sentence

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
TARGET_S = 3.0


def graph_with(stages: int) -> str:
    """The test's small graph with more stages of nothing between its trainer and its gate."""
    from tests.night_project import GRAPH

    from onestep.core.yaml_files import dump_yaml, parse_yaml

    graph = parse_yaml(GRAPH, "GRAPH")
    for number in range(stages):
        graph["stages"][f"extra-{number}"] = {
            "cmd": f"cp models/onestep/weights extra-{number}.txt",
            "deps": ["models/onestep/weights"],
            "outs": [f"extra-{number}.txt"],
        }
    return dump_yaml(graph)


def timed(*command: str, cwd: Path) -> float:
    """Wall seconds of a command that must end well."""
    started = time.monotonic()
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.monotonic() - started


def flow(project: Path) -> tuple[float, str]:
    """Wall seconds of one nightly in this process, and what came of it."""
    from flows.nightly import nightly

    started = time.monotonic()
    said = nightly(str(project))
    return time.monotonic() - started, said


def measure(folder: Path, stages: int) -> dict[str, float]:
    """One repeat: a whole run and one without work, each plainly and as a flow."""
    from tests.night_project import make_night_project
    from tests.toy_project import run

    folder.mkdir()
    project = make_night_project(folder)
    (project / "dvc.yaml").write_text(graph_with(stages))
    run(project, "git", "commit", "--quiet", "--all", "--message", "More stages")
    plain = folder / "plain"
    shutil.copytree(project, plain, symlinks=True)
    repro = (sys.executable, "-m", "dvc", "repro")
    seconds = {"plain_run": timed(*repro, cwd=plain)}
    seconds["flow_run"], said = flow(project)
    if "is in production" not in said:
        raise SystemExit(f"the flow was to promote, but: {said}")
    seconds["plain_nothing"] = timed(*repro, cwd=plain)
    seconds["flow_nothing"], said = flow(project)
    if "Nothing to do" not in said:
        raise SystemExit(f"the second night was to do nothing, but: {said}")
    return seconds


def main() -> None:
    """Measure, print a table, write JSON."""
    from flows import server
    from onestep.core.storage import write_json

    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--stages", type=int, default=8, help="beside the seven of the small graph")
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--port", type=int, default=4298)
    options.add_argument("--out", type=Path, default=ROOT / "results" / "flow_overhead.json")
    chosen = options.parse_args()
    os.environ.update(server.environment("127.0.0.1", chosen.port))
    with tempfile.TemporaryDirectory(prefix="onestep-overhead-") as name:
        home = Path(name)
        os.environ["PREFECT_HOME"] = str(home / "prefect")
        os.environ["PYTHONPATH"] = os.pathsep.join((str(ROOT / "src"), os.environ.get("PYTHONPATH", "")))
        words = ["server", "start", "--host", "127.0.0.1", "--port", str(chosen.port), "--no-ui"]
        with server.running(words, dict(os.environ), home / "server.log") as process:
            server.wait_until_healthy(os.environ["PREFECT_API_URL"], process, home / "server.log")
            found = [measure(home / str(number), chosen.stages) for number in range(chosen.repeats)]
    median = {key: statistics.median(each[key] for each in found) for key in found[0]}
    stages = 7 + chosen.stages
    per_stage = (median["flow_run"] - median["plain_run"]) / stages
    for key, value in median.items():
        print(f"{key:<16}{value:8.2f} s")
    print(f"per stage       {per_stage:8.2f} s over plain dvc repro, {stages} stages")
    print(f"nothing changed {median['flow_nothing'] / median['plain_nothing']:8.2f} times a plain dvc repro")
    write_json(
        chosen.out,
        {
            "stages": stages,
            "repeats": found,
            "median_s": median,
            "seconds_per_stage": per_stage,
            "load_1min": os.getloadavg()[0],
            "ratio_nothing": median["flow_nothing"] / median["plain_nothing"],
        },
    )
    print(f"ratio {per_stage / TARGET_S:.3f}")


if __name__ == "__main__":
    with one_sentence("flow_overhead", sys.argv[1:]):
        main()
