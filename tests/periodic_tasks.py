"""An app with periodic tasks, for the tests with real processes."""

from __future__ import annotations

from typing import Any

from mesh import Mesh
from tests.cluster_tasks import note

app = Mesh("tests.periodic_tasks")
app.conf.beat_schedule = {
    "fast": {"task": "tests.periodic_tasks.tick", "schedule": 0.1, "args": ("fast",), "catchup": "all"},
    "slow": {"task": "tests.periodic_tasks.tick", "schedule": 0.15, "args": ("slow",), "catchup": "all"},
}


@app.task(bind=True)
def tick(self: Any, name: str) -> str:
    """Say that it ran."""
    note("tick", self.request.id, self.request.attempt)
    return name
