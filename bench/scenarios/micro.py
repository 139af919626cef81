"""What a task costs each part alone, in one process without sockets: where the time of a mesh goes."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial

from bench.machine import describe
from bench.micro.calls import run_delay, run_executor
from bench.micro.inputs import BATCH
from bench.micro.machines import run_client, run_router, run_worker
from bench.micro.stopwatch import Stopwatch
from bench.micro.store import run_store
from bench.micro.wire import run_codec, run_payload
from bench.progress import Runs
from bench.report import Report
from bench.scenarios.directory import scratch_directory

PARTS: dict[str, Callable[[int, Stopwatch], None]] = {
    "router": run_router,
    "worker": run_worker,
    "client": run_client,
    "single_router": partial(run_router, batch=1),
    "single_worker": partial(run_worker, batch=1),
    "single_client": partial(run_client, batch=1),
    "codec": run_codec,
    "payload": run_payload,
    "caller": run_delay,
    "executor": run_executor,
    "store_memory": partial(run_store, level="memory"),
    "store_process": partial(run_store, level="process"),
    "store_disk": partial(run_store, level="disk"),
}
HOTTEST = 15


def run_micro(tasks: int, repeats: int, queued: int, runs: Runs) -> Report:
    """Microseconds per task of each part and phase; with ``queued`` tasks, what a full router costs."""
    tasks = max(BATCH, tasks // BATCH * BATCH)
    with scratch_directory() as directory:
        machine = describe(directory)
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)  # as routers have it
    for name, run in PARTS.items():
        for _ in range(repeats):
            watch = Stopwatch()
            run(tasks, watch)
            if name.removeprefix("single_") in ("router", "worker", "client"):
                runs.add(f"{name}_us", sum(watch.seconds.values()) / tasks * 1e6, "us/task")
            for phase, seconds in watch.seconds.items():
                runs.add(f"{name}_{phase.replace(' ', '_').lower()}_us", seconds / tasks * 1e6, "us/task")
    for _ in range(repeats):
        for name, value in measure_memory(queued).items():
            runs.add(f"router_full_{name}", value, "bytes/task" if "bytes" in name else "us/task")
    settings = {"tasks": tasks, "batch": BATCH, "runs": repeats, "queued": queued}
    return Report("micro", settings, machine, runs.figures)


def measure_memory(queued: int) -> dict[str, float]:
    """See ``bench.micro.memory``."""
    command = [sys.executable, "-m", "bench.micro.memory", str(queued)]
    done = subprocess.run(command, capture_output=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def profile(tasks: int) -> dict[str, str]:
    """The hottest functions of each part, as text."""
    found = {}
    for name, run in PARTS.items():
        watch = Stopwatch(profile=True)
        run(max(BATCH, tasks // BATCH * BATCH), watch)
        found[name] = watch.hottest(HOTTEST)
    return found
