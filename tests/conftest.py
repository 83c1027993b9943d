"""Projects that several folders of tests work on, and which tests stay together when they run in two processes."""

import pytest

from tests.toy_project import (  # noqa: F401
    finished_project,
    project,
    remote,
    retrain,
    tools_of_this_environment,
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One group per folder of tests, one per file beside this one: what a process is given whole, for its costly set-up."""
    for item in items:
        place = item.path if item.path.parent == item.config.rootpath / "tests" else item.path.parent
        item.add_marker(pytest.mark.xdist_group(str(place.relative_to(item.config.rootpath))))
