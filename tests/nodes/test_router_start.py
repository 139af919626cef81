"""What a router does with a store that fails in the middle of its start."""

from __future__ import annotations

from typing import Any

import pytest

import nodes.router_start
from mesh.errors import StoreDamaged, StoreError, StoreFull, StoreLost, StoreUnavailable
from mesh.settings import Settings
from mesh.store.base import Recovered
from mesh.store.memory import MemoryStore
from nodes.router import RouterConfig
from nodes.router_start import run_router
from tests.cluster import Cluster


class Failing(MemoryStore):
    """``recover`` raises this; ``closed`` counts all that were closed."""

    closed = 0

    def __init__(self, error: StoreError) -> None:
        super().__init__()
        self._error = error

    def recover(self) -> Recovered:
        raise self._error

    def close(self) -> None:
        type(self).closed += 1


def start(monkeypatch: pytest.MonkeyPatch, *errors: StoreError, **settings: Any) -> int:
    """Start on stores that fail by these, one after the other; how many were closed."""
    stores = iter(map(Failing, errors))
    monkeypatch.setattr(nodes.router_start, "open_store", lambda *args, **options: next(stores))
    monkeypatch.setattr(nodes.router_start, "STORE_AGAIN_S", 0.0)
    monkeypatch.setattr(Failing, "closed", 0)
    with pytest.raises(type(errors[-1])):
        run_router(RouterConfig(settings=Settings(mesh="t", **settings)))
    return Failing.closed


@pytest.mark.parametrize("passing", [StoreUnavailable("slow for three seconds"), StoreLost("adopted meanwhile")])
def test_a_store_that_fails_for_a_while_in_a_start_is_opened_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, passing: StoreError
) -> None:
    assert start(monkeypatch, passing, passing, StoreDamaged("looked at again")) == 3


def test_a_store_is_waited_for_no_longer_than_the_setting(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    away = StoreUnavailable("away")
    clock = iter([0.0, 59.0, 60.0])
    monkeypatch.setattr(nodes.router_start, "monotonic", lambda: next(clock))
    assert start(monkeypatch, away, away, store_wait_s=60.0) == 2


def test_a_full_store_ends_a_start_at_once(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    assert start(monkeypatch, StoreFull("no room")) == 1
