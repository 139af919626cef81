"""When an entry goes that is due once: some time after it was, or would have been.

Not what stands in code, or is held back by somebody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mesh.clock import Now
from mesh.core.firing import Firings
from mesh.core.moments import Moments
from mesh.core.ownership import Ownership
from mesh.entries import Entry
from mesh.schedules import Once, microseconds
from mesh.settings import Settings


class Onces:
    """Of one router."""

    def __init__(self, settings: Settings, firings: Firings, ownership: Ownership) -> None:
        self._stays_s = settings.schedule_done_s
        self._firings = firings
        self._ownership = ownership
        self._moments = Moments[float]()  # when to look at what goes by itself: UTC seconds

    def watch(self, entry: Entry) -> None:
        """There is such an entry now."""
        if isinstance(entry.schedule, Once) and entry.app is None and not entry.gone:
            self._moments.put(entry.name, entry.schedule.at + self._stays_s)

    def forget(self, name: str) -> None:
        """There is no such entry any more."""
        self._moments.forget(name)

    def over(self, entries: Mapping[str, Entry], now: Now) -> Iterator[str]:
        """Those of these entries that go now."""
        for name in [*iter(lambda: self._moments.take(now.wall), None)]:  # some are to be looked at again at once
            entry = entries[name]
            once = entry.schedule
            if isinstance(once, Once) and entry.app is None and not entry.paused and self._is_over(entry, once.at, now):
                yield name

    def _is_over(self, entry: Entry, at: float, now: Now) -> bool:
        was_due = microseconds(at) <= self._firings.after_us(entry)
        over_at = (at if was_due else at + entry.catchup_window_s) + self._stays_s
        if now.wall < over_at:
            self._moments.put(entry.name, over_at)
            return False
        if self._firings.is_under_way(entry.name) or not self._ownership.owns(entry.name):
            self._moments.put(entry.name, now.wall + self._stays_s)
            return False
        if not was_due:
            self._firings.miss(entry, microseconds(at))
        return True
