"""Starts the mesh that is measured: real processes, in a directory, and under a name, of their own."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from mesh.errors import MeshError, Unavailable
from mesh.net.keys import new_key

START_S = 20.0
STOP_S = 10.0
LEVELS = ("disk", "process", "memory")

OVERRIDDEN = ("MESH_ROUTERS", "MESH_STORE", "MESH_NAME", "MESH_RUNTIME_DIR", "MESH_KEY")
"""What of the caller's environment is not passed on; other ``MESH_`` settings are, so that they can be tried out."""


@dataclass(frozen=True)
class RunningMesh:
    """``environ`` leads clients to it; ``pids`` are its processes by role."""

    directory: Path
    environ: dict[str, str]
    pids: dict[str, list[int]]


@contextmanager
def running_mesh(directory: Path, *, level: str, concurrency: int) -> Iterator[RunningMesh]:
    """A router and a worker node with ``concurrency`` executors of ``bench.tasks``; ended by pid, whatever happens.

    Raises ``Unavailable`` when one of them ends, or is not ready in time.
    """
    environ = mesh_environment(directory, level)
    nodes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        nodes["router"] = _start(["router"], directory / "router.log", environ)
        nodes["worker"] = _start(
            ["worker", "-A", "bench.tasks", "-c", str(concurrency)], directory / "worker.log", environ
        )
        _wait_until_ready(directory, environ, nodes)
        pids = {role: [node.pid] for role, node in nodes.items()}
        pids["executors"] = [child.pid for child in psutil.Process(nodes["worker"].pid).children()]
        yield RunningMesh(directory, environ, pids)
    finally:
        for node in reversed(nodes.values()):
            _stop(node)


def mesh_environment(directory: Path, level: str) -> dict[str, str]:
    """The environment of every process of this mesh."""
    runtime = directory / "run"
    runtime.mkdir(mode=0o700, exist_ok=True)
    environ = {name: value for name, value in os.environ.items() if name not in OVERRIDDEN}
    store = "memory://" if level == "memory" else f"sqlite://{directory.absolute()}/mesh.db?level={level}"
    return environ | {
        "MESH_NAME": f"bench-{secrets.token_hex(4)}",
        "MESH_RUNTIME_DIR": str(runtime.absolute()),
        "MESH_KEY": new_key().text,
        "MESH_STORE": store,
    }


def _start(arguments: list[str], log: Path, environ: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "nodes", *arguments, "--supervised-by", str(os.getpid()), "-l", "warning"]
    with log.open("ab") as out:
        return subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=out)


def _wait_until_ready(directory: Path, environ: dict[str, str], nodes: dict[str, subprocess.Popen[bytes]]) -> None:
    """Ready is when a task has come back."""
    probe = subprocess.Popen(
        [sys.executable, "-m", "bench.peers.mesh", "probe"],
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + START_S
    try:
        while probe.poll() is None:
            for role, node in nodes.items():
                if node.poll() is not None:
                    raise Unavailable(f"the {role} under test ended with {node.returncode}: {_tail(directory, role)}")
            if time.monotonic() > deadline:
                logs = "; ".join(_tail(directory, role) for role in nodes)
                raise Unavailable(f"the mesh under test ran no task in {START_S:g} s: {logs}")
            time.sleep(0.02)
        if probe.returncode:
            assert probe.stderr is not None
            raise MeshError(f"the mesh under test does not work: {probe.stderr.read().decode(errors='replace')[-500:]}")
    finally:
        _stop(probe)


def _tail(directory: Path, role: str) -> str:
    text = (directory / f"{role}.log").read_text(errors="replace")
    return text[-500:].strip() or f"the {role} logged nothing"


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stderr is not None:
        process.stderr.close()
