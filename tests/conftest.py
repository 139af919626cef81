"""The order of the suite, what of it runs alone, and how Hypothesis says what it found."""

from __future__ import annotations

import gc
import os

import pytest
from hypothesis import settings

EXAMPLES = int(os.environ.get("MESH_EXAMPLES", "100"))

settings.register_profile("house", print_blob=True, deadline=None, max_examples=EXAMPLES)
settings.register_profile("fast", settings.get_profile("house"), max_examples=max(1, EXAMPLES // 10))
settings.load_profile("house")

gc.disable()  # until all tests are collected: none of that is garbage, and to look through it takes a third of the time


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first, then those that start processes, then those that kill them: a mistake shows early.

    Where several run at once, those that kill do so one after another, after the rest: they watch the clock.
    """
    gc.freeze()
    gc.enable()
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
