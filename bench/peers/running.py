"""Runs an entrant of a comparison: its workers, the Redis server it may need, a fresh client for each measurement."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.peers.catalog import ROOT, Entrant
from bench.processes import last_words
from bench.redis_server import running_redis
from mesh.errors import MeshError, Unavailable

START_S = 60.0
STOP_S = 30.0
MEASUREMENT_S = 180.0
TICK_S = 0.05

Usage = dict[int, tuple[float, float]]
"""By pid: seconds of processor time of its own, and of children it has waited for."""


@dataclass
class RunningEntrant:
    """``stated``: versions and settings, as they stand in the report."""

    entrant: Entrant
    directory: Path
    environ: dict[str, str]
    keeper: subprocess.Popen[bytes]
    redis_pid: int | None
    stated: dict[str, Any] = field(default_factory=dict)

    def measure(self, what: str, count: int) -> dict[str, Any]:
        """One measurement by a fresh client. ``cpu_us``: processor time per task of all its processes, Redis too.

        Raises ``Unavailable`` when it does not end in time, ``MeshError`` when it fails.
        """
        before = self._cpu()
        found = self._run(["measure", what, str(count)], MEASUREMENT_S)
        if "client_cpu_s" in found:
            found["cpu_us"] = (spent_s(before, self._cpu()) + found.pop("client_cpu_s")) / count * 1e6
        return found

    def _run(self, arguments: list[str], patience_s: float) -> dict[str, Any]:
        out, errors = self.directory / "client.out", self.directory / "client.err"
        with out.open("wb") as stdout, errors.open("wb") as stderr:
            command = [*_command(self.entrant), *arguments]
            client = subprocess.Popen(
                command, env=self.environ, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, cwd=self.directory
            )
            try:
                self._wait(client, patience_s, " ".join(arguments))
            finally:
                end_tree(client)
        if client.returncode:
            raise MeshError(f"{self.entrant.name} {' '.join(arguments)} failed: {_tail(errors)}")
        found: dict[str, Any] = json.loads(out.read_text().strip().splitlines()[-1])
        return found

    def _wait(self, client: subprocess.Popen[bytes], patience_s: float, what: str) -> None:
        deadline = time.monotonic() + patience_s
        while client.poll() is None:
            if self.keeper.poll() is not None:
                raise MeshError(f"the workers of {self.entrant.name} ended: {_words(self.directory)}")
            if time.monotonic() > deadline:
                words = _words(self.directory)
                raise Unavailable(f"{self.entrant.name} {what} did not end in {patience_s:g} s: {words}")
            time.sleep(TICK_S)

    def _cpu(self) -> Usage:
        pids = [self.keeper.pid, *([self.redis_pid] if self.redis_pid else [])]
        return {pid: used for root in pids for pid, used in tree_cpu(root).items()}


@contextmanager
def running_entrant(
    entrant: Entrant, directory: Path, *, workers: int, level: str, redis_level: str
) -> Iterator[RunningEntrant]:
    """Its workers, ready to run tasks; all of its processes are gone afterwards. Raises as ``measure``."""
    directory.mkdir(parents=True, exist_ok=True)
    if entrant.redis:
        with (
            running_redis(directory, redis_level) as redis,
            _running(entrant, directory, workers, level, redis.url, redis.pid) as found,
        ):
            found.stated["redis"] = redis.command
            yield found
    else:
        with _running(entrant, directory, workers, level, "", None) as found:
            yield found


@contextmanager
def _running(
    entrant: Entrant, directory: Path, workers: int, level: str, redis: str, redis_pid: int | None
) -> Iterator[RunningEntrant]:
    environ = os.environ | {
        "PATH": f"{entrant.python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "BENCH_DIRECTORY": str(directory),
        "BENCH_WORKERS": str(workers),
        "BENCH_VARIANT": entrant.variant,
        "BENCH_LEVEL": level,
        "BENCH_REDIS": redis,
    }
    command = [*_command(entrant), "serve", str(workers)]
    with (directory / "keeper.err").open("wb") as errors, (directory / "keeper.out").open("wb") as out:
        keeper = subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=out, stderr=errors, cwd=directory)
    try:
        said = _first_line(keeper, directory, entrant)
        environ |= said.pop("environ")
        found = RunningEntrant(entrant, directory, environ, keeper, redis_pid, said)
        found._run(["measure", "probe", "1"], START_S)
        yield found
    finally:
        assert keeper.stdin is not None
        keeper.stdin.close()
        end_tree(keeper, STOP_S)


def _command(entrant: Entrant) -> list[str]:
    return [str(entrant.python), "-m", f"bench.peers.compared.{entrant.peer}"]


def _first_line(keeper: subprocess.Popen[bytes], directory: Path, entrant: Entrant) -> dict[str, Any]:
    deadline = time.monotonic() + START_S
    out = directory / "keeper.out"
    while b"\n" not in (text := out.read_bytes()):
        if keeper.poll() is not None or time.monotonic() > deadline:
            raise MeshError(f"the workers of {entrant.name} did not start: {_words(directory)}")
        time.sleep(TICK_S)
    said: dict[str, Any] = json.loads(text.splitlines()[0])
    return said


def tree_cpu(pid: int) -> Usage:
    """Processor time of a process and all it has started, as far as they are there."""
    try:
        process = psutil.Process(pid)
        tree = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return {}
    found = {}
    for member in tree:
        try:
            times = member.cpu_times()
        except psutil.NoSuchProcess:
            continue
        found[member.pid] = (times.user + times.system, times.children_user + times.children_system)
    return found


def spent_s(before: Usage, after: Usage) -> float:
    """Processor time between two looks at a tree, whose processes come and go.

    Who has gone meanwhile counts in its parent from then on, with all it had used, if the parent waits for children.
    """
    nothing = (0.0, 0.0)
    own = sum(used - before.get(pid, nothing)[0] for pid, (used, _) in after.items())
    of_children = sum(used - before.get(pid, nothing)[1] for pid, (_, used) in after.items())
    known = sum(sum(used) for pid, used in before.items() if pid not in after)
    return own + max(0.0, of_children - known)


def end_tree(process: subprocess.Popen[bytes], patience_s: float = 0.0) -> None:
    """Wait for it, then kill it and what it has started, by pid."""
    try:
        tree = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        tree = []
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for member in tree:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(tree, STOP_S)


def _words(directory: Path) -> str:
    logs = (directory / name for name in ("keeper.err", "workers.log"))
    return "; ".join(filter(None, map(_tail, logs))) or "they said nothing"


def _tail(path: Path) -> str:
    return last_words(path.read_text(errors="replace")) if path.exists() else ""
