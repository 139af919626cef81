"""``python -m bench.profiling.node``: ``mesh``, with counters."""

from __future__ import annotations

import sys
from typing import Any

import nodes.router as router
import nodes.router_start as router_start
from bench.profiling.counters import Counters
from bench.profiling.parts import count, count_if_asked
from mesh.net.router_transport import RouterTransport
from mesh.store.base import Store
from mesh.store.open import open_store
from nodes.cli.main import main

JOURNAL = ("commit", "put_blob", "adopt_blob", "discard_blob", "prune", "outcomes")


def count_in_routers(counters: Counters) -> None:
    """Wire: as in the other processes. Journal: the store."""
    count(counters, "wire", RouterTransport, "receive", "send")
    count(counters, "wire", router, "decode_from_node", "encode", "encode_body")

    def open_counted(*args: Any, **kwargs: Any) -> Store:
        store = open_store(*args, **kwargs)
        count(counters, "journal", store, *JOURNAL)
        return store

    setattr(router_start, "open_store", open_counted)  # noqa: B010  to mypy it is no name of that module


if __name__ == "__main__":
    if counters := count_if_asked():
        count_in_routers(counters)
    sys.exit(main())
