"""``concurrent.futures.ProcessPoolExecutor``: ``python -m bench.peers.executor WHAT COUNT PROCESSES``.

What the standard library has for the same job on one machine: no durability, no network, no retries.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ProcessPoolExecutor
from time import perf_counter

from bench.tasks import nothing

CHUNKSIZE = 64


def tasks(pool: ProcessPoolExecutor, count: int) -> float:
    """Submit one by one, and take every result."""
    began = perf_counter()
    futures = [pool.submit(nothing) for _ in range(count)]
    for future in futures:
        future.result()
    return count / (perf_counter() - began)


def mapped(pool: ProcessPoolExecutor, count: int) -> float:
    """``map`` with ``CHUNKSIZE``."""
    began = perf_counter()
    returned = sum(1 for _ in pool.map(nothing, range(count), chunksize=CHUNKSIZE))
    assert returned == count, f"{returned} results of {count}"
    return count / (perf_counter() - began)


MEASUREMENTS = {measurement.__name__: measurement for measurement in (tasks, mapped)}

if __name__ == "__main__":
    with ProcessPoolExecutor(int(sys.argv[3])) as pool:
        tasks(pool, 100)  # the processes are up
        found = MEASUREMENTS[sys.argv[1]](pool, int(sys.argv[2]))
    print(json.dumps({"per_s": found}))
