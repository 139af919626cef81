"""How a scenario is to be run: what the command line says, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench.joined import Running, slots
from bench.meshes import RunningMesh, running_mesh
from bench.peers import floor, floor_nodes
from bench.progress import Runs
from mesh.settings import Settings

MATTERING = (
    "batch_tasks_max",
    "submit_tasks_max",
    "credit_s",
    "credit_max",
    "chunk_s",
    "chunk_max",
    "inline_bytes_max",
)
"""Settings whose values a reader of the figures must know."""


@dataclass(frozen=True)
class Plan:
    """``tasks``: tasks, or round trips, in one run of the mesh. ``running``: measure this mesh, start none.

    ``quick``: fewer and smaller cases, besides fewer tasks. ``profile``: split where the time goes.
    """

    level: str
    concurrency: int
    runs: int
    tasks: int
    quick: bool = False
    running: Running | None = None
    profile: bool = False

    def settings(self, **more: object) -> dict[str, Any]:
        """Everything that matters, for the report."""
        values = asdict(Settings.from_environment())
        mesh = {name: values[name] for name in MATTERING}
        found: dict[str, Any] = {"level": self.level, "executors": self.concurrency, "runs": self.runs}
        if self.running is not None:
            found = {"against": ", ".join(self.running.routers) or self.running.name or "running", **found}
        return {**found, **more, "mesh": mesh}

    def beside(self, mesh: RunningMesh) -> Plan:
        """This plan, with the level of a mesh that runs already, and as many processes for others as it has slots."""
        if mesh.is_ours:
            return self
        return replace(self, level=mesh.level, concurrency=round(sum(slots(mesh.environ).values())))

    @contextmanager
    def mesh(self, directory: Path) -> Iterator[RunningMesh]:
        """The mesh to measure: one that is started here, or the one that was given."""
        if self.running is not None:
            yield self.running.mesh(directory)
            return
        with running_mesh(directory, level=self.level, concurrency=self.concurrency) as mesh:
            yield mesh

    @contextmanager
    def one_more(self, directory: Path, **different: Any) -> Iterator[RunningMesh]:
        """One more mesh like the first, on the same disk. It does nothing while others are measured."""
        directory.mkdir()
        with running_mesh(directory, level=self.level, concurrency=self.concurrency, **different) as mesh:
            yield mesh


@dataclass(frozen=True)
class Turn:
    """What an entrant does when it is its turn, and before the first turn of all; ``text`` tells of it."""

    text: str
    measure: Callable[[], object]
    warm_up: Callable[[], object] | None = None


def take_turns(turns: Sequence[Turn], times: int, runs: Runs) -> None:
    """One after the other (A B C A B C ...), so that a slow minute hits all of them."""
    warm_ups = [(turn.text, turn.warm_up) for turn in turns if turn.warm_up is not None]
    runs.expect(len(warm_ups) + len(turns) * times)
    for text, warm_up in warm_ups:
        runs.step(f"warming up {text}")
        warm_up()
    for _ in range(times):
        for turn in turns:
            runs.step(turn.text)
            turn.measure()


def floor_settings() -> Mapping[str, int]:
    """The floor's batch sizes."""
    return {
        "submit": floor.SUBMIT,
        "ahead": floor.AHEAD,
        "window": floor_nodes.WINDOW,
        "chunk": floor_nodes.CHUNK,
    }
