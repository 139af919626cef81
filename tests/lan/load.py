"""Clients and tasks that write down what happens to each task, and a check of what they wrote.

Every line is appended by one write to a file outside of the mesh: what was submitted and told on the client's host,
what was run on each worker's. Each submitter has a prefix, so that ids are unique.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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

def look(timeout):
    for name, result in list(waiting.items()):
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
    waiting[name] = note.delay(name, seconds)
    time.sleep(pause)
    if number % 20 == 0:
        look(0)
deadline = time.monotonic() + patience
while waiting and time.monotonic() < deadline:
    look(0.05)
write(f"ended {prefix} {time.time():.3f} left {len(waiting)}")
print("ended", flush=True)
"""

NEAR_S = 15.0  # after a fault is over; within this a second run of a task is its work


@dataclass
class Load:
    """What runs on the hosts of one mesh, and the faults it met."""

    hosts: Sequence[Host]
    faults: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for host in self.hosts:
            (host.home / "tasks.py").write_text(TASKS)
            (host.home / "client.py").write_text(CLIENT)

    def submit(
        self, host: Host, prefix: str, count: int, *, pause_s: float, task_s: float = 0.0, patience_s: float = 60.0
    ) -> Process:
        """Start a client that submits ``count`` tasks, one each ``pause_s``, and waits for all."""
        numbers = [str(value) for value in (count, pause_s, task_s, patience_s)]
        return host.start(["python", "client.py", prefix, *numbers])

    @contextmanager
    def fault(self) -> Iterator[None]:
        """Note that a fault begins, and when it is over."""
        began = time.time()
        try:
            yield
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

    def check(self) -> str:
        """Nothing is lost, each task ends once, and each second run lies near a fault; the counts, for people."""
        told, runs = self.told(), self.runs()
        submitted = [name for name, *_ in told["submitted"]]
        done = [name for name, *_ in told["done"]]
        assert not told["failed"] and not told["wrong"], (told["failed"][:5], told["wrong"][:5])
        lost = sorted(set(submitted) - set(done))
        assert not lost, f"{len(lost)} of {len(submitted)} lost: {lost[:10]}"
        assert len(done) == len(set(done)), "a client was told twice"
        assert set(runs) <= set(submitted), "something ran that nobody submitted"
        doubled = {name: at for name, at in runs.items() if len(at) > 1}
        for name, times in doubled.items():
            for at in sorted(times)[1:]:
                near = any(began - 1.0 <= at <= ended + NEAR_S for began, ended in self.faults)
                assert near, f"{name} ran again at {at}, and no fault is near: {self.faults}"
        return f"{len(submitted)} tasks, {len(doubled)} of them run twice, {len(self.faults)} faults"
