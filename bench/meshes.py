"""Starts the mesh that is measured: real processes, in a directory, and under a name, of their own."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psutil

from bench.ending import started_here
from bench.processes import descendants, kill_all, last_words, start, stop
from bench.room import check_room
from bench.tasks import SLOWNESS
from mesh.errors import MeshError, Unavailable
from mesh.net.keys import new_key
from mesh.net.runtime_dir import RouterRecord, RuntimeDir

MESH_START_S = 20.0  # nodes are up in a second; many at once, or on busy processors, take several
LEVELS = ("disk", "process", "memory")

OVERRIDDEN = ("MESH_ROUTERS", "MESH_STORE", "MESH_NAME", "MESH_RUNTIME_DIR", "MESH_KEY", SLOWNESS)
"""What of the caller's environment is not passed on; other ``MESH_`` settings are, so that they can be tried out."""

ROLES = {"router": "router", "worker": "worker", "up": "supervisor"}
"""What a process of a mesh is, by the verb it was started with."""


@dataclass
class RunningMesh:
    """``environ`` leads clients to it. ``module`` is what nodes are started as. ``level``: of one that runs already."""

    directory: Path
    environ: dict[str, str]
    module: str = "nodes"
    nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    level: str = ""

    @property
    def pids(self) -> dict[str, list[int]]:
        """Its processes by role, as they are now."""
        return roles(*(node.pid for node in self.nodes.values()))

    @property
    def is_ours(self) -> bool:
        """Whether this measurement has started it; else it runs on whatever happens here, perhaps elsewhere."""
        return bool(self.nodes)

    def start(self, name: str, *arguments: str, environ: dict[str, str] | None = None) -> None:
        """Start ``mesh ARGUMENTS``; does not wait for it. Raises ``StoreFull``."""
        check_room(self.environ)
        log = self.directory / f"{name}.log"
        words = [*arguments, "--supervised-by", str(os.getpid())]
        self.nodes[name] = start(self.module, words, log, self.environ | (environ or {}))

    def start_worker(self, concurrency: int, *, slowness: float = 1.0, app: str = "bench.tasks") -> None:
        """Start one more worker node."""
        name = f"worker{len(self.nodes)}"
        words = ("worker", "-A", app, "-c", str(concurrency), "-n", name, "-l", "warning")
        self.start(name, *words, environ={SLOWNESS: str(slowness)})

    def wait_for_router(self) -> RouterRecord:
        """Wait until it can be found. Raises ``Unavailable``."""
        return self.wait_for_routers(1)[0]

    def wait_for_routers(self, count: int) -> list[RouterRecord]:
        """Wait until so many can be found; the oldest is first. Raises ``Unavailable``."""
        directory = RuntimeDir(self.environ)
        deadline = time.monotonic() + MESH_START_S
        while len(records := directory.routers(self.environ["MESH_NAME"])) < count:
            self._check(deadline)
            time.sleep(0.005)
        return records

    def wait_until_ready(self, workers: int) -> None:
        """Wait until so many worker nodes are there, and a task came back if there are any. Raises ``Unavailable``."""
        self.wait_for_router()  # a busy machine takes longer to start it than a client looks for it
        probe = subprocess.Popen(
            [sys.executable, "-m", "bench.peers.mesh", "ready", str(workers)],
            env=started_here(self.environ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        deadline = time.monotonic() + MESH_START_S
        try:
            while probe.poll() is None:
                self._check(deadline)
                time.sleep(0.01)
            if probe.returncode:
                assert probe.stderr is not None
                why = last_words(probe.stderr.read().decode(errors="replace"))
                raise MeshError(f"the mesh under test does not work: {why}")
        finally:
            stop(probe)
            assert probe.stderr is not None
            probe.stderr.close()

    def stop(self) -> None:
        """End all its nodes, the last one first, and what they left behind."""
        left = [process for node in self.nodes.values() for process in descendants(node.pid)]
        for node in reversed(self.nodes.values()):
            stop(node)
        kill_all([process for process in left if process.is_running()])

    def _check(self, deadline: float) -> None:
        for name, node in self.nodes.items():
            if node.poll() is not None:
                raise Unavailable(f"the {name} under test ended with {node.returncode}: {self._tail(name)}")
        check_room(self.environ)
        if time.monotonic() > deadline:
            logs = "; ".join(map(self._tail, self.nodes))
            raise Unavailable(f"the mesh under test ran no task in {MESH_START_S:g} s: {logs}")

    def _tail(self, name: str) -> str:
        text = (self.directory / f"{name}.log").read_text(errors="replace")
        return last_words(text) or f"the {name} logged nothing"


@contextmanager
def running_mesh(
    directory: Path,
    *,
    level: str,
    concurrency: int,
    app: str = "bench.tasks",
    slowness: Sequence[float] = (1.0,),
    tcp: bool = False,
    module: str = "nodes",
    environ: Mapping[str, str] | None = None,
) -> Iterator[RunningMesh]:
    """A router, and a worker node with ``concurrency`` executors of ``app`` for each ``slowness``.

    They are ended by pid, whatever happens. With ``tcp`` everybody comes over tcp with encryption, else over ipc.
    ``environ``: what else nodes and clients find in their environment. Raises ``Unavailable`` when one of the nodes
    ends, or is not ready in time, ``StoreFull`` when its disk has no room.
    """
    mesh = RunningMesh(directory, mesh_environment(directory, level) | dict(environ or {}), module)
    try:
        mesh.start("router", "router", "-l", "warning")
        if tcp:
            address = mesh.wait_for_router().tcp
            assert address is not None, "a router listens at a tcp address unless it is told not to"
            mesh.environ["MESH_ROUTERS"] = address
        for slow in slowness:
            mesh.start_worker(concurrency, slowness=slow, app=app)
        mesh.wait_until_ready(len(slowness))
        yield mesh
    finally:
        mesh.stop()


@contextmanager
def supervised_mesh(directory: Path, environ: dict[str, str], concurrency: int) -> Iterator[RunningMesh]:
    """``mesh up`` in an environment of ``mesh_environment``, from the moment it was typed: nothing is waited for."""
    mesh = RunningMesh(directory, environ)
    try:
        mesh.start("up", "up", "-q", "-A", "bench.tasks", "-c", str(concurrency), "-l", "info")
        yield mesh
    finally:
        mesh.stop()


def mesh_environment(directory: Path, level: str) -> dict[str, str]:
    """The environment of every process of this mesh."""
    runtime = directory / "run"
    runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
    environ = {name: value for name, value in os.environ.items() if name not in OVERRIDDEN}
    store = "memory://" if level == "memory" else f"sqlite://{quote(str(directory.absolute()))}/mesh.db?level={level}"
    return environ | {
        "MESH_NAME": f"bench-{secrets.token_hex(4)}",
        "MESH_RUNTIME_DIR": str(runtime.absolute()),
        "MESH_KEY": new_key().text,
        "MESH_STORE": store,
    }


def roles(*pids: int) -> dict[str, list[int]]:
    """What these processes of a mesh, and those that stem from them, are."""
    found: dict[str, list[int]] = {}
    for pid in pids:
        for process in (psutil.Process(pid), *descendants(pid)):
            if (role := _role(process)) is not None:
                found.setdefault(role, []).append(process.pid)
    return found


def _role(process: psutil.Process) -> str | None:
    try:
        words = process.cmdline()
    except psutil.Error:
        return None
    if "-m" not in words[:-2]:
        return None
    module, verb = words[words.index("-m") + 1 :][:2]
    return "executors" if module == "nodes.executor" else ROLES.get(verb)
