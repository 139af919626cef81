"""The client of the mesh under test: ``python -m bench.peers.mesh WHAT COUNT ...``, the mesh is in the environment."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from time import perf_counter, perf_counter_ns
from typing import Any

from bench.cpu import Meter
from bench.distribution import histogram
from bench.ending import end_with_starter
from bench.figures import percentiles_us
from bench.peers.echoing import echo_all
from bench.profiling.parts import count_if_asked
from bench.profiling.split import look_at_myself
from bench.tasks import SHIP, app, echoing, let_go, noop, submitter, working
from bench.workloads import mixed as mixed_seconds
from mesh import AsyncResult
from mesh.errors import TimeoutError, Unavailable

PATIENCE_S = 120.0
READY_S = 30.0
LOOK_S = 3.0  # a result that is not there by then may have no worker to come from


def taken(result: AsyncResult[Any]) -> Any:
    """Its value. Raises ``Unavailable`` where two looks in a row find no worker: a supervisor is quicker."""
    try:
        return result.get(timeout=LOOK_S)
    except TimeoutError:
        return _taken_late(result, time.monotonic() + PATIENCE_S - LOOK_S)


def _taken_late(result: AsyncResult[Any], deadline: float) -> Any:
    """Apart from ``taken``, which is measured."""
    workers = True
    while True:
        before, workers = workers, bool(app.status()["workers"])
        if not before and not workers:
            raise Unavailable("no worker is left in this mesh: start one with `mesh worker`") from None
        left = deadline - time.monotonic()
        try:
            return result.get(timeout=max(0.0, min(LOOK_S, left)))
        except TimeoutError:
            if left <= 0:
                raise


def ready(workers: int) -> dict[str, float]:
    """Wait until so many worker nodes are there, then have one task run, unless there are none."""
    deadline = time.monotonic() + READY_S
    while len(rows := app.status()["workers"]) < workers:
        if time.monotonic() > deadline:
            raise Unavailable(f"{len(rows)} of {workers} worker nodes have come in {READY_S:g} s")
        time.sleep(0.005)
    return probe(1) if workers else {}


def probe(count: int) -> dict[str, float]:
    """Have one task run."""
    result = submitter(noop)()
    taken(result)
    let_go([result])
    return {}


def tasks(count: int) -> dict[str, float]:
    """Submit one by one, and take every result."""
    probe(1)
    submit = submitter(noop)
    meter = Meter()
    began = perf_counter()
    results = [submit() for _ in range(count)]
    for result in results:
        taken(result)
    found = {"per_s": count / (perf_counter() - began), "cpu_us": meter.us_per_task(count)}
    let_go(results)
    return found


def profiled(count: int) -> dict[str, float]:
    """``tasks``, and what the parts of this process have used meanwhile; see ``bench.profiling``."""
    probe(1)
    before = look_at_myself()
    found = tasks(count)
    after = look_at_myself()
    return found | {name: after[name] - before[name] for name in after}


def mapped(count: int) -> dict[str, float]:
    """``app.map``, with the chunks it makes by itself."""
    probe(1)
    function: Callable[..., Any] = noop.run if os.environ.get(SHIP) else noop
    meter = Meter()
    began = perf_counter()
    returned = sum(1 for _ in app.map(function, range(count), timeout=PATIENCE_S))
    found = {"per_s": count / (perf_counter() - began), "cpu_us": meter.us_per_task(count)}
    assert returned == count, f"{returned} results of {count}"
    return found


def latency(count: int) -> dict[str, Any]:
    """One round trip after the other."""
    submit = submitter(noop)
    found, results = [], []
    for number in range(count + count // 10):
        began = perf_counter_ns()
        result = submit()
        taken(result)
        if number >= count // 10:
            found.append((perf_counter_ns() - began) / 1e3)
        results.append(result)
    let_go(results)
    return percentiles_us(found) | {"histogram": histogram(found)}


def echo(bulk_bytes: int, kind: str, sizes: str, router_pid: str) -> dict[str, float]:
    """Send payloads there and back; see ``bench.peers.echoing``. ``router_pid``: 0 where it is not here.

    A result is forgotten once it is here, as the futures of other entrants are when they are let go: what is kept
    is written back by the disk meanwhile, and that would be measured.
    """
    submit = submitter(echoing)

    def send(payload: Any) -> Callable[[], Any]:
        result = submit(payload)

        def wait() -> Any:
            returned = taken(result)
            result.forget()
            return returned

        return wait

    return echo_all(send, kind, sizes.split(","), bulk_bytes, int(router_pid))


def mixed(count: int) -> dict[str, float]:
    """A few long tasks among many short ones; seconds until all are done."""
    probe(1)
    submit = submitter(working)
    began = perf_counter()
    results = [submit(seconds) for seconds in mixed_seconds(count)]
    for result in results:
        taken(result)
    found = {"makespan_s": perf_counter() - began}
    let_go(results)
    return found


def settled(count: int) -> dict[str, float]:
    """How many attempts each worker has settled, by its name."""
    return {row["name"]: row["settled"] for row in app.status()["workers"]}


def slots(count: int) -> dict[str, float]:
    """How many tasks each worker runs at a time, by its name."""
    return {row["name"]: row["slots"] for row in app.status()["workers"]}


MEASUREMENTS: dict[str, Callable[..., dict[str, Any]]] = {
    measurement.__name__: measurement
    for measurement in (ready, probe, tasks, profiled, mapped, latency, echo, mixed, settled, slots)
}


def main(arguments: list[str]) -> None:
    """Measure, and print what was found as JSON."""
    end_with_starter()
    count_if_asked()
    what, count, *rest = [*arguments, "1"] if len(arguments) == 1 else arguments
    with app:
        found = MEASUREMENTS[what](int(count), *rest)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
