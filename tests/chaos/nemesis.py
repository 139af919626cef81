"""Load from client processes, faults at seeded moments, and the verdict at the end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from mesh import Mesh
from tests.chaos.checker import Execution, Fault, History, Verdict, judge, read_clients, read_runs
from tests.cluster import REPOSITORY, Cluster, Node, wait_until

DRAIN_S = 40.0


class Load:
    """Client processes that submit and wait for results until told to stop."""

    def __init__(self, cluster: Cluster, clients: int, seed: int, *, at_most_once: bool = False) -> None:
        self._cluster = cluster
        self._at_most_once = at_most_once
        self._stop = cluster.place / "stop"
        self._logs = [cluster.place / f"client{number}.events" for number in range(clients)]
        self._processes = [self._start(number, log, seed) for number, log in enumerate(self._logs)]
        self.faults: list[Fault] = []

    def _start(self, number: int, log: Path, seed: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.chaos.load", str(log), str(self._stop), f"{seed}-{number}"]
        command.append("at-most-once" if self._at_most_once else "at-least-once")
        environ = self._cluster.environ | {"MESH_SUBMIT_TIMEOUT_S": "60"}
        with (self._cluster.place / f"client{number}.log").open("wb") as output:
            process = subprocess.Popen(command, cwd=REPOSITORY, env=environ, stdout=output, stderr=output)
        self._cluster.programs.append(process)
        return process

    def wait_running(self) -> None:
        """Until every client was told some outcome or confirmation."""
        wait_until(lambda: all(log.exists() and log.stat().st_size > 200 for log in self._logs), 20.0, "load begins")

    def finish(self, watcher: Mesh) -> Verdict:
        """Stop submitting, wait until nothing is left, and judge."""
        self._stop.touch()
        for process in self._processes:
            assert process.wait(DRAIN_S) == 0, "a client failed"
        wait_until(lambda: self._cluster.tasks_left(watcher) == 0, DRAIN_S, "all tasks are finished")
        history = History(faults=self.faults, failures_expected=self._at_most_once)
        for log in self._logs:
            read_clients(log.read_text().splitlines(), history)
        history.executions = read_runs(self._cluster.run_log.read_text().splitlines())
        history.stored = self._cluster.outcomes()
        verdict = judge(history)
        print(f"{len(history.accepted)} tasks, {len(self.faults)} faults: {verdict}")
        for bad in verdict.unexplained[:3]:
            story = [run for run in history.executions if run.id == bad.id]
            print(*sorted([*story, *self.faults], key=_time), sep="\n")
        assert len(history.accepted) > 500, "there was no load"
        return verdict


def pause(rng: random.Random, least: float, most: float) -> None:
    """Let the load run for a random while; the moment of a fault is what is random."""
    time.sleep(rng.uniform(least, most))


def kill_executor(cluster: Cluster, worker: Node, rng: random.Random) -> Fault | None:
    """kill -9 one executor of a worker that has begun to run tasks; None where there is none just now."""
    used = {run.pid for run in cluster.runs()}
    pids = [pid for pid in worker.executors() if pid in used]
    if not pids:
        return None
    pid = rng.choice(pids)
    begun = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: pid not in worker.executors(), 5.0, "the executor is gone")
    return Fault("executor", begun, frozenset({pid}), time.monotonic())


def kill_worker(worker: Node) -> Fault:
    """kill -9 a worker's agent; its executors die with it."""
    begun, pids = time.monotonic(), worker.executors()
    worker.kill()
    return Fault("agent", begun, frozenset(pids), time.monotonic())


def kill_router(router: Node) -> Fault:
    """kill -9 the router."""
    begun = time.monotonic()
    router.kill()
    return Fault("router", begun, None, time.monotonic())


def _time(what: Execution | Fault) -> float:
    return what.started if isinstance(what, Execution) else what.at
