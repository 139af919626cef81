"""Which due times of an entry are to be fired now, and which are left out: on time, missed, or too old."""

from __future__ import annotations

from typing import NamedTuple

from mesh.cron import SECOND_US
from mesh.entries import Entry
from mesh.schedules import Schedule, count_dues, dues_between, microseconds, next_due

LATE_S = 1.0  # a due time not older than this is on time: no clock and no loop is better than that for sure


class Choice(NamedTuple):
    """``firings``: due times, earliest first, and whether each was missed. ``skipped``: how many others there were.

    ``after_us``: nothing up to there is to be looked at again, once the firings are fired.
    """

    firings: list[tuple[int, bool]]
    skipped: int
    after_us: int


def choose(entry: Entry, after_us: int, due_us: int, now_us: int, most: int) -> Choice:
    """What to fire of an entry that has fired all up to ``after_us``; the first ``most`` at the most.

    ``due_us``: the first due time after that. Raises ``ConfigError`` where the schedule names what is not known here.
    """
    late_us = now_us - round(LATE_S * SECOND_US)
    missed: list[int] = []
    skipped = 0
    if due_us <= late_us:
        window_us = max(after_us, now_us - round(entry.catchup_window_s * SECOND_US))
        wanted = {"latest": 1, "all": entry.catchup_max, "skip": 0}[entry.catchup]
        missed = _newest(entry.schedule, window_us, late_us, wanted)
        skipped = count_dues(entry.schedule, after_us / SECOND_US, late_us / SECOND_US) - len(missed)
    firings = [(due, True) for due in missed[:most]]
    if len(firings) < most:
        on_time = _dues(entry.schedule, max(after_us, late_us), now_us, most - len(firings))
        firings += [(due, False) for due in on_time]
    return Choice(firings, skipped, firings[-1][0] if firings else max(after_us, late_us))


def next_due_us(schedule: Schedule, after_us: int) -> int | None:
    """The first due time later than ``after_us``. Raises ``ConfigError``."""
    due = next_due(schedule, after_us / SECOND_US)
    return None if due is None else microseconds(due)


def _newest(schedule: Schedule, after_us: int, until_us: int, count: int) -> list[int]:
    """The last ``count`` due times up to ``until_us``: looked for from the end, for there may be millions before."""
    if count <= 0 or after_us >= until_us:
        return []
    span_us = SECOND_US
    while True:
        since_us = max(after_us, until_us - span_us)
        # A span with fewer is followed by one four times as long, so there is no more in it than can be told.
        found = _dues(schedule, since_us, until_us, 2 * SECOND_US)
        if len(found) >= count or since_us == after_us:
            return found[-count:]
        span_us *= 4


def _dues(schedule: Schedule, after_us: int, until_us: int, most: int) -> list[int]:
    return [microseconds(due) for due in dues_between(schedule, after_us / SECOND_US, until_us / SECOND_US, most)]
