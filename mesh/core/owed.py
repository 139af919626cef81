"""What a worker node owes its routers: how attempts ended, until it is acknowledged."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import accumulate, chain

from mesh.core.clocks import any_retry_from_now
from mesh.core.commands import Command, Send
from mesh.core.executors import Held
from mesh.core.holding import Holding
from mesh.core.packing import LARGE_BYTES_MAX, pack, settlement_bytes
from mesh.core.worker_router import WorkerRouter
from mesh.messages import Settled
from mesh.model import Blob, Peer, Settlement
from mesh.settings import Settings

HELD_BYTES_MAX = 7 << 18  # of what a HELLO claims, in the 2 MiB a router takes
LARGE_OUT_BYTES_MAX = 2 * LARGE_BYTES_MAX  # of large payloads that a router has not acknowledged; one may have more
HELD_ITEM_BYTES = 8  # what a claim takes besides its id


class Owed:
    """Settlements by router."""

    def __init__(self, settings: Settings, holding: Holding, out: list[Command]) -> None:
        self._settings = settings
        self._holding = holding
        self._out = out
        self.routers: dict[Peer, WorkerRouter] = {}
        self.of_forgotten: list[tuple[Peer, list[Settlement]]] = []  # of this wake-up; was reported as such
        self.wall = 0.0  # of this wake-up

    @property
    def unacked(self) -> int:
        """How many settlements were sent to some router and are not acknowledged."""
        return sum(router.owed for router in self.routers.values())

    def settle(self, one: Held, settlement: Settlement) -> None:
        """``settlement`` is the last word on a delivery."""
        self._holding.give_up(one)
        self.tell(one.router, [settlement])

    def tell(self, peer: Peer, settlements: list[Settlement]) -> None:
        """A router is to be told of these; where it is forgotten, only others that wait for the same tasks."""
        router = self.routers.get(peer)
        if router is None:
            self.of_forgotten.append((peer, settlements))
        else:
            router.fresh += settlements

    def acknowledge(self, router: WorkerRouter, batches: Collection[int]) -> None:
        """A router has these batches of settlements for good."""
        for batch in batches:
            router.owed -= len(router.unacked.pop(batch, ()))
            router.large_out.pop(batch, None)
            router.large_unsent.pop(batch, None)
        self._send_large(router)

    def report(self, router: WorkerRouter) -> None:
        """Tell a router what was settled since, if it is there; keep it until it is acknowledged.

        What has large payloads waits for room in their window, and what has none does not wait behind it.
        """
        fresh, router.fresh = router.fresh, []
        odd = [s for s in fresh if s.retry is not None or type(s.payload) is not bytes]  # mostly none
        large = [settlement for settlement in odd if _large_bytes(settlement)]
        small = [settlement for settlement in fresh if not _large_bytes(settlement)] if large else fresh
        for part in chain(pack(small, settlement_bytes), pack(large, settlement_bytes)):
            router.batch += 1
            router.unacked[router.batch] = settlements = list(part)
            router.owed += len(settlements)
            size = sum(map(_large_bytes, settlements)) if large else 0
            if size:
                router.large_unsent[router.batch] = size
            elif router.session.open:
                self._send(router, router.batch, retries=bool(odd))
        self._send_large(router)

    def share(self, lost: WorkerRouter, router: WorkerRouter) -> list[tuple[str, int]]:
        """Tell ``router``, too, what ``lost`` has not acknowledged; the attempts."""
        owed = [*(s for batch in lost.unacked.values() for s in batch), *lost.fresh]
        router.fresh += owed
        return [(settlement.id, settlement.attempt) for settlement in owed]

    def report_again(self, router: WorkerRouter) -> None:
        """A session begins: tell again what was not acknowledged in the last."""
        router.large_unsent = router.large_out | router.large_unsent
        router.large_out = {}
        for batch in router.unacked:
            if batch not in router.large_unsent:
                self._send(router, batch)
        self._send_large(router)

    def _send_large(self, router: WorkerRouter) -> None:
        while router.large_unsent and router.session.open:
            batch, size = next(iter(router.large_unsent.items()))
            if router.large_out and sum(router.large_out.values()) + size > LARGE_OUT_BYTES_MAX:
                return
            router.large_out[batch] = router.large_unsent.pop(batch)
            self._send(router, batch)

    def _send(self, router: WorkerRouter, batch: int, *, retries: bool = True) -> None:
        """``retries``: there may be some in it."""
        settlements = router.unacked[batch]
        sent_at = self.wall if retries and any_retry_from_now(settlements) else 0.0
        self._out.append(Send(router.peer, Settled(batch, settlements, sent_at)))

    def anything(self, now: float) -> bool:
        """Whether a router that is there, or may be back at once, is to be told or to acknowledge something."""
        return any((one.owed or one.fresh) and not one.session.is_gone(now) for one in self.routers.values())

    def room(self, router: WorkerRouter) -> int:
        """How many deliveries this router may give us, so that a HELLO can claim them all; 0 where it is owed too much.

        What others are owed is no matter of its: one that is gone must not keep the rest from giving us work.
        """
        claims_max = HELD_BYTES_MAX // (HELD_ITEM_BYTES + self._holding.id_bytes)  # in one HELLO
        if router.owed > min(self._settings.unacked_max, 3 * claims_max // 4):
            return 0
        return claims_max // 4

    def claims(
        self, router: WorkerRouter, running: Collection[str], twins: Iterable[Held] = ()
    ) -> list[tuple[str, int]]:
        """What we answer for to this router, as far as it fits; what is left out, it gives out anew.

        That is what waits: ``room`` keeps the rest small, so that only a flood of the longest ids reaches it.
        ``running``: the ids that executors have. ``twins``: what waits for how another router's delivery of it ends.
        """
        own = [(one.delivery.id, one.delivery.attempt) for one in (*self._holding.of(router.peer), *twins)]
        ended = [(s.id, s.attempt) for batch in router.unacked.values() for s in batch]
        if (self._holding.id_bytes + HELD_ITEM_BYTES) * (len(own) + len(ended)) <= HELD_BYTES_MAX:
            return own + ended
        unstarted = [claim for claim in own if claim[0] not in running]
        claims = [claim for claim in own if claim[0] in running] + ended + unstarted
        sizes = accumulate(HELD_ITEM_BYTES + len(task_id.encode()) for task_id, _ in claims)
        fitting = sum(1 for size in sizes if size <= HELD_BYTES_MAX)
        for task_id, _ in claims[max(fitting, len(claims) - len(unstarted)) :]:
            one = self._holding.held.get(task_id)
            if one is not None and one.router == router.peer:
                self._holding.give_up(one)
        return claims[:fitting]

    def blobs(self) -> set[str]:
        """Keys of the large payloads in settlements that no router has acknowledged."""
        settlements = [s for router in self.routers.values() for batch in router.unacked.values() for s in batch]
        return {blob.key for settlement in settlements for blob in _blobs(settlement)}

    def check(self) -> None:
        """Raise ``AssertionError`` unless what is owed is counted right."""
        for router in self.routers.values():
            assert router.owed == sum(len(part) for part in router.unacked.values())
            assert router.large_out.keys() | router.large_unsent.keys() <= router.unacked.keys()
            assert len(router.large_out) < 2 or sum(router.large_out.values()) <= LARGE_OUT_BYTES_MAX


def _blobs(settlement: Settlement) -> list[Blob]:
    payloads = [settlement.payload, settlement.retry.payload if settlement.retry is not None else None]
    return [payload for payload in payloads if isinstance(payload, Blob)]


def _large_bytes(settlement: Settlement) -> int:
    return sum(blob.size for blob in _blobs(settlement))
