"""Tests run in two processes (`make test`); those that share costly set-up stay in one."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One group per folder of tests, one per file beside this one: what a process is given whole."""
    for item in items:
        place = item.path if item.path.parent == item.config.rootpath / "tests" else item.path.parent
        item.add_marker(pytest.mark.xdist_group(str(place.relative_to(item.config.rootpath))))
