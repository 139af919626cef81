"""The demo: analyse Python's standard library on a mesh whose processes are killed meanwhile, and lose nothing."""

from __future__ import annotations

import os
import random
import signal
import sysconfig
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
from rich.console import Console

import mesh
from mesh.errors import MeshError, TimeoutError, Unavailable
from nodes.demo import analysis
from nodes.demo.analysis import FileReport, analyse
from nodes.demo.private_mesh import PrivateMesh
from nodes.demo.progress import LiveProgress, PlainProgress
from nodes.demo.report import print_report

ALONE_S = 2.0  # one process alone works this long: enough to know its speed
WORK_S = 12.0  # the mesh is given as many files as would take one process so long
PATIENCE_S = 60.0  # for all results
LOOK_S = 0.2


@dataclass(slots=True)
class Story:
    """What happened."""

    files: int = 0
    total_bytes: int = 0
    alone_files: int = 0
    alone_bytes: int = 0
    alone_s: float = 0.0
    mesh_s: float = 0.0
    reports: list[FileReport] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)
    redelivered: int = 0
    counted: int = 0  # outcomes by the router's own count

    @property
    def went_well(self) -> bool:
        return not self.lost and not self.failed and self.counted == self.files


def run_demo(slots: int, console: Console) -> int:
    """Run it; the exit code: 1 when anything was lost or failed. Raises ``Unavailable`` when no mesh comes up."""
    story = Story()
    with PrivateMesh(slots) as private:  # it starts while the files are read
        sizes = _read_files()
        router = private.wait_router()
        say = partial(console.print, soft_wrap=True)
        say("[bold]mesh demo[/]: measure the files of Python's standard library, one task for each\n")
        say(f"  a mesh of its own   {private.directory}: router, store on disk, worker with {slots} executors")
        paths = _measure_alone(sizes, story)
        speed = story.alone_files / story.alone_s
        say(f"  one process alone   {speed:,.0f} files/s, measured on {story.alone_files:,} files")
        say("  the function        is shipped: the worker was started without any app\n")
        with mesh.Mesh("demo", mesh=private.name, router=router) as app:
            progress = (LiveProgress if console.is_terminal else PlainProgress)(console, len(paths))
            with progress:
                _run_on_mesh(app, private, paths, story, progress)
            _ask_router(app, story)
    print_report(story, console)
    return 0 if story.went_well else 1


def _read_files() -> dict[str, int]:
    """The files with their sizes; read once, so that neither side is slowed down by the disk."""
    root = Path(sysconfig.get_path("stdlib"))
    found = [p for p in sorted(root.rglob("*.py")) if not {"site-packages", "dist-packages"} & {*p.parts}]
    random.Random(0).shuffle(found)  # large and small ones mixed, the same way each time
    return {str(path): len(path.read_bytes()) for path in found if path.is_file()}


def _measure_alone(sizes: dict[str, int], story: Story) -> list[str]:
    """Work in this process for a while; the files that the mesh is to do."""
    paths = [*sizes]
    begun = time.perf_counter()
    for path in paths:
        analyse(path)
        story.alone_files += 1
        story.alone_s = time.perf_counter() - begun
        if story.alone_s >= ALONE_S:
            break
    done = story.alone_files
    story.alone_bytes = sum(sizes[path] for path in paths[:done])
    chosen = paths[: max(1, round(WORK_S * done / story.alone_s))]
    story.files, story.total_bytes = len(chosen), sum(sizes[path] for path in chosen)
    return chosen


def _run_on_mesh(app: Any, private: PrivateMesh, paths: list[str], story: Story, progress: Any) -> None:
    # By value, also where this package is installed: the point is that workers need nothing.
    cloudpickle.register_pickle_by_value(analysis)
    begun = time.perf_counter()
    by_id = {(result := app.submit(analyse, path)).id: result for path in paths}
    kills = [(len(paths) // 4, _kill_executor), (len(paths) // 2, _kill_worker)]
    done = 0
    with _Workers(app, progress):
        try:
            for result in app.as_completed(by_id.values(), timeout=PATIENCE_S):
                done += 1
                progress.advance()
                _collect(result, story)
                while kills and done >= kills[0][0]:
                    kills.pop(0)[1](private, story, progress.say)
        except TimeoutError:
            pass  # what is missing is counted next
    story.mesh_s = time.perf_counter() - begun
    story.lost = [task_id for task_id, result in by_id.items() if not result.is_settled()]


def _collect(result: Any, story: Story) -> None:
    value = result.get(propagate=False)
    if result.successful():
        story.reports.append(value)
    else:
        story.failed.append(f"{result.id}: {value!r}")


def _kill_executor(private: PrivateMesh, story: Story, say: Callable[[str], None]) -> None:
    _kill(private.executor_pid(), "an executor process", "the worker starts another", story, say)


def _kill_worker(private: PrivateMesh, story: Story, say: Callable[[str], None]) -> None:
    _kill(private.worker_pid(), "the whole worker node", "the supervisor starts another", story, say)


def _kill(pid: int | None, what: str, then: str, story: Story, say: Callable[[str], None]) -> None:
    if pid is None:
        say(f"{what} is down already")
        return
    os.kill(pid, signal.SIGKILL)
    story.killed.append(what)
    say(f"kill -9 {pid}: {what}; {then}")


class _Workers:
    """Tells the progress display, now and then, how many executors there are."""

    def __init__(self, app: Any, progress: Any) -> None:
        self._app = app
        self._progress = progress
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        known: set[str] = set()
        while not self._ended.wait(LOOK_S):
            try:
                workers = self._app.status(timeout=1.0)["workers"]
            except MeshError:
                continue
            for worker in workers:
                if known and worker["id"] not in known:
                    self._progress.say(f"a new worker node has joined: {worker['name']}")
                known.add(worker["id"])
            self._progress.workers(len(workers), sum(worker["slots"] for worker in workers))


def _ask_router(app: Any, story: Story) -> None:
    """What the router counted, to hold against what was counted here."""
    try:
        router = app.status()["router"]
    except Unavailable:
        return
    story.redelivered = router["counters"].get("redelivered", 0)
    story.counted = sum(router["finished"].values())
