"""How the bench and an entrant's process speak: ``python -m MODULE serve N`` or ``measure WHAT COUNT``, JSON on stdout.

``serve`` starts the workers, prints one line, keeps them until its standard input is closed, and stops them.
``measure`` is one client: it warms up, prints a line, waits for one, measures one thing, prints it, and lives until its
standard input is closed, so that its processes can be looked at.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import Any

from bench.distribution import histogram
from bench.figures import percentiles_us
from bench.peers.compared.adapter import Adapter, Client, worker_count
from bench.peers.compared.work import mixed_load

WARM_UP = 20
STOP_S = 10.0
ECHOED = bytes(range(256)) * 4096
"""1 MiB."""


def probe(client: Client, count: int) -> dict[str, Any]:
    """Have tasks run."""
    for _ in range(count):
        client.round_trip()
    return {}


def tasks(client: Client, count: int) -> dict[str, Any]:
    """Submit one by one, and take every result."""
    return _rate(client.one_by_one, count)


def bulk(client: Client, count: int) -> dict[str, Any]:
    """The entrant's own way for many; nothing where it has none."""
    return _rate(client.bulk, count) if client.bulk is not None else {}


def latency(client: Client, count: int) -> dict[str, Any]:
    """One round trip after the other."""
    found = []
    for _ in range(count):
        began = perf_counter_ns()
        client.round_trip()
        found.append((perf_counter_ns() - began) / 1e3)
    return {"per_s": 1e6 * count / sum(found), "histogram": histogram(found)} | percentiles_us(found)


def echo(client: Client, count: int) -> dict[str, Any]:
    """1 MiB of bytes there and back, one after the other."""
    began = perf_counter()
    for _ in range(count):
        assert client.echo(ECHOED) == ECHOED, "an echo is not what was sent"
    return {"per_s": count / (perf_counter() - began)}


def mixed(client: Client, count: int) -> dict[str, Any]:
    """Tasks of mixed run times: the time for all of them, against the time their work takes if nobody is ever idle."""
    durations = mixed_load()
    began = perf_counter()
    for _ in range(count):
        client.mixed(durations)
    took = (perf_counter() - began) / count
    return {"per_s": 1 / took, "to_ideal": took / max(sum(durations) / worker_count(), *durations)}


def _rate(run: Callable[[int], None], count: int) -> dict[str, Any]:
    began = perf_counter()
    run(count)
    return {"per_s": count / (perf_counter() - began)}


MEASUREMENTS = {measurement.__name__: measurement for measurement in (probe, tasks, bulk, latency, echo, mixed)}


def run(adapter: Adapter) -> None:
    """Do what the command line says."""
    _, verb, *arguments = sys.argv
    say = _own_output()
    if verb == "serve":
        _serve(adapter, int(arguments[0]), say)
        return
    what, count = arguments
    with adapter.client() as client:
        probe(client, WARM_UP if what != "probe" else 0)
        say({})
        if sys.stdin.readline():
            say(MEASUREMENTS[what](client, int(count)))
            sys.stdin.readline()


def _own_output() -> Callable[[Mapping[str, Any]], None]:
    """Says something to the bench; what others print goes to standard error."""
    out = os.dup(1)
    os.dup2(2, 1)

    def say(what: Mapping[str, Any]) -> None:
        os.write(out, json.dumps(what).encode() + b"\n")

    return say


def _serve(adapter: Adapter, count: int, say: Callable[[Mapping[str, Any]], None]) -> None:
    with adapter.workers(count) as workers:
        versions = {name: _version(name) for name in adapter.packages}
        say({"environ": workers.environ, "settings": adapter.settings, "versions": versions})
        while not select.select([sys.stdin], [], [], 0.1)[0]:
            for worker in workers.processes:
                if worker.poll() is not None:
                    sys.exit(f"a worker ended with {worker.returncode}")


@contextmanager
def running(*commands: Sequence[str], environ: dict[str, str] | None = None) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes of an entrant's commands, such as ``celery worker``; terminated, and after a while killed, by pid."""
    log = Path(os.environ.get("BENCH_DIRECTORY", ".")) / "workers.log"
    started: list[subprocess.Popen[bytes]] = []
    try:
        with log.open("ab") as out:
            for command in commands:
                started.append(
                    subprocess.Popen(
                        [str(Path(sys.executable).parent / command[0]), *command[1:]],
                        env=os.environ | (environ or {}),
                        stdin=subprocess.DEVNULL,
                        stdout=out,
                        stderr=out,
                    )
                )
        yield started
    finally:
        for worker in started:
            worker.terminate()
        deadline = time.monotonic() + STOP_S
        for worker in started:
            try:
                worker.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
