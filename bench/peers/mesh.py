"""The client of the mesh under test: ``python -m bench.peers.mesh WHAT COUNT``, the mesh is in the environment."""

from __future__ import annotations

import json
import sys
from time import perf_counter, perf_counter_ns

from bench.cpu import Meter
from bench.figures import percentile
from bench.tasks import app, noop

PATIENCE_S = 120.0


def probe(count: int) -> dict[str, float]:
    """Have one task run."""
    noop.delay().get(timeout=PATIENCE_S)
    return {}


def tasks(count: int) -> dict[str, float]:
    """Submit one by one, and take every result."""
    probe(1)
    meter = Meter()
    began = perf_counter()
    results = [noop.delay() for _ in range(count)]
    for result in results:
        result.get(timeout=PATIENCE_S)
    return {"per_s": count / (perf_counter() - began), "cpu_us": meter.us_per_task(count)}


def mapped(count: int) -> dict[str, float]:
    """``app.map``, with the chunks it makes by itself."""
    probe(1)
    meter = Meter()
    began = perf_counter()
    returned = sum(1 for _ in app.map(noop, range(count), timeout=PATIENCE_S))
    found = {"per_s": count / (perf_counter() - began), "cpu_us": meter.us_per_task(count)}
    assert returned == count, f"{returned} results of {count}"
    return found


def latency(count: int) -> dict[str, float]:
    """One round trip after the other."""
    for _ in range(count // 10):
        probe(1)
    found = []
    for _ in range(count):
        began = perf_counter_ns()
        noop.delay().get(timeout=PATIENCE_S)
        found.append((perf_counter_ns() - began) / 1e3)
    return {f"p{percent}_us": percentile(found, percent) for percent in (50, 95, 99)}


MEASUREMENTS = {measurement.__name__: measurement for measurement in (probe, tasks, mapped, latency)}

if __name__ == "__main__":
    with app:
        found = MEASUREMENTS[sys.argv[1]](int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    print(json.dumps(found))
