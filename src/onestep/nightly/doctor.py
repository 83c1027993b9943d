"""`onestep doctor`: whether this machine is ready for a night, check by check, each with its remedy."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace

from onestep.core.redaction import without_secrets
from onestep.nightly.checks import machine, repository
from onestep.nightly.checks.result import CheckResult
from onestep.nightly.checks.server import server
from onestep.vcs.project import Project

DEFAULT_SERVER = "http://127.0.0.1:4200/api"


def run_checks(project: Project, address: str | None = None) -> list[CheckResult]:
    """The results of all checks of a project and the machine under it; a check that raises is an error of its own.

    address: the API of the Prefect server; null = `PREFECT_API_URL`, or else the one of this machine.
    """
    address = address or os.environ.get("PREFECT_API_URL") or DEFAULT_SERVER
    checks: dict[str, Callable[[], Iterator[CheckResult]]] = {
        "python": lambda: machine.python(project),
        "code": lambda: machine.code(project),
        "home": machine.home,
        "git": lambda: repository.git(project),
        "rwlock": lambda: repository.rwlock(project),
        "remote": lambda: repository.remote(project),
        "disk": lambda: machine.disk(project),
        "links": lambda: machine.links(project),
        "gpu": machine.gpu,
        "keys": lambda: repository.keys(project),
        "server": lambda: server(address, project),
    }
    results: list[CheckResult] = []
    for name, check in checks.items():
        try:
            results += [replace(result, found=without_secrets(result.found)) for result in check()]
        except Exception as error:
            found = f"could not be checked: {without_secrets(str(error))}"
            results.append(CheckResult(name, "error", found, "repair this first, then run onestep doctor again"))
    return results


def table(results: list[CheckResult]) -> str:
    """The results as text, each remedy below its result."""
    lines = []
    for result in results:
        lines.append(f"{result.status:<9}{result.name:<12} {result.found}")
        if result.remedy and result.status != "ok":
            lines.append(f"{'':<21} -> {result.remedy}")
    errors = sum(result.status == "error" for result in results)
    lines.append("ready for a night" if not errors else f"{errors} errors: a night would fail")
    return "\n".join(lines)
