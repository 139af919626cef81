"""``concurrent.futures.ProcessPoolExecutor``: ``python -m bench.peers.executor WHAT COUNT PROCESSES``.

What the standard library has for the same job on one machine: no durability, no network, no retries.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ProcessPoolExecutor
from time import perf_counter

from bench.cpu import Meter
from bench.tasks import nothing

CHUNKSIZE = 64


def tasks(pool: ProcessPoolExecutor, count: int) -> None:
    """Submit one by one, and take every result."""
    futures = [pool.submit(nothing) for _ in range(count)]
    for future in futures:
        future.result()


def mapped(pool: ProcessPoolExecutor, count: int) -> None:
    """``map`` with ``CHUNKSIZE``."""
    returned = sum(1 for _ in pool.map(nothing, range(count), chunksize=CHUNKSIZE))
    assert returned == count, f"{returned} results of {count}"


MEASUREMENTS = {measurement.__name__: measurement for measurement in (tasks, mapped)}

if __name__ == "__main__":
    with ProcessPoolExecutor(int(sys.argv[3])) as pool:
        tasks(pool, 100)  # the processes are up
        count = int(sys.argv[2])
        meter = Meter()
        began = perf_counter()
        MEASUREMENTS[sys.argv[1]](pool, count)
        found = {"per_s": count / (perf_counter() - began), "cpu_us": meter.us_per_task(count)}
    print(json.dumps(found))
