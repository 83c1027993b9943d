"""Logs of flows hold no credentials, whatever a library quotes."""

import logging

import pytest

import flows  # noqa: F401  (importing it is what makes logs safe)
from flows import artifacts
from onestep.nightly.summary import RunSummary

SECRET = "https://person:pw1x@host.example/x?X-Amz-Signature=abc123"


@pytest.mark.filterwarnings("ignore:Logger 'prefect.flow_runs' attempted")
def test_a_traceback_in_a_flows_log_has_no_secrets(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("prefect.flow_runs")
    logger.propagate, before = True, logger.propagate
    try:
        try:
            raise OSError(f"cannot read {SECRET}")
        except OSError:
            logger.exception("it failed at %s", SECRET)
        logger.warning("100 % done")
    finally:
        logger.propagate = before
    said = "".join(logging.Formatter().format(record) for record in caplog.records)
    assert "https://host.example/x" in said
    assert "Traceback" in said
    assert "pw1x" not in said
    assert "abc123" not in said
    assert "100 % done" in said


def test_a_page_for_others_has_neither_secrets_nor_homes() -> None:
    summary = RunSummary("a-run", "nightly", "today")
    assert summary.ended("failed", f"{SECRET} in /home/alice/onestep") == "https://host.example/x in ~/onestep"


def test_nobody_is_told_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.blocks.core import Block

    told = []

    class Told:
        def notify(self, body: str, subject: str) -> None:
            told.append((body, subject))

    monkeypatch.setattr(Block, "load", lambda name: Told())
    artifacts.send_notification("slack-webhook/night", "onestep nightly: failed", f"no clone of {SECRET}")
    assert told == [("no clone of https://host.example/x", "onestep nightly: failed")]
