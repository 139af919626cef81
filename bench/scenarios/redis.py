"""A store on Redis: how many tasks a second, beside the SQLite file, and what a second router on it brings."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

from bench.asked import Asked, verdicts
from bench.machine import describe
from bench.meshes import RunningMesh, mesh_environment, running_mesh
from bench.processes import Talk, talking
from bench.progress import Runs
from bench.redis_server import NO_SERVER, RedisServer, find_server, running_redis
from bench.report import Report
from bench.scenarios.directory import scratch_directory
from bench.scenarios.plan import Plan, Turn, take_turns
from bench.scenarios.throughput import of_mesh
from mesh.errors import Unavailable
from mesh.net.runtime_dir import RouterRecord

CLIENTS = 2
QUEUED, QUICK_QUEUED = 100_000, 10_000  # at the router that is lost
ROUTERS = ("one", "two")

RATIOS = {
    "to_sqlite": ("tasks_per_s", "sqlite_tasks_per_s"),
    "cpu_to_sqlite": ("cpu_us", "sqlite_cpu_us"),
    "routers_2_to_1": ("routers_2_tasks_per_s", "routers_1_tasks_per_s"),
}

ASKED = (
    Asked("tasks_per_s", 40_000),
    # Two clients, two routers, the worker's agent and Redis have all they can do, executors besides.
    Asked("routers_2_to_1", 1.2, cpus=8),
    Asked("adoption_first_s", 5, below=True),
    Asked("adoption_lost", 1, below=True),
    Asked("successor_first_s", 5, below=True),
    Asked("successor_lost", 1, below=True),
)


def missing() -> str | None:
    """Why there is no Redis here."""
    if find_server() is None:
        return NO_SERVER
    return None if find_spec("redis") else "the Python client of Redis is not installed: pip install 'taskmesh[redis]'"


def run_redis(plan: Plan, runs: Runs) -> Report:
    """``plan.level`` is that of the server; the SQLite file beside it syncs before it accepts, whatever that is."""
    if (why := missing()) is not None:
        raise Unavailable(why)
    with scratch_directory() as directory, ExitStack() as opened:
        machine = describe(directory)
        sqlite = opened.enter_context(running_mesh(directory / "sqlite", level="disk", concurrency=plan.concurrency))
        server = opened.enter_context(running_redis(directory, plan.level))
        alone = opened.enter_context(_on_redis(plan, directory / "alone", server, ROUTERS[:1]))
        shared = opened.enter_context(_on_redis(plan, directory / "shared", server, ROUTERS))
        one = [opened.enter_context(_client(plan, alone, 0)) for _ in range(CLIENTS)]
        two = [opened.enter_context(_client(plan, shared, place)) for place in range(CLIENTS)]

        def redis(count: int) -> dict[str, float]:
            return of_mesh(alone, "tasks", count, {"redis": [server.pid]})

        def file(count: int) -> dict[str, float]:
            return of_mesh(sqlite, "tasks", count)

        few = max(1, plan.tasks // 10)
        turns = [
            Turn("redis", lambda: _add("", redis(plan.tasks), runs), lambda: redis(few)),
            Turn("sqlite", lambda: _add("sqlite_", file(plan.tasks), runs), lambda: file(few)),
            Turn("one router", lambda: _volley("routers_1", one, plan, runs), lambda: _warm_up(one)),
            Turn("two routers", lambda: _volley("routers_2", two, plan, runs), lambda: _warm_up(two)),
            Turn(f"kill -9: a router with {_queued(plan)} tasks, adopted", lambda: _adopt(plan, server, runs)),
            Turn("the same, started elsewhere", lambda: _succeed(plan, server, runs)),
        ]
        take_turns(turns, plan.runs, runs)
    ratios = runs.ratios(RATIOS)
    found = {name: figure.max if name.endswith("_lost") else figure.median for name, figure in runs.figures.items()}
    settings = plan.settings(tasks=plan.tasks, clients=CLIENTS, queued=_queued(plan), redis=server.command)
    notes = verdicts(ASKED, found | ratios, machine["cpus"])
    notes += runs.pairs("routers_2_to_1", *RATIOS["routers_2_to_1"])
    return Report("redis", settings, machine, runs.figures, ratios, notes=notes)


@contextmanager
def _on_redis(plan: Plan, directory: Path, server: RedisServer, routers: Sequence[str]) -> Iterator[RunningMesh]:
    """A mesh whose routers share this server, each with a journal of its own, and a worker of all of them."""
    mesh = RunningMesh(directory, mesh_environment(directory, "memory"))
    try:
        for name in routers:
            _start_router(mesh, server, name)
        mesh.start_worker(plan.concurrency)
        mesh.wait_until_ready(1)
        yield mesh
    finally:
        mesh.stop()


def _queued(plan: Plan) -> int:
    return QUICK_QUEUED if plan.quick else QUEUED


def _client(plan: Plan, mesh: RunningMesh, router: int) -> AbstractContextManager[Talk]:
    """A client of one of the routers alone."""
    address = mesh.wait_for_routers(router + 1)[router].ipc
    return talking("bench.clients.volley", plan.tasks // CLIENTS, environ=mesh.environ | {"MESH_ROUTERS": str(address)})


def _adopt(plan: Plan, server: RedisServer, runs: Runs) -> None:
    """Kill a router that has a queue and no worker, beside one that has nothing to do, and gets a worker at once."""
    with _queue(plan, server) as (mesh, lost, client):
        adopter = _start_router(mesh, server, ROUTERS[1])
        mesh.environ["MESH_ROUTERS"] = str(adopter.ipc)
        killed_at = time.monotonic()
        _kill(mesh, lost)
        mesh.start_worker(plan.concurrency)  # now: before, it would be told of the other router, and empty it
        client.say()
        _add_ends("adoption", client.answer(), killed_at, runs)


def _succeed(plan: Plan, server: RedisServer, runs: Runs) -> None:
    """Kill such a router, and start one of its name at once, as on another machine: it cannot see that process."""
    with _queue(plan, server) as (mesh, lost, client):
        _kill(mesh, lost)
        _move_away(server, mesh.environ["MESH_NAME"])
        began = time.monotonic()
        _start_router(mesh, server, ROUTERS[0])
        mesh.start_worker(plan.concurrency)
        client.say()
        _add_ends("successor", client.answer(), began, runs)


@contextmanager
def _queue(plan: Plan, server: RedisServer) -> Iterator[tuple[RunningMesh, RouterRecord, Talk]]:
    """A mesh of one router that has a queue and no worker, and the client that waits for it."""
    with scratch_directory() as directory:
        mesh = RunningMesh(directory, mesh_environment(directory, "memory"))
        try:
            router = _start_router(mesh, server, ROUTERS[0])
            with talking("bench.clients.adoption", _queued(plan), environ=mesh.environ) as client:
                client.answer()
                yield mesh, router, client
        finally:
            mesh.stop()


def _kill(mesh: RunningMesh, router: RouterRecord) -> None:
    os.kill(router.pid, signal.SIGKILL)
    mesh.nodes.pop(ROUTERS[0]).wait()


def _move_away(server: RedisServer, mesh: str) -> None:
    """Write into the locks of a mesh that they are another machine's."""
    import redis  # noqa: PLC0415  an extra

    admin = redis.Redis(port=server.port)
    for lock in admin.scan_iter(f"taskmesh:{{{mesh}}}:r:*:lock"):
        held = admin.get(lock)
        assert isinstance(held, bytes), "it runs out in seconds"
        admin.set(lock, held.replace(b'"where":"', b'"where":"another machine '), keepttl=True)


def _add_ends(name: str, found: dict[str, float], began: float, runs: Runs) -> None:
    runs.add(f"{name}_lost", found["lost"], "tasks")
    if "first" in found:
        runs.add(f"{name}_first_s", found["first"] - began, "s")
        runs.add(f"{name}_all_s", found["last"] - began, "s")


def _start_router(mesh: RunningMesh, server: RedisServer, name: str) -> RouterRecord:
    """One more router of a mesh, whose journal on this server has its name."""
    there = len(mesh.nodes)
    mesh.start(name, "router", "-l", "warning", environ={"MESH_STORE": f"{server.url}?router={name}"})
    return mesh.wait_for_routers(there + 1)[-1]


def _warm_up(clients: Sequence[Talk]) -> None:
    for client in clients:
        client.answer()


def _volley(name: str, clients: Sequence[Talk], plan: Plan, runs: Runs) -> None:
    """All of them at the same time; from when the first begins until the last has all results."""
    for client in clients:
        client.say()
    found = [client.answer() for client in clients]
    took_s = max(one["ended"] for one in found) - min(one["began"] for one in found)
    runs.add(f"{name}_tasks_per_s", plan.tasks // CLIENTS * CLIENTS / took_s, "tasks/s")


def _add(prefix: str, found: dict[str, float], runs: Runs) -> None:
    runs.add(f"{prefix}tasks_per_s", found.pop("per_s"), "tasks/s")
    for name, value in found.items():
        runs.add(prefix + name, value, "us/task")
