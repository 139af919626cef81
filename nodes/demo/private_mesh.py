"""A mesh in a directory of its own: its own name, key, store and sockets, gone when the demo ends."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from mesh.errors import Unavailable
from mesh.net.runtime_dir import RuntimeDir
from nodes.supervisor import node_command

START_S = 20.0
STOP_S = 10.0


class PrivateMesh:
    """``mesh up`` for a while: a supervisor with a router and a worker of ``slots`` executors."""

    def __init__(self, slots: int) -> None:
        self.name = f"demo-{secrets.token_hex(3)}"
        self.directory = Path(tempfile.mkdtemp(prefix="mesh-demo-"))
        self._environ = self._own_environment()
        with self._log.open("wb") as log:
            self._supervisor = subprocess.Popen(
                node_command(["up", "-q", "-c", str(slots), "--supervised-by", str(os.getpid())]),
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self) -> PrivateMesh:
        return self

    def __exit__(self, *exc: object) -> None:
        """End its processes and remove its directory."""
        self._supervisor.send_signal(signal.SIGTERM)
        try:
            self._supervisor.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._supervisor.kill()
            self._supervisor.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def wait_router(self) -> str:
        """The router's address, once there is one. Raises ``Unavailable`` with what the nodes said."""
        directory = RuntimeDir(self._environ)
        deadline = time.monotonic() + START_S
        while self._supervisor.poll() is None and time.monotonic() < deadline:
            for record in directory.routers(self.name):
                if record.ipc is not None:
                    return record.ipc
            time.sleep(0.02)
        said = " ".join(self._log.read_text(errors="replace").split())[-500:]
        raise Unavailable(f"the demo's nodes did not start: {said or 'they said nothing'}")

    def worker_pid(self) -> int | None:
        """The process id of the worker node; None while it is down."""
        return self._child(self._supervisor.pid, lambda line: "worker" in line)

    def executor_pid(self) -> int | None:
        """The process id of one executor; None while there is none."""
        worker = self.worker_pid()
        return None if worker is None else self._child(worker, lambda line: "nodes.executor" in line)

    @property
    def _log(self) -> Path:
        return self.directory / "nodes.log"

    def _child(self, parent: int, wanted: Callable[[list[str]], bool]) -> int | None:
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(parent).children():
                with contextlib.suppress(psutil.Error):
                    if child.status() != psutil.STATUS_ZOMBIE and wanted(child.cmdline()):
                        return int(child.pid)
        return None

    def _own_environment(self) -> dict[str, str]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("MESH_")}
        return environ | {
            "MESH_NAME": self.name,
            "MESH_RUNTIME_DIR": str(self.directory / "run"),
            "MESH_STORE": f"sqlite://{self.directory}/store.db",
            "XDG_CONFIG_HOME": str(self.directory),
        }
