"""What a check reports, and how a check asks a command."""

import subprocess
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class CheckResult:
    """One thing that was checked: `ok`, `warning` (a night works, but know it) or `error` (a night would fail), what was
    found, and the remedy.
    """

    name: str
    status: Status
    found: str
    remedy: str = ""


def output_of(*command: str) -> str:
    """The standard output of a command; empty where it fails or does not exist."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
