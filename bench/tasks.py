"""The task functions that the meshes under test run, and their competitors too."""

from __future__ import annotations

from mesh import Mesh

app = Mesh("bench.tasks")


def nothing(element: int | None = None) -> None:
    """Do nothing."""


noop = app.task(nothing)
