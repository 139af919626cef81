"""The order of the suite, what of it runs alone, and how Hypothesis says what it found."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("house", print_blob=True, deadline=None)
settings.load_profile("house")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first, then those that start processes, then those that kill them: a mistake shows early.

    Where several run at once, those that kill do so one after another, after the rest: they watch the clock.
    """
    items.sort(key=_slowness)
    for item in items:
        if _slowness(item) == 3:
            item.add_marker(pytest.mark.xdist_group("chaos"))


def _slowness(item: pytest.Item) -> int:
    if item.get_closest_marker("deep"):
        return 1
    if item.get_closest_marker("chaos") or item.get_closest_marker("lan"):
        return 3
    return 2 if item.get_closest_marker("processes") else 0
