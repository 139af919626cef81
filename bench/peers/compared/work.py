"""The functions that every entrant runs. Standard library only: they run in the peers' own environments."""

from __future__ import annotations

import random
from threading import Lock
from time import sleep

SHORT_S, LONG_S = 0.002, 0.1
SHORT, LONG = 190, 10

_process = Lock()


def nothing(element: int | None = None) -> None:
    """Do nothing."""


def echo(data: bytes) -> bytes:
    """Give back what came."""
    return data


def hold(seconds: float) -> None:
    """Have this process to itself for so long, as Python code that computes has: threads do not do it side by side.

    It sleeps meanwhile, so that the time for all tasks says how they were spread, and not what else the machine does.
    """
    with _process:
        sleep(seconds)


def mixed_load() -> list[float]:
    """Many short tasks and a few long ones, in an order that is the same each time."""
    durations = [SHORT_S] * SHORT + [LONG_S] * LONG
    random.Random(95).shuffle(durations)
    return durations
