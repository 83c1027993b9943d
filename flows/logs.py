"""Logs of flows without credentials: Prefect logs whole tracebacks, in which libraries quote addresses and keys."""

import logging
import traceback
from typing import Any

from onestep.core.redaction import without_secrets


def keep_secrets_out() -> None:
    """From now on, records of Prefect's loggers in this process are redacted as they are made."""
    make = logging.getLogRecordFactory()
    if getattr(make, "redacts", False):
        return

    def redacted(*arguments: Any, **named: Any) -> logging.LogRecord:
        record = make(*arguments, **named)
        if record.name.startswith("prefect"):
            _redact(record)
        return record

    redacted.redacts = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(redacted)


def _redact(record: logging.LogRecord) -> None:
    try:
        record.msg, record.args = without_secrets(record.getMessage()), ()
    except (TypeError, ValueError):
        return  # a message that does not fit its arguments: logging itself says so
    if record.exc_info and record.exc_info[0] is not None:
        said = "".join(traceback.format_exception(*record.exc_info)).rstrip()
        record.exc_text, record.exc_info = without_secrets(said), None
