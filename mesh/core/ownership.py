"""Which of several routers fires an entry: of those that fire, the one whose hash with its name is the greatest.

Routers that are parted cannot agree; those that hear each other need not. Each says which routers it counts among those
that fire, itself only once it had time to find others. A router fires an entry when it is its owner by what it counts,
and no other that it hears is the owner by what that one said last: so one lets go before the next begins. One that is
not heard any more keeps its entries for a while, for it may be back, or be firing where it cannot be heard. One that
nobody leads for a while counts itself no more among those that fire, where there are others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hashlib import blake2b
from math import inf

from mesh.settings import Settings


def owner(routers: Collection[str], entry: str) -> str | None:
    """Whose of these routers an entry is; all that ask with the same routers are told the same."""
    return max(routers, key=lambda router: (_weight(router, entry), router), default=None)


def _weight(router: str, entry: str) -> bytes:
    return blake2b(f"{router}|{entry}".encode(), digest_size=8).digest()


class _Other:
    """Another router. ``fires``: which it counts among those that fire; None: it has not said."""

    __slots__ = ("fires", "gone_at", "said_at")

    def __init__(self, now: float, gone_at: float) -> None:
        self.said_at = now  # or when it was met
        self.gone_at = gone_at  # monotonic; inf while it is heard
        self.fires: frozenset[str] | None = None


class Ownership:
    """Of one router. All times are monotonic seconds."""

    def __init__(self, settings: Settings, router_id: str, *, shared: bool = False) -> None:
        """``shared``: the store that routers share grants due times, so no majority of them is needed for that."""
        self._settings = settings
        self._by_majority = settings.schedule_partition == "majority" and not shared
        self._me = router_id
        self._others: dict[str, _Other] = {}
        self._is_alone = True  # there was no other at the start
        self._ready_at = 0.0
        self._led_until = inf  # or a while after the last leader was gone
        self._joined_at = -inf  # when we began to count ourselves; others may not know it for a while
        self._waits_until = 0.0  # for the word of a router that may begin to fire, and not know yet that we do
        self._owned: dict[str, bool] = {}
        self._asides: list[tuple[str, frozenset[str]]] = []  # others that count otherwise than we do, and how
        self.fires = frozenset({router_id})  # those we count among the routers that fire
        self._is_waiting = False
        self.hears_too_few = False  # to fire anything
        self.version = 0  # grows when an entry may have another owner

    def begin(self, *, others: bool) -> None:
        """At a start; ``others``: there may be other routers, which have first to be found.

        Else those that come find this one, and wait until it has said which entries are theirs.
        """
        self._is_alone = not others and not self._by_majority
        if not self._is_alone:
            self._ready_at = inf
            self.fires = frozenset()
            self._owned = {}
            self.version += 1

    def see(self, routers: Collection[str], lost: Mapping[str, float], now: float) -> None:
        """These are heard now. ``lost``: when those were heard last that are not any more."""
        for router in routers:
            other = self._others.setdefault(router, _Other(now, inf))
            if other.gone_at != inf:
                other.gone_at = inf
        for router, other in self._others.items():
            if router not in routers and other.gone_at == inf:
                other.gone_at = lost.get(router, now) + self._patience_s
        self.tick(now)

    def hear(self, router: str, fires: Collection[str], now: float) -> None:
        """``router`` says which it counts among those that fire."""
        other = self._others.setdefault(router, _Other(now, now + self._patience_s))
        other.fires, other.said_at = frozenset(fires), now
        self.tick(now)

    def says(self, router: str) -> frozenset[str]:
        """Which ``router`` counts among those that fire, as it said last."""
        other = self._others.get(router)
        return (other.fires if other is not None else None) or frozenset()

    def follow(self, *, leads: bool, now: float) -> None:
        """Whether a worker leads here: where none does for a while, others are to fire what is ours."""
        until = inf if leads else min(self._led_until, now + self._settings.schedule_takeover_s)
        if until != self._led_until:
            self._led_until = until
            self.tick(now)

    def excuse(self, away_s: float, now: float) -> None:
        """We did nothing for so long: where others may have taken over, it is as after a start."""
        may_have_others = bool(self._others) or not self._is_alone
        if may_have_others and away_s > self._settings.heartbeat_s * self._settings.liveness:
            self._ready_at = now + self._settings.schedule_settle_s

    def tick(self, now: float) -> None:
        """Look who is to be counted now."""
        if self._ready_at == inf:
            self._ready_at = now + self._settings.schedule_settle_s
        self._others = {router: other for router, other in self._others.items() if now < other.gone_at}
        doubtful = [other.said_at for router, other in self._others.items() if self._may_begin(router, other)]
        self._waits_until = max(doubtful, default=-inf) + self._settings.schedule_settle_s
        fires = {router for router, other in self._others.items() if other.fires is not None and router in other.fires}
        self.hears_too_few = now >= self._ready_at and not self._hears_enough()
        is_led = now < self._led_until or not self._others
        if now >= self._ready_at and not self.hears_too_few and is_led:
            fires.add(self._me)
            if self._me not in self.fires:
                self._joined_at = now
            if any(map(self._is_unaware, self._others.values())):
                self._waits_until = max(self._waits_until, self._joined_at + self._settings.schedule_settle_s)
        counted = frozenset(fires)
        asides = [
            (router, other.fires)
            for router, other in self._others.items()
            if other.fires is not None and other.fires != counted
        ]
        is_waiting = now < self._waits_until
        if (counted, asides, is_waiting) != (self.fires, self._asides, self._is_waiting):
            self.fires, self._asides, self._is_waiting = counted, asides, is_waiting
            self._owned = {}
            self.version += 1

    def _may_begin(self, router: str, other: _Other) -> bool:
        """Whether it may begin to fire what is ours, for it does not count us, or has not said."""
        return other.fires is None or (router not in other.fires and self._me not in other.fires)

    def _is_unaware(self, other: _Other) -> bool:
        """Whether it is heard, and may not have heard yet that we fire: it may begin in the same moment."""
        return other.gone_at == inf and other.fires is not None and self._me not in other.fires

    def _hears_enough(self) -> bool:
        heard = 1 + sum(other.gone_at == inf for other in self._others.values())
        return not self._by_majority or 2 * heard > self._settings.schedule_routers

    def owns(self, entry: str) -> bool:
        """Whether this router is to fire this entry now."""
        owned = self._owned.get(entry)
        if owned is None:
            owned = self._owned[entry] = (
                not self._is_waiting
                and owner(self.fires, entry) == self._me
                and all(owner(fires, entry) != router for router, fires in self._asides)
            )
        return owned

    def owner_of(self, entry: str) -> str | None:
        """Whose it is by what we count; that one may still wait for another to let go. None: nobody fires."""
        return owner(self.fires, entry)

    def forget(self, entry: str) -> None:
        """There is no such entry any more."""
        self._owned.pop(entry, None)

    @property
    def _patience_s(self) -> float:
        """For how long a router that is not heard keeps its entries."""
        settings = self._settings
        return settings.heartbeat_s * settings.liveness + settings.schedule_takeover_s

    def next_deadline(self, now: float) -> float:
        """When ``tick`` has something to do."""
        times = [other.gone_at for other in self._others.values()]
        times += [at for at in (self._ready_at, self._waits_until, self._led_until) if at > now]
        return min(times, default=inf)
