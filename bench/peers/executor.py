"""``concurrent.futures.ProcessPoolExecutor``: ``python -m bench.peers.executor WHAT COUNT PROCESSES ...``.

What the standard library has for the same job on one machine: no durability, no network, no retries.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from time import perf_counter, perf_counter_ns
from typing import Any

from bench import tasks as functions
from bench.cpu import Meter
from bench.distribution import histogram
from bench.ending import end_with_parent, end_with_starter
from bench.figures import percentiles_us
from bench.peers.echoing import echo_all
from bench.tasks import nothing
from bench.workloads import mixed as mixed_seconds

CHUNKSIZE = 64
WARM_UP = 100


def tasks(pool: ProcessPoolExecutor, count: int) -> dict[str, float]:
    """Submit one by one, and take every result."""
    meter = Meter()
    began = perf_counter()
    futures = [pool.submit(nothing) for _ in range(count)]
    for future in futures:
        future.result()
    return {"per_s": count / (perf_counter() - began), "cpu_us": meter.us_per_task(count)}


def mapped(pool: ProcessPoolExecutor, count: int) -> dict[str, float]:
    """``map`` with ``CHUNKSIZE``."""
    meter = Meter()
    began = perf_counter()
    returned = sum(1 for _ in pool.map(nothing, range(count), chunksize=CHUNKSIZE))
    found = {"per_s": count / (perf_counter() - began), "cpu_us": meter.us_per_task(count)}
    assert returned == count, f"{returned} results of {count}"
    return found


def latency(pool: ProcessPoolExecutor, count: int) -> dict[str, Any]:
    """One round trip after the other."""
    found = []
    for number in range(count + count // 10):
        began = perf_counter_ns()
        pool.submit(nothing).result()
        if number >= count // 10:
            found.append((perf_counter_ns() - began) / 1e3)
    return percentiles_us(found) | {"histogram": histogram(found)}


def echo(pool: ProcessPoolExecutor, bulk_bytes: int, kind: str, sizes: str) -> dict[str, float]:
    """Send payloads there and back; see ``bench.peers.echoing``."""
    return echo_all(lambda payload: pool.submit(functions.echo, payload).result, kind, sizes.split(","), bulk_bytes)


def mixed(pool: ProcessPoolExecutor, count: int) -> dict[str, float]:
    """A few long tasks among many short ones; seconds until all are done."""
    began = perf_counter()
    futures = [pool.submit(functions.work, seconds) for seconds in mixed_seconds(count)]
    for future in futures:
        future.result()
    return {"makespan_s": perf_counter() - began}


MEASUREMENTS: dict[str, Callable[..., dict[str, Any]]] = {
    measurement.__name__: measurement for measurement in (tasks, mapped, latency, echo, mixed)
}


def main(what: str, count: str, processes: str, *rest: str) -> None:
    """Measure, and print what was found as JSON."""
    end_with_starter()
    with ProcessPoolExecutor(int(processes), initializer=end_with_parent, initargs=(os.getpid(),)) as pool:
        tasks(pool, WARM_UP)  # the processes are up
        found = MEASUREMENTS[what](pool, int(count), *rest)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
