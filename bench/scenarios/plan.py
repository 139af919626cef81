"""How a scenario is to be run: what the command line says, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bench.peers import floor, floor_nodes
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
    """``tasks``: tasks, or round trips, in one run of the mesh."""

    level: str
    concurrency: int
    runs: int
    tasks: int

    def settings(self, **more: object) -> dict[str, Any]:
        """Everything that matters, for the report."""
        values = asdict(Settings.from_environment())
        mesh = {name: values[name] for name in MATTERING}
        return {"level": self.level, "executors": self.concurrency, "runs": self.runs, **more, "mesh": mesh}


def floor_settings() -> Mapping[str, int]:
    """The floor's batch sizes."""
    return {
        "submit": floor.SUBMIT,
        "ahead": floor.AHEAD,
        "window": floor_nodes.WINDOW,
        "chunk": floor_nodes.CHUNK,
    }
