"""Is every registered model still what its record says, and does one of them come out again?"""

import random
import sys
from datetime import UTC, datetime
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows import page
from flows.stages import StageFailed, live
from flows.turns import GPU, in_turn
from onestep.core.redaction import SafeError
from onestep.nightly import workspace
from onestep.provenance.signing import OWN_KEY
from onestep.registry.champion import registered

GOOD = {  # exit codes of `onestep lineage` that are no failure
    "verify": {0: "passed", 4: "whole, but UNSIGNED", 5: "whole, but signed by nobody known here"},
    "reproduce": {0: "identical", 7: "within tolerance"},
}
FAILED = "failed"


class AuditFailed(SafeError):
    """A model is not what its record says, or did not come out again; the message names each."""


@flow(name="audit")
def audit(
    project: str = ".",
    revision: str = "main",
    upstream: str | None = None,
    notify: str | None = None,
    reproduce: bool = True,
) -> str:
    """Verify all registered versions; reproduce one, another each week. Raises `AuditFailed`; people are told."""
    run = workspace.open_run(Path(project).resolve(), f"audit-{workspace.new_id()}", revision, upstream)
    try:
        versions = [version.tag for version in registered(run.root)]
        trust = Path(project).resolve() / f"{OWN_KEY}.pub"
        rows = [{"model": version, "check": "verify", **verify(run.root, version, trust)} for version in versions]
        if reproduce and versions:
            chosen = this_weeks(versions)
            rows.append({"model": chosen, "check": "reproduce", **come_out_again(run.root, chosen)})
    finally:
        workspace.close(run)
    create_table_artifact(key="audit", table=rows, description=f"{len(versions)} registered models")
    wrong = [f"{row['model']} ({row['check']}: {row['says']})" for row in rows if row["outcome"] == FAILED]
    doubts = sorted({row["outcome"] for row in rows} - {FAILED, "passed", "identical"})
    says = "; ".join([f"{len(rows) - len(wrong)} of {len(rows)} checks passed", *doubts])
    page.tell(notify, f"onestep audit: {'passed' if not wrong else FAILED}", "; ".join([says, *wrong]))
    if wrong:
        raise AuditFailed("; ".join(wrong))
    return says


@task(task_run_name="verify {version}", cache_policy=NO_CACHE)
def verify(root: Path, version: str, trust: Path) -> dict[str, str]:
    """Signatures, chain, hashes and verdict of one model."""
    keys = ["--trust", str(trust)] if trust.is_file() else []
    return _asked(root, "verify", version, "--no-copy", *keys)


@task(task_run_name="reproduce {version}", cache_policy=NO_CACHE)
def come_out_again(root: Path, version: str) -> dict[str, str]:
    """Train one model again and compare, on the GPU in its turn."""
    with in_turn(GPU):
        return _asked(root, "reproduce", version)


def this_weeks(versions: list[str], now: datetime | None = None) -> str:
    """One of the versions at random, the same for everybody who asks in the same week."""
    year, week, _ = (now or datetime.now(UTC)).isocalendar()
    return random.Random(f"{year}-{week}").choice(sorted(versions))


def _asked(root: Path, question: str, version: str, *options: str) -> dict[str, str]:
    """What `onestep lineage` answers, line by line in the log."""
    last, code = "", 0
    try:
        for line in live([sys.executable, "-m", "onestep.cli", "lineage", question, version, *options], root):
            get_run_logger().info(line)
            last = line
    except StageFailed as failure:
        code = failure.code or 1
    return {"outcome": GOOD[question].get(code, FAILED), "says": last}


if __name__ == "__main__":
    audit()
