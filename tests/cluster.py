"""A mesh of real processes in a directory of its own: start, kill, stop, restart, and wait for what should come.

Everything a test starts here is ended when the test is over, and the nodes' logs are shown when it failed.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from mesh import AsyncResult, Mesh
from mesh.errors import MeshError

REPOSITORY = Path(__file__).resolve().parent.parent
APP = "tests.cluster_tasks"
START_S = 20.0

T = TypeVar("T")


def send(app: Mesh, name: str, *args: Any, **options: Any) -> AsyncResult[Any]:
    """Submit a task of ``tests.cluster_tasks``; options as in ``Mesh.send_task``."""
    return app.send_task(f"{APP}.{name}", args, **options)


def wait_until(condition: Callable[[], T], within_s: float, what: str = "") -> T:
    """The first true value of ``condition``; fails when there is none in time."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"did not happen within {within_s:g} s: {what or condition}"
        time.sleep(0.01)
    return value


class Node:
    """One router or worker process, and its log."""

    def __init__(self, name: str, arguments: Sequence[str], environ: dict[str, str], log: Path) -> None:
        self.name = name
        self.arguments = list(arguments)
        self.environ = environ
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "nodes", *arguments], cwd=REPOSITORY, env=environ, stdout=output, stderr=output
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def executors(self) -> list[int]:
        """The pids of a worker's executor processes that live."""
        try:
            children = psutil.Process(self.pid).children()
        except psutil.NoSuchProcess:
            return []
        return [child.pid for child in children if "nodes.executor" in _command_line(child)]

    def kill(self) -> None:
        """kill -9, and wait until it is gone, executors included."""
        executors = self.executors()
        self.process.kill()
        self.process.wait()
        wait_until(lambda: not any(_lives(pid) for pid in executors), 5.0, f"executors of {self.name} end with it")

    def stop(self) -> None:
        """SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        self.process.terminate()

    def wait(self, within_s: float) -> int:
        """The exit code."""
        return self.process.wait(within_s)

    def text(self) -> str:
        """What it has logged so far."""
        return self.log.read_text(errors="replace")


class Cluster:
    """A mesh in ``place``, which must have a short name: ipc paths may not be long."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.store = place / "store.db"
        self.run_log = place / "runs.log"
        foreign = {name: value for name, value in os.environ.items() if not name.startswith("MESH_")}
        self.environ = foreign | {
            "MESH_NAME": "t",
            "MESH_RUNTIME_DIR": str(place / "r"),
            "XDG_CONFIG_HOME": str(place / "c"),
            "XDG_STATE_HOME": str(place / "s"),
            "MESH_STORE": f"sqlite://{self.store}",
            "MESH_FREE_BYTES_MIN": "0",
            "CLUSTER_RUN_LOG": str(self.run_log),
        }
        self.nodes: list[Node] = []
        self.clients: list[Mesh] = []
        self.programs: list[subprocess.Popen[Any]] = []

    # nodes

    def start(self, name: str, *arguments: str, **settings: Any) -> Node:
        """Start ``mesh ARGUMENTS``; settings as in ``Settings``."""
        environ = self.environ | {f"MESH_{key.upper()}": str(value) for key, value in settings.items()}
        node = Node(name, arguments, environ, self.place / f"{name}.log")
        self.nodes.append(node)
        return node

    def router(self, *flags: str, **settings: Any) -> Node:
        """Start the router; wait until it is up."""
        node = self.start("router", "router", "-l", "info", *flags, **settings)
        self.wait_up(node)
        return node

    def wait_up(self, node: Node) -> None:
        """Wait until a router that was started can be found."""
        where = self.place / "r"

        def is_up() -> bool:
            assert node.is_running, f"{node.name} ended: {node.text()}"
            return any(f'"pid": {node.pid}' in _text(path) for path in where.glob("*.json"))

        wait_until(is_up, START_S, "the router is up")

    def worker(self, name: str, *flags: str, slots: int = 1, wait: bool = True, **settings: Any) -> Node:
        """Start a worker node; wait until some router has welcomed it."""
        arguments = ("worker", "-A", APP, "-n", name, "-c", str(slots), "-l", "info", *flags)
        node = self.start(name, *arguments, **settings)
        if wait:
            self.wait_welcomed(node)
        return node

    def wait_welcomed(self, node: Node) -> None:
        """Wait until a worker that was started is in its first session."""

        def is_welcome() -> bool:
            assert node.is_running, f"{node.name} ended: {node.text()}"
            return f" {node.pid} mesh.connection: welcomed" in node.text()

        wait_until(is_welcome, START_S, f"{node.name} is welcomed")

    def again(self, node: Node) -> Node:
        """Start a node that ended, as it was started before; does not wait for it."""
        assert not node.is_running
        self.nodes.remove(node)
        new = Node(node.name, node.arguments, node.environ, node.log)
        self.nodes.append(new)
        return new

    # clients

    def client(self, **options: Any) -> Mesh:
        """An app of this process that is closed with the cluster."""
        app = Mesh("tests.cluster_tasks", **options)
        self.clients.append(app)
        return app

    def script(self, code: str, **settings: Any) -> subprocess.Popen[str]:
        """Run a program that may use ``app`` and the tasks of ``tests.cluster_tasks``."""
        environ = self.environ | {f"MESH_{key.upper()}": str(value) for key, value in settings.items()}
        program = f"from tests.cluster_tasks import *\n{code}"
        script = subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=REPOSITORY,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.programs.append(script)
        return script

    # what happened

    def runs(self) -> list[Run]:
        """What the task bodies wrote, outside of the mesh."""
        if not self.run_log.exists():
            return []
        return [Run.parse(line) for line in self.run_log.read_text().splitlines()]

    def outcomes(self) -> list[tuple[str, str]]:
        """(id, state) of each row of the results in the store file."""
        with closing(sqlite3.connect(f"file:{self.store}?mode=ro", uri=True, timeout=10)) as connection:
            return [tuple(row) for row in connection.execute("SELECT id, state FROM results")]

    def tasks_left(self, app: Mesh) -> int:
        """Unfinished tasks by the router's word; -1 while it does not answer."""
        try:
            return int(app.status(timeout=2.0)["router"]["tasks"])
        except MeshError:
            return -1

    def close(self) -> None:
        for program in self.programs:
            program.kill()
            program.wait()
        for node in self.nodes:
            if node.is_running:
                node.go_on()
                node.kill()
        for app in self.clients:
            app.close()

    def show_logs(self) -> None:
        for log in sorted(self.place.glob("*.log")):
            if log != self.run_log:
                print(f"---- {log.name}\n{log.read_text(errors='replace')[-6000:]}")


class Run:
    """One line of a task's body: it started, or it ended."""

    def __init__(self, what: str, task_id: str, attempt: int, pid: int, at: float) -> None:
        self.what = what
        self.id = task_id
        self.attempt = attempt
        self.pid = pid
        self.at = at  # monotonic: the same clock for all processes of a host

    @classmethod
    def parse(cls, line: str) -> Run:
        what, task_id, attempt, pid, at = line.split()
        return cls(what, task_id, int(attempt), int(pid), float(at))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A mesh of real processes; this process's own apps join it."""
    place = Path(tempfile.mkdtemp(prefix="m-", dir="/tmp"))
    made = Cluster(place)
    for name in ("MESH_ROUTERS", "MESH_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in made.environ.items():
        if os.environ.get(name) != value:
            monkeypatch.setenv(name, value)
    try:
        yield made
    finally:
        made.close()
        made.show_logs()  # pytest shows it where the test failed
        shutil.rmtree(place, ignore_errors=True)
