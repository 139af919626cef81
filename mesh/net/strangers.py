"""Connections whose greeting failed: why, and where they came from.

libzmq tells descriptors of connections that are made and that end, and nothing of which one has failed in between; but
who fails mostly ends at once. So an address may be taken for another's where two fail together, and one that fails
before we have looked has none; no count is wrong.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

from mesh.core.few import few
from mesh.net import monitor
from mesh.net.arrivals import Counters, Problem, Trouble
from mesh.net.descriptors import borrowed

NAMED_MAX = 5  # addresses in one line
KEPT_MAX = 1_000  # addresses; the connections of further ones are counted by their number only

ANOTHER_KEY = "it expects a router with another mesh key"
NOT_OURS = "its key is not of this mesh"


class Strangers:
    """Of one listener. All is told in the order in which libzmq does."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._addresses: dict[int, str] = {}  # by descriptor, of the connections there are
        self._failing: list[str] = []  # why, of those whose end is still to be seen
        self._ended: dict[str, Counter[str]] = {}  # whence, by why, since ``problems``
        self.came_from: Counter[str] = Counter()
        """With another key: how many connections, by address."""

    def accept(self, fd: int) -> None:
        """A connection is made."""
        address = self.address_of(fd)
        if address:
            self._addresses[fd] = address

    @staticmethod
    def address_of(fd: int) -> str:
        """Where a connection comes from; empty where it has ended, and its descriptor perhaps is another's."""
        with suppress(OSError), borrowed(fd) as connection:
            address = connection.getpeername()
            return str(address[0]) if isinstance(address, tuple) else ""
        return ""

    def address(self, fd: int) -> str:
        """Where a connection came from; empty where that is not known."""
        return self._addresses.get(fd, "")

    def fail(self, kind: int, value: int) -> None:
        """A greeting failed."""
        why = _reason(kind, value)
        self._counters.greetings_failed += 1
        self._counters.other_keys += why in (ANOTHER_KEY, NOT_OURS)
        self._failing.append(why)

    def end(self, fd: int, *, is_known: bool) -> None:
        """A connection has ended; ``is_known``: it had spoken."""
        address = self._addresses.pop(fd, "")
        if is_known:
            return
        if not self._failing:
            self._counters.mute += 1
            return
        why = self._failing.pop()  # the last: most end in the moment in which they fail
        self._ended.setdefault(why, Counter())[address] += 1
        if why in (ANOTHER_KEY, NOT_OURS) and (address in self.came_from or len(self.came_from) < KEPT_MAX):
            self.came_from[address] += 1

    def problems(self, endpoints: list[str]) -> list[Problem]:
        """What to tell of those that have ended since."""
        ended, self._ended = self._ended, {}
        return [
            Problem(
                Trouble.GREETING,
                f"{times.total()} connection(s) to {', '.join(endpoints)} failed the greeting: {why}{_whence(times)}",
            )
            for why, times in ended.items()
        ]


def _whence(times: Counter[str]) -> str:
    known = [address for address, _ in times.most_common() if address]
    return f" (from {few(known, NAMED_MAX)})" if known else ""


def _reason(kind: int, value: int) -> str:
    if kind == monitor.DENIED:
        return NOT_OURS
    if kind == monitor.GREETING_REFUSED and value == monitor.BAD_CRYPTOGRAPHY:
        return ANOTHER_KEY
    if kind == monitor.GREETING_REFUSED and value == monitor.MECHANISM_MISMATCH:
        return "it has no mesh key"
    if kind == monitor.GREETING_REFUSED:
        return f"it does not speak our protocol (0x{value:x})"
    return "it went away, or has no mesh key"
