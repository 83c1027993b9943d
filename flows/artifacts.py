"""A run's artifacts in the Prefect page, and notifications by Prefect's own blocks.

Neither may fail a run: where the server cannot be reached, the log says so and the run goes on.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from prefect import get_run_logger
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from onestep.core.paths import REPORT_PAGE
from onestep.core.redaction import without_home, without_secrets
from onestep.gate.verdict import as_markdown
from onestep.nightly.retrain_policy import Decision
from onestep.nightly.summary import RunSummary, metric_rows
from onestep.vcs.project import Project


def show_decision(decision: Decision) -> None:
    """The decision table."""
    _show(create_table_artifact, key="decision", table=decision.as_table(), description=decision.sentence)


def show_stages(rows: list[dict[str, Any]]) -> None:
    """The stage table: what ran, what was cached, how long it took."""
    _show(create_table_artifact, key="stages", table=rows, description="Stages in the graph's order")


def show_verdict(project: Project, verdict: dict[str, Any]) -> None:
    """The verdict, the metrics with their intervals, and where the report lies."""
    _show(create_markdown_artifact, key="verdict", markdown=as_markdown(verdict), description=verdict["reason"])
    if rows := metric_rows(project):
        _show(create_table_artifact, key="metrics", table=rows, description="value [low, high] of every model")
    if (project.root / REPORT_PAGE).is_file():
        link = (project.root / REPORT_PAGE).resolve().as_uri()
        _show(create_link_artifact, key="report", link=link, link_text="Report with the videos side by side")


def show_samples(sheet: str | None) -> None:
    """The first frame of the sample sheet, as a data URI; null shows nothing."""
    if sheet:
        _show(create_markdown_artifact, key="samples", markdown=f"![samples]({sheet})", description="The same prompts")


def show_summary(summary: RunSummary, page: Path) -> None:
    """The outcome, the notes, and where the summary page lies."""
    notes = "".join(f"\n* {note}" for note in summary.notes)
    text = f"# {summary.headline}\n{notes}\n\nPage: `{page}`\n"
    _show(create_markdown_artifact, key="summary", markdown=text, description=summary.headline)


def send_notification(block: str | None, subject: str, body: str) -> None:
    """Send a message by a notification block, named `type/name` (`slack-webhook/night`); null sends none."""
    if block is None:
        return
    from prefect.blocks.core import Block

    with not_fatal(f"the notification by {block}"):
        cast(Any, Block.load(block)).notify(without_home(without_secrets(body)), subject)


def _show(create: Callable[..., Any], **content: Any) -> None:
    with not_fatal(f"the artifact {content['key']}"):
        create(**content)


@contextmanager
def not_fatal(what: str) -> Iterator[None]:
    """An exception in the block becomes a warning in the log."""
    try:
        yield
    except Exception as error:
        get_run_logger().warning(f"{what} failed: {error}")
