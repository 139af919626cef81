"""Waits for a condition with a deadline, and an app whose machine can be looked at meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable

from mesh import Mesh
from mesh.core.client import ClientMachine


def wait_until(condition: Callable[[], object], limit_s: float = 5.0) -> None:
    """Return once ``condition`` holds; fail after ``limit_s``."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"still not true after {limit_s:g} s"
        time.sleep(0.005)


class MeshWithMachine(Mesh):
    """An app that shows what decides for its connection."""

    machine: ClientMachine

    def new_machine(self) -> ClientMachine:
        self.machine = super().new_machine()
        return self.machine
