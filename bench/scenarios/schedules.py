"""Periodic tasks: how late they are, what entries cost that are not due, and how soon another leads."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from bench import cpu
from bench.asked import Asked, verdicts
from bench.distribution import histogram
from bench.figures import Figure, left_out, percentile, says_something
from bench.machine import describe
from bench.meshes import RunningMesh, running_mesh
from bench.periodic import ENTRIES
from bench.processes import Talk, descendants, kill_all, stop, talking
from bench.progress import Runs
from bench.report import Report
from bench.scenarios.directory import scratch_directory
from bench.scenarios.plan import Plan
from mesh.errors import Unavailable

WINDOW_S, QUICK_WINDOW_S = 60.0, 2.0
IDLE_ENTRIES = 10_000
IDLE_WINDOW_S, QUICK_IDLE_WINDOW_S = 20.0, 1.0
WARM_UP_S = 1.5  # after entries were resumed: the leader is told, and each was due once
SETTLE_S = 1.0  # after the entries were declared
STEADY_S = 0.5  # of a beat, before its leader goes
TAKEOVER_S = 12.0  # a leader that is silent is none after 10 s
LOOK_S = 0.05
PERCENTILES = (50, 99)

KINDS = ("spread", "burst")
WHAT = ("accept", "start")
ENDS = ("kill", "stop")
NEVER = ("lost", "doubled")

ASKED = (
    *(Asked(f"{kind}_{what}_p99_ms", 50, below=True) for kind in KINDS for what in WHAT),
    *(Asked(f"{kind}_{what}", 1, below=True) for kind in (*KINDS, *ENDS) for what in NEVER),
    Asked("idle_router_cpu_percent", 1, below=True),
    Asked("idle_worker_cpu_percent", 1, below=True),
)


def run_schedules(plan: Plan, runs: Runs) -> Report:
    """``plan.tasks`` entries, each due every second; beside them, on a mesh of its own, many that are never due."""
    window_s = QUICK_WINDOW_S if plan.quick else WINDOW_S
    idle_s = QUICK_IDLE_WINDOW_S if plan.quick else IDLE_WINDOW_S
    ends = 1 if plan.quick else plan.runs
    runs.expect((len(KINDS) + 1) * plan.runs + len(ENDS) * ends)
    with scratch_directory() as directory, ExitStack() as opened:
        machine = describe(directory)
        counts = {"burst": plan.tasks, "spread": plan.tasks, "beat": 1}
        mesh = opened.enter_context(_mesh(plan, directory / "due", counts))
        idle = opened.enter_context(_mesh(plan, directory / "idle", {"idle": IDLE_ENTRIES}))
        client = opened.enter_context(talking("bench.clients.periodic", environ=mesh.environ))
        client.answer()
        time.sleep(SETTLE_S)
        leaders = Leaders(mesh, client, plan.concurrency)
        for number in range(plan.runs):
            for kind in KINDS:
                runs.step(f"{kind}: {plan.tasks} entries for {window_s:g} s")
                _measure(client, kind, plan.tasks, window_s, runs)
            runs.step(f"idle: {IDLE_ENTRIES} entries for {idle_s:g} s")
            _idle(idle, idle_s, runs)
            for end in ENDS if number < ends else ():
                runs.step(f"{end}: the leader goes")
                leaders.replace(end, runs)
    settings = plan.settings(entries=plan.tasks, window_s=window_s, idle_entries=IDLE_ENTRIES, idle_window_s=idle_s)
    figures, notes = runs.figures, _notes(runs.figures, machine["cpus"])
    return Report("schedules", settings, machine, figures, {}, runs.distributions, notes)


def _mesh(plan: Plan, directory: Path, counts: Mapping[str, int]) -> AbstractContextManager[RunningMesh]:
    entries = ",".join(f"{kind}={count}" for kind, count in counts.items())
    return running_mesh(
        directory, level=plan.level, concurrency=plan.concurrency, app="bench.periodic", environ={ENTRIES: entries}
    )


def _notes(figures: Mapping[str, Figure], cpus: int) -> list[str]:
    # A median of what must never be says nothing of the run in which it was.
    values = {name: found.max if name.endswith(NEVER) else found.median for name, found in figures.items()}
    wanted = [f"{kind}_{what}_p{percent}_ms" for kind in KINDS for what in WHAT for percent in PERCENTILES]
    return verdicts(ASKED, values, cpus) + left_out(wanted, figures)


def _measure(client: Talk, kind: str, entries: int, window_s: float, runs: Runs) -> None:
    """How late each task of a window was accepted, and started, after the entries have begun to be due."""
    client.say(f"resume {kind} {entries}")
    client.answer()
    begins = time.time() + WARM_UP_S
    time.sleep(WARM_UP_S + window_s)
    found = _pause(client, kind, entries)
    for what in WHAT:
        late_ms = [
            1e3 * late for due, late in zip(found["due"], found[f"{what}_s"]) if begins <= due < begins + window_s
        ]
        for percent in PERCENTILES:
            if says_something(percent, len(late_ms)):
                runs.add(f"{kind}_{what}_p{percent}_ms", percentile(late_ms, percent), "ms")
        runs.add(f"{kind}_{what}_max_ms", max(late_ms), "ms")
        runs.add_distribution(f"{kind}_{what}", histogram(1e3 * late for late in late_ms), "us")
    _count(found, kind, runs)


def _pause(client: Talk, kind: str, entries: int) -> dict[str, Any]:
    client.say(f"pause {kind} {entries}")
    return client.answer()


def _count(found: Mapping[str, Any], of: str, runs: Runs) -> None:
    for name in NEVER:
        runs.add(f"{of}_{name}", found[name], "tasks")


def _idle(mesh: RunningMesh, window_s: float, runs: Runs) -> None:
    pids = {role: pids for role, pids in mesh.pids.items() if role in ("router", "worker")}
    before = cpu.seconds(pids)
    time.sleep(window_s)
    for role, used_s in cpu.seconds(pids).items():
        runs.add(f"idle_{role}_cpu_percent", 100 * (used_s - before[role]) / window_s, "%")


class Leaders:
    """The worker nodes of a mesh, of which one leads: it goes, and there is always one to follow it."""

    def __init__(self, mesh: RunningMesh, client: Talk, concurrency: int) -> None:
        self._mesh = mesh
        self._client = client
        self._concurrency = str(concurrency)
        self._started = 0

    def replace(self, end: str, runs: Runs) -> None:
        """Have the leader killed or stopped, and measure from then until the first due time after it was fired."""
        self._add()
        self._client.say("resume beat 1")
        self._client.answer()
        time.sleep(STEADY_S)
        leader = self._leads()
        node = self._mesh.nodes.pop(leader)
        left = descendants(node.pid)
        went_at = time.time()
        if end == "kill":
            node.kill()
        stop(node)
        self._wait_for_another(leader)
        time.sleep(STEADY_S)  # what was due meanwhile is made good
        found = _pause(self._client, "beat", 1)
        missed = [(late, due) for due, late in zip(found["due"], found["accept_s"]) if due > went_at]
        if not missed:
            raise Unavailable(f"nothing was fired after the leader was gone: is {leader} the only worker?")
        late, due = max(missed)
        runs.add(f"{end}_takeover_s", due + late - went_at, "s")
        _count(found, end, runs)
        kill_all([process for process in left if process.is_running()])

    def _add(self) -> None:
        self._started += 1
        name = f"next{self._started}"
        self._mesh.start(name, "worker", "-A", "bench.periodic", "-c", self._concurrency, "-n", name, "-l", "warning")
        self._mesh.wait_until_ready(2)
        time.sleep(SETTLE_S)  # until it is in line

    def _leads(self) -> str:
        self._client.say("leader")
        name: str = self._client.answer()["leader"]
        return name.partition("@")[0]

    def _wait_for_another(self, leader: str) -> None:
        deadline = time.monotonic() + TAKEOVER_S
        while self._leads() == leader:
            if time.monotonic() > deadline:
                raise Unavailable(f"{leader} is gone, and no other worker leads after {TAKEOVER_S:g} s")
            time.sleep(LOOK_S)
