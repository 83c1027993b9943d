"""What a run shows in the Prefect page, and whom it tells: artifacts and Prefect's own notification blocks.

Neither may stop a night: where the server is away, the log says so and the run goes on.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from prefect import get_run_logger
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from onestep.core.redaction import without_home, without_secrets
from onestep.gate.verdict import as_markdown
from onestep.nightly.retrain_policy import Decision
from onestep.nightly.summary import REPORT, Morning, metric_rows


def show_decision(decision: Decision) -> None:
    """The decision table."""
    _show(create_table_artifact, key="decision", table=decision.as_table(), description=decision.says)


def show_stages(rows: list[dict[str, Any]]) -> None:
    """The stage table: what ran, what was cached, how long it took."""
    _show(create_table_artifact, key="stages", table=rows, description="Stages in the graph's order")


def show_verdict(root: Path, verdict: dict[str, Any]) -> None:
    """The verdict, the metrics with their intervals, and where the report lies."""
    _show(create_markdown_artifact, key="verdict", markdown=as_markdown(verdict), description=verdict["reason"])
    if rows := metric_rows(root):
        _show(create_table_artifact, key="metrics", table=rows, description="value [low, high] of every model")
    if (root / REPORT).is_file():
        link = (root / REPORT).resolve().as_uri()
        _show(create_link_artifact, key="report", link=link, link_text="Report with the videos side by side")


def show_samples(sheet: str | None) -> None:
    """A few frames of the same prompts from every model."""
    if sheet:
        _show(create_markdown_artifact, key="samples", markdown=f"![samples]({sheet})", description="The same prompts")


def show_morning(morning: Morning, page: Path) -> None:
    """One sentence, and where the page for the morning lies."""
    notes = "".join(f"\n* {note}" for note in morning.notes)
    text = f"# {morning.headline}\n{notes}\n\nPage: `{page}`\n"
    _show(create_markdown_artifact, key="morning", markdown=text, description=morning.headline)


def tell(block: str | None, subject: str, body: str) -> None:
    """Send a message by a notification block, named `type/name` (`slack-webhook/night`); null tells nobody."""
    if block is None:
        return
    from prefect.blocks.core import Block

    with not_fatal(f"telling {block}"):
        cast(Any, Block.load(block)).notify(without_home(without_secrets(body)), subject)


def _show(create: Callable[..., Any], **content: Any) -> None:
    with not_fatal(f"the artifact {content['key']}"):
        create(**content)


@contextmanager
def not_fatal(what: str) -> Iterator[None]:
    """Whatever fails in the block is a line in the log."""
    try:
        yield
    except Exception as error:
        get_run_logger().warning(f"{what} did not get through: {error}")
