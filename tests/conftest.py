"""Projects that several folders of tests work on, and which tests stay together when they run in two processes."""

from typing import Any

import pytest

from tests.audited import audited, audited_template, key, keys  # noqa: F401
from tests.toy_project import (  # noqa: F401
    finished_project,
    project,
    remote,
    retrain,
    tools_of_this_environment,
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """What a process is given whole, for its costly set-up: a folder of tests, or a file beside this one."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFolder(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            folder = file.rpartition("/")[0]
            return file if folder == "tests" else folder

    return ByFolder(config, log)
