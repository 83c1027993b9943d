"""Verify every registered model against its record, and reproduce one of them."""

import random
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows import artifacts
from flows.concurrency import concurrency_slot
from flows.stages import StageFailed, live
from onestep.core.paths import MODEL, SIGNING_KEY
from onestep.core.redaction import SafeError
from onestep.nightly.prefect_server import GPU
from onestep.nightly.workspace import new_id, open_workspace
from onestep.vcs.project import Project
from onestep.vcs.versions import versions as registered

GOOD = {  # exit codes of `onestep lineage` that are no failure
    "verify": {0: "passed", 4: "whole, but UNSIGNED", 5: "whole, but signed by an unknown key"},
    "reproduce": {0: "identical", 7: "within tolerance"},
}
FAILED = "failed"


class AuditFailed(SafeError):
    """A model is not what its record says, or could not be reproduced; the message names each."""


@flow(name="audit")
def audit(
    project: str = ".",
    revision: str = "main",
    upstream: str | None = None,
    notify: str | None = None,
    reproduce: bool = True,
) -> str:
    """Verify all registered versions; reproduce one, another each week. Raises `AuditFailed`, after a notification."""
    home = Project(Path(project).resolve())
    with closing(open_workspace(home, f"audit-{new_id()}", revision, upstream)) as workspace:
        versions = [version.tag for version in registered(workspace.clone.git, MODEL)]
        trust = home.root / f"{SIGNING_KEY}.pub"
        rows = [
            {"model": version, "check": "verify", **verify(workspace.clone, version, trust)} for version in versions
        ]
        if reproduce and versions:
            chosen = version_of_the_week(versions)
            rows.append({"model": chosen, "check": "reproduce", **reproduce_version(workspace.clone, chosen)})
    create_table_artifact(key="audit", table=rows, description=f"{len(versions)} registered models")
    wrong = [f"{row['model']} ({row['check']}: {row['detail']})" for row in rows if row["outcome"] == FAILED]
    doubts = sorted({row["outcome"] for row in rows} - {FAILED, "passed", "identical"})
    sentence = "; ".join([f"{len(rows) - len(wrong)} of {len(rows)} checks passed", *doubts])
    artifacts.send_notification(
        notify, f"onestep audit: {'passed' if not wrong else FAILED}", "; ".join([sentence, *wrong])
    )
    if wrong:
        raise AuditFailed("; ".join(wrong))
    return sentence


@task(task_run_name="verify {version}", cache_policy=NO_CACHE)
def verify(clone: Project, version: str, trust: Path) -> dict[str, str]:
    """Signatures, chain, hashes and verdict of one model."""
    keys = ["--trust", str(trust)] if trust.is_file() else []
    return _asked(clone, "verify", version, "--no-copy", *keys)


@task(task_run_name="reproduce {version}", cache_policy=NO_CACHE)
def reproduce_version(clone: Project, version: str) -> dict[str, str]:
    """Train one model again and compare, in a slot of the GPU."""
    with concurrency_slot(GPU):
        return _asked(clone, "reproduce", version)


def version_of_the_week(versions: list[str], now: datetime | None = None) -> str:
    """One of the versions at random, the same one for the whole week."""
    year, week, _ = (now or datetime.now(UTC)).isocalendar()
    return random.Random(f"{year}-{week}").choice(sorted(versions))


def _asked(clone: Project, question: str, version: str, *options: str) -> dict[str, str]:
    """What `onestep lineage` answers, line by line in the log."""
    last, code = "", 0
    try:
        for line in live([sys.executable, "-m", "onestep.cli", "lineage", question, version, *options], clone.root):
            get_run_logger().info(line)
            last = line
    except StageFailed as failure:
        code = failure.code or 1
    return {"outcome": GOOD[question].get(code, FAILED), "detail": last}


if __name__ == "__main__":
    audit()
