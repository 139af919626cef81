"""Runs an entrant of a comparison: its workers, the Redis server it may need, a fresh client for each measurement."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

from bench.checkout import ROOT
from bench.peers.catalog import Entrant
from bench.processes import Talk, descendants, kill_all, last_words
from bench.redis_server import running_redis
from mesh.errors import MeshError, StoreFull, Unavailable

ENTRANT_START_S = 60.0  # some import large packages and start servers of their own, one after the other
STOP_S = 30.0
COMPARED_MEASUREMENT_S = 180.0  # it has as many tasks as last `--seconds`: then an entrant hangs, and others wait
TICK_S = 0.2

MARK = "BENCH_FAMILY"
"""What all processes of an entrant have in their environment, whoever their parent is: Parsl's workers have none."""

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

        Raises ``Unavailable`` when it does not end in time, ``StoreFull`` when its router has no room, ``MeshError``
        when it fails.
        """
        found = self._run(["measure", what, str(count)], COMPARED_MEASUREMENT_S)
        if found:
            found["cpu_us"] = found.pop("cpu_s") / count * 1e6
        return found

    def _run(self, arguments: list[str], patience_s: float) -> dict[str, Any]:
        """Processor time counts from when the client is ready until it has its last result: neither start nor end."""
        deadline = time.monotonic() + patience_s
        log = self.directory / "client.err"
        with (
            log.open("w+b") as errors,
            _process(self.entrant, arguments, self.environ, self.directory, errors) as client,
        ):
            talk = Talk(client, errors, " ".join(arguments), self.environ)
            try:
                self._answer(client, talk, deadline, arguments)
                before = self._cpu(client.pid)
                talk.say()
                found = self._answer(client, talk, deadline, arguments)
                if found:
                    found["cpu_s"] = spent_s(before, self._cpu(client.pid))
            except BaseException:
                end_tree(client)  # nobody waits for what has failed
                raise
        return found

    def _answer(
        self, client: subprocess.Popen[bytes], talk: Talk, deadline: float, arguments: list[str]
    ) -> dict[str, Any]:
        what = f"{self.entrant.name} {' '.join(arguments)}"
        while client.poll() is None:
            try:
                return talk.answer(TICK_S)
            except Unavailable:
                if self.keeper.poll() is not None:
                    raise MeshError(f"the workers of {self.entrant.name} ended: {_words(self.directory)}") from None
                if time.monotonic() > deadline:
                    raise Unavailable(f"{what} did not end in time: {_words(self.directory)}") from None
            except StoreFull:
                raise
            except MeshError:
                break
        raise MeshError(f"{what} failed: {_tail(self.directory / 'client.err')}")

    def _cpu(self, client_pid: int) -> Usage:
        redis = [self.redis_pid] if self.redis_pid else []
        return used(family(f"{self.directory}/", self.keeper.pid, client_pid, *redis))


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
        "TMPDIR": str(directory),  # what is left behind goes with it
        "BENCH_DIRECTORY": str(directory),
        "BENCH_WORKERS": str(workers),
        "BENCH_VARIANT": entrant.variant,
        "BENCH_LEVEL": level,
        "BENCH_REDIS": redis,
    }
    environ.pop("MESH_STORE", None)  # the user's own; where an entrant has one, its workers tell
    with (
        (directory / "keeper.err").open("w+b") as errors,
        _process(entrant, ["serve", str(workers)], environ, directory, errors) as keeper,
    ):
        try:
            said = Talk(keeper, errors, "serve", {}).answer(ENTRANT_START_S)
        except MeshError:
            end_tree(keeper)
            raise MeshError(f"the workers of {entrant.name} did not start: {_words(directory)}") from None
        environ |= said.pop("environ")
        found = RunningEntrant(entrant, directory, environ, keeper, redis_pid, said)
        found._run(["measure", "probe", "1"], ENTRANT_START_S)
        yield found


@contextmanager
def _process(
    entrant: Entrant, arguments: list[str], environ: dict[str, str], directory: Path, errors: IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ``command.py``, which ends when nobody talks to it any more; with what it has left behind."""
    command = [str(entrant.python), "-m", f"bench.peers.compared.{entrant.module}", *arguments]
    mark = {MARK: f"{directory}/{arguments[0]}"}
    with subprocess.Popen(
        command, env=environ | mark, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=directory
    ) as process:
        try:
            yield process
        finally:
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()
            end_tree(process, STOP_S)
            kill_all(family(mark[MARK]))


def family(mark: str, *pids: int) -> list[psutil.Process]:
    """Processes and all that stem from them, and those that left their parents: ``mark`` in the environment tells."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            if process.pid in pids or process.environ().get(MARK, "").startswith(mark):
                found |= {member.pid: member for member in (process, *process.children(recursive=True))}
        except (psutil.Error, OSError):
            continue
    return list(found.values())


def used(processes: Iterable[psutil.Process]) -> Usage:
    """Processor time of each of them that is there."""
    found = {}
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        found[process.pid] = (times.user + times.system, times.children_user + times.children_system)
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
    tree = descendants(process.pid)
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    kill_all(tree)


def _words(directory: Path) -> str:
    logs = (directory / name for name in ("keeper.err", "workers.log"))
    return "; ".join(filter(None, map(_tail, logs))) or "they said nothing"


def _tail(path: Path) -> str:
    return last_words(path.read_text(errors="replace")) if path.exists() else ""
