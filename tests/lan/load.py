"""Clients and tasks that write down what happens to each task, and a check of what they wrote.

Every line is appended by one write to a file outside of the mesh: what was submitted and told on the client's host,
what was run on each worker's. Each submitter has a prefix, so that ids are unique.
"""

from __future__ import annotations

import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from tests.lan.hosts import Host, Process

TASKS = """
import os, time
from mesh import Mesh
app = Mesh("tasks")

@app.task
def note(name, seconds=0.0):
    began = time.time()
    time.sleep(seconds)
    with open(os.path.expanduser("~/ran"), "a") as log:
        log.write(f"{name} {began:.3f}\\n")
    return name
"""

CLIENT = """
import os, sys, time
from tasks import app, note

def write(line):
    with open(os.path.expanduser("~/told"), "a") as log:
        log.write(line + "\\n")

prefix, count, pause, seconds, patience = sys.argv[1], int(sys.argv[2]), *map(float, sys.argv[3:])
waiting = {}

def look(timeout, deadline=float("inf")):
    for name, result in list(waiting.items()):
        if time.monotonic() > deadline:
            return
        try:
            value = result.get(timeout=timeout)
        except TimeoutError:
            continue
        except Exception as error:
            write(f"failed {name} {time.time():.3f} {error!r}")
        else:
            write(f"{'done' if value == name else 'wrong'} {name} {time.time():.3f}")
        del waiting[name]

for number in range(count):
    name = f"{prefix}{number}"
    write(f"submitted {name} {time.time():.3f}")
    waiting[name] = note.apply_async((name, seconds), task_id=name)
    time.sleep(pause)
    if number % 20 == 0:
        look(0)
deadline = time.monotonic() + patience
while waiting and time.monotonic() < deadline:
    look(0.05, deadline)
write(f"ended {prefix} {time.time():.3f} left {len(waiting)}")
print("ended", flush=True)
"""

GIVEN_UP = "is given up"  # in what a client is told of a task whose router is gone for good
IN_FLIGHT_S = 3.0  # before a fault begins; what was submitted by then is accepted, run and told of
NEAR_S = 15.0  # after a fault is over; within this a second run of a task is its work


@dataclass
class Load:
    """What runs on the hosts of one mesh, and the faults it met."""

    hosts: Sequence[Host]
    faults: list[tuple[float, float]] = field(default_factory=list)
    gone: list[float] = field(default_factory=list)  # when a router ended for good
    began: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        for host in self.hosts:
            (host.home / "tasks.py").write_text(TASKS)
            (host.home / "client.py").write_text(CLIENT)

    def submit(
        self,
        host: Host,
        prefix: str,
        count: int,
        *,
        pause_s: float,
        task_s: float = 0.0,
        patience_s: float = 60.0,
        **environ: str,
    ) -> Process:
        """Start a client that submits ``count`` tasks, one each ``pause_s``, and waits for all."""
        numbers = [str(value) for value in (count, pause_s, task_s, patience_s)]
        return host.start(["python", "client.py", prefix, *numbers], **environ)

    @contextmanager
    def fault(self, *, router_gone: bool = False) -> Iterator[float]:
        """Note that a fault begins, which it gives, and when it is over; ``router_gone``: a router never returns."""
        began = time.time()
        if router_gone:
            self.gone.append(began)
        try:
            yield began
        finally:
            self.faults.append((began, time.time()))

    def told(self) -> dict[str, list[list[str]]]:
        """What clients wrote, by the first word of the line."""
        lines: dict[str, list[list[str]]] = defaultdict(list)
        for host in self.hosts:
            log = host.home / "told"
            for line in log.read_text().splitlines() if log.exists() else ():
                what, *rest = line.split(maxsplit=3)
                lines[what].append(rest)
        return lines

    def runs(self) -> dict[str, list[float]]:
        """When each task began to run, as often as it did."""
        found: dict[str, list[float]] = defaultdict(list)
        for host in self.hosts:
            log = host.home / "ran"
            for line in log.read_text().splitlines() if log.exists() else ():
                name, at = line.split()
                found[name].append(float(at))
        return found

    def runs_since(self, moment: float) -> int:
        """How many of the tasks that were submitted after it were run."""
        return len({name for name, at in self.told()["submitted"] if float(at) > moment} & set(self.runs()))

    def states(self) -> dict[str, set[str]]:
        """What the stores of all routers say of how each task ended."""
        found: dict[str, set[str]] = defaultdict(set)
        for host in self.hosts:
            store = host.home / ".local/state/taskmesh/default.db"
            if store.exists():
                with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=10)) as connection:
                    for task_id, state in connection.execute("SELECT id, state FROM results"):
                        found[task_id].add(state)
        return found

    def check(self) -> str:
        """Of each id: it is not lost, ends once, as all stores say, and runs again only next to a fault; the counts."""
        runs, wrong = self.runs(), list(self._wrong())
        assert not wrong, f"{len(wrong)} tasks, faults at {self._seconds(*self.faults)}:\n" + "\n".join(wrong[:10])
        doubled = sum(len(times) > 1 for times in runs.values())
        told = self.told()
        given_up = sum(GIVEN_UP in " ".join(why) for _, _, *why in told["failed"])
        counts = f"{len(told['submitted'])} tasks, {doubled} of them run twice, {given_up} given up"
        return f"{counts}, {len(self.faults)} faults"

    def _wrong(self) -> Iterator[str]:
        told, runs, states = self.told(), self.runs(), self.states()
        ends: dict[str, list[tuple[str, float]]] = defaultdict(list)
        for what in ("done", "wrong", "failed"):
            for name, at, *why in told[what]:
                ends[name].append((" ".join([what, *why]), float(at)))
        submitted = {name: float(at) for name, at in told["submitted"]}
        for name in sorted({*submitted, *runs, *ends}):
            times, ended = sorted(runs[name]), ends[name]
            if name not in submitted:
                why = "nobody submitted it"
            elif not ended:
                why = "lost"
            elif self._went_with_its_router(submitted[name], [what for what, _ in ended]):
                why = "" if states[name] <= {"succeeded"} else "not what the stores say"
            elif [what for what, _ in ended] != ["done"]:
                why = "ended otherwise, or more than once"
            elif not times:
                why = "ended without having run"
            elif states[name] != {"succeeded"}:
                why = "not what the stores say"
            else:
                why = self._unexplained(times, ended[0][1])
            if why:
                told_at = ", ".join(f"{what} at {self._seconds(at)}" for what, at in ended) or "of nothing"
                stored = " and ".join(sorted(states[name])) or "nothing"
                yield f"{name}: {why}; ran at {self._seconds(*times)}, told {told_at}, stored: {stored}"

    def _went_with_its_router(self, submitted_at: float, ends: Sequence[str]) -> bool:
        """Whether it was given up once, and may have been accepted by a router that ended for good before it told."""
        near = any(began - IN_FLIGHT_S <= submitted_at <= began + IN_FLIGHT_S for began in self.gone)
        return near and len(ends) == 1 and "UnknownTask" in ends[0] and GIVEN_UP in ends[0]

    def _unexplained(self, times: Sequence[float], told_at: float) -> str:
        """Why one of the runs after the first should not have been; nothing where a fault explains them all."""
        for at in times[1:]:
            near = [began for began, ended in self.faults if began <= at <= ended + NEAR_S]
            if not near:
                return f"no fault is near {self._seconds(at)}"
            if told_at < min(near):
                return "ran again although its client knew its end before the fault began"
        return ""

    def _seconds(self, *moments: float | tuple[float, float]) -> str:
        """These moments since the load began."""
        text = [
            f"{moment - self.began:.1f}"
            if isinstance(moment, float)
            else "-".join(f"{end - self.began:.1f}" for end in moment)
            for moment in moments
        ]
        return f"{', '.join(text) or 'no time'} s"
