"""What a start with ``--salvage`` does on Redis: set aside what no router wrote, and count anew from what is there."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from mesh.store.reading import CHUNK, cut
from mesh.store.redis.kinds import kinds, wrong_kind
from mesh.store.redis.link import Link, Value, as_text

log = logging.getLogger("mesh.store")

TOLD_EVERY = 100 * CHUNK  # rows between two words of how far it is

_BEGAN = 1_577_836_800  # 2020: a number that is lost begins anew at the time since then, above all that can have been
# Starts are counted in this: bids for due times are made of them, and scripts tell those below 2**53 apart.
_BOOT_S = 600
_USERS_DIGITS = 9


class Salvage:
    """Of a router whose keys begin with ``base``. ``keep`` is called all the time, so that the lock does not run out.

    ``lines``: what was given up.
    """

    def __init__(self, link: Link, base: str, keep: Callable[[], None]) -> None:
        self._link = link
        self._base = base
        self._keep = keep
        self.lines: list[str] = []

    def set_aside_rows(self, key: str, text: str, names: Sequence[bytes], rows: Mapping[bytes, bytes]) -> None:
        """Move these rows of a hash."""
        for done, some in enumerate(cut(names), 1):
            pairs = [value for name in some for value in (name, rows[name])]
            self._link.commands([("HSET", f"{key}:damaged", *pairs), ("HDEL", key, *some)])
            self._keep()
            if done * CHUNK % TOLD_EVERY == 0:
                log.warning("salvage: %s: %d of %d rows are set aside", key, done * CHUNK, len(names))
        self.lines.append(f"{text}; set aside in key {key}:damaged")

    def set_aside_keys(self, keys: Sequence[str], wanted: bytes) -> None:
        """Rename those of these keys that are of another type."""
        for key, kind in zip(keys, self._link.commands([("TYPE", key) for key in keys])):
            if kind not in (b"none", wanted):
                self.set_aside(key, f"{self._link.name}: {wrong_kind(key)}")

    def set_aside(self, key: str, text: str) -> None:
        """Rename a key."""
        aside = f"{key}:damaged:{time.time_ns() // 1_000_000}"
        self._link.command("RENAME", key, aside)
        self.lines.append(f"{text}; set aside in key {aside}")

    def count_anew(self, lost: Sequence[str]) -> None:
        """Make up for what is missing: numbers of users that are none, and what these keys had."""
        self._count_users()
        if f"{self._base}expiries" in lost:
            for some in self._link.scan(f"{self._base}outcomes", self._keep):
                # The time is in the row: it is looked at when this one has come.
                self._link.command("ZADD", f"{self._base}expiries", *(v for name in some for v in (0, name)))

    def _count_users(self) -> None:
        """How many routers keep each function."""
        users = f"{self._base}users"
        names: set[bytes] = set(self._link.command("HKEYS", f"{self._base}functions"))
        for some in self._link.scan(users, self._keep):
            names -= {name for name, value in some.items() if value.isdigit() and len(value) <= _USERS_DIGITS}
            names |= {name for name, value in some.items() if not value.isdigit() or len(value) > _USERS_DIGITS}
        routers = self._link.command("SMEMBERS", f"{self._base}routers") if names else []
        places = [f"{self._base}r:{as_text(router)}:functions" for router in routers]
        for few in cut(sorted(names)):
            counts = dict.fromkeys(few, 0)
            for place in places:
                for name, used_at in zip(few, self._link.command("ZMSCORE", place, *few)):
                    counts[name] += used_at is not None
            self._link.command("HSET", users, *(value for pair in counts.items() for value in pair))
            self._keep()
        if names:
            self.lines.append(f"{self._link.name} key {users}: {len(names)} functions were counted anew")


def arguments(base: str, mine: str, *, salvage: bool) -> list[Value]:
    """For the script that takes a journal: what is to be there, and what takes the place of numbers that are lost."""
    seconds = max(0.0, time.time() - _BEGAN)
    wanted = [value for pair in kinds(base, mine).items() for value in pair]
    return [int(salvage), int(seconds / _BOOT_S), int(seconds * 1000), *wanted]
