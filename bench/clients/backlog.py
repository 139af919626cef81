"""Fills a router that has no worker, then empties it: ``python -m bench.clients.backlog TASKS ROUTER_PID``.

It says how the filling went, and waits for a word that there is a worker before it waits for results.
"""

from __future__ import annotations

import sys
from time import perf_counter

from bench.clients.talk import answer, word
from bench.ending import end_with_starter
from bench.rss import resident_bytes
from bench.tasks import app, noop

PATIENCE_S = 300.0


def main(count: int, router_pid: int) -> None:
    """Submit, wait until all is accepted, then take every result."""
    end_with_starter()
    with app:
        app.status()  # connected
        before = resident_bytes(router_pid)
        began = perf_counter()
        results = [noop.delay() for _ in range(count)]
        app.flush(timeout=PATIENCE_S)
        accepted_s = perf_counter() - began
        answer({"accept_per_s": count / accepted_s, "bytes": (resident_bytes(router_pid) - before) / count})
        word()
        results[0].get(timeout=PATIENCE_S)
        began = perf_counter()  # what the worker took to start is not the router's
        for result in results:
            result.get(timeout=PATIENCE_S)
        answer({"drain_per_s": count / (perf_counter() - began)})


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
