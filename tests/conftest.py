"""The order of the suite, and how Hypothesis says what it found."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("house", print_blob=True, deadline=None)
settings.load_profile("house")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first, then those that start processes, then those that kill them: a mistake shows early."""
    items.sort(key=_slowness)


def _slowness(item: pytest.Item) -> int:
    if item.get_closest_marker("chaos"):
        return 2
    return 1 if item.get_closest_marker("processes") else 0
