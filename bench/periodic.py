"""The periodic tasks of the mesh under test: the app of its workers, whose environment says which entries there are."""

from __future__ import annotations

import os

from bench.tasks import app, noop
from mesh.schedules import Every

ENTRIES = "BENCH_ENTRIES"
"""In a worker's environment: how many entries of each kind, as ``burst=1000,idle=5``."""

BEAT_S = 0.01  # between two due times of a beat: so exactly a pause is seen
FAR_S = 1e9  # due in 2033
SPREAD_S = 1e-6  # intervals that differ by so little are due all over the second: the clock began in 1970


def every(kind: str, place: int) -> Every:
    """The schedule of an entry: all of ``burst`` are due at once, those of ``spread`` at times of their own."""
    seconds = {"burst": 1.0, "spread": 1.0 + place * SPREAD_S, "beat": BEAT_S, "idle": FAR_S}
    return Every(seconds[kind])


def name_of(kind: str, place: int) -> str:
    """The name of an entry."""
    return f"{kind} {place}"


for kind, count in (part.split("=") for part in os.environ.get(ENTRIES, "").split(",") if part):
    for place in range(int(count)):
        # What a leader does not come to in time is made good, so that it is measured how late it was.
        app.conf.beat_schedule[name_of(kind, place)] = {
            "task": noop.name,
            "schedule": every(kind, place),
            "catchup": "all",
            "catchup_max": 10_000,
            "enabled": kind == "idle",
        }
