"""Keeps the mesh under test busy at a steady rate: ``python -m bench.clients.load TASKS_PER_S``.

It says ``{}`` when the load is on, and how much it was when it is told to stop.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections import deque
from collections.abc import Callable
from time import monotonic

from bench.clients.talk import answer
from bench.ending import end_with_starter
from bench.tasks import SHIP, app, let_go, noop, submitter
from mesh import AsyncResult

BEAT_S = 0.002  # between two bursts
RAMP_S = 0.2
PATIENCE_S = 120.0
BEHIND_S = 0.1  # what it falls behind by more than this is not made up for


class Load:
    """``rate`` tasks a second, in small bursts; ``sent`` so far."""

    def __init__(self, rate: float) -> None:
        self.sent = 0
        self._rate = rate
        self._submit = submitter(noop)
        self._waiting: deque[AsyncResult[None]] = deque()
        self._settled: list[AsyncResult[None]] = []
        self._keeps = SHIP in os.environ  # else they are many, and nobody asks for them

    def run(self, wanted: Callable[[], bool]) -> None:
        """Submit for as long as it is wanted."""
        at, owed = monotonic(), 0.0
        while wanted():
            before, at = at, monotonic()
            owed = min(owed + (at - before) * self._rate, BEHIND_S * self._rate)
            burst = int(owed)
            self._waiting.extend([self._submit() for _ in range(burst)])
            self.sent += burst
            owed -= burst
            while self._waiting and self._waiting[0].is_settled():
                settled = self._waiting.popleft()
                if self._keeps:
                    self._settled.append(settled)
            time.sleep(max(0.0, at + BEAT_S - monotonic()))

    def clean_up(self) -> None:
        """Wait for what is under way, and have it forgotten where that is the bench's to do. Raises ``MeshError``."""
        for result in self._waiting:
            result.get(timeout=PATIENCE_S)
        let_go([*self._settled, *self._waiting])


def main(rate: float) -> None:
    """Submit until there is a word on standard input."""
    end_with_starter()
    with app:
        load = Load(rate)
        full = monotonic() + RAMP_S
        load.run(lambda: monotonic() < full)
        answer({})
        before, began = load.sent, monotonic()
        load.run(lambda: not select.select([sys.stdin], [], [], 0)[0])
        found = {"per_s": (load.sent - before) / (monotonic() - began)}
        load.clean_up()
        answer(found)


if __name__ == "__main__":
    main(float(sys.argv[1]))
