"""Tasks that two routers deliver: a client gave one to the second, for the first was gone and could not say it had it;
or the second has adopted what the first had.

A worker that serves both runs it once. A delivery of what it has from another router waits as a twin for how that
ends; what it finished a while ago it answers with the result it has. All of it only where there are several routers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping

from msgspec.structs import replace

from mesh.core.executors import Held
from mesh.core.holding import Holding
from mesh.core.worker_router import WorkerRouter
from mesh.model import Blob, Delivery, Ending, Peer, Settlement, TaskOptions
from mesh.settings import Settings

FINAL = (Ending.SUCCEEDED, Ending.FAILED)


class Twins:
    """Of one worker node."""

    def __init__(self, settings: Settings, holding: Holding) -> None:
        self._settings = settings
        self._holding = holding
        self._twins: dict[str, list[Held]] = {}  # by task id; another router's delivery of it is held
        self._finished: OrderedDict[str, tuple[Peer, Settlement]] = OrderedDict()  # the oldest first
        self._finished_bytes = 0

    def take(
        self,
        router: WorkerRouter,
        deliveries: list[Delivery],
        options: Mapping[int, TaskOptions],
        orphans: Collection[str] = (),
    ) -> list[Delivery]:
        """Take what another router has delivered too; the rest. ``orphans``: what runs for one that is forgotten."""
        rest: list[Delivery] = []
        held, finished, peer = self._holding.held, self._finished, router.peer
        for delivery in deliveries:
            one = held.get(delivery.id)
            is_twin = delivery.id in orphans if one is None else one.router != peer
            if is_twin:
                self._add(Held(peer, delivery, options[delivery.option]))
                continue
            known = finished.get(delivery.id)
            if known is not None and known[0] != peer:
                router.fresh.append(replace(known[1], attempt=delivery.attempt))
                continue
            if self._twins:  # what it waited for was given up in this wake-up
                self.drop(peer, [delivery.id])
            rest.append(delivery)
        return rest

    def _add(self, twin: Held) -> None:
        others = [one for one in self._twins.get(twin.delivery.id, ()) if one.router != twin.router]
        self._twins[twin.delivery.id] = [*others, twin]

    def share(self, lost: Peer, router: Peer) -> list[tuple[str, int]]:
        """What ``lost`` delivered is ``router``'s, too, unless that has delivered it by itself; the attempts."""
        shared: list[tuple[str, int]] = []
        held = self._holding.held
        for one in (*self._holding.of(lost), *self.of(lost)):
            delivery = one.delivery
            holder = held.get(delivery.id)
            if holder is not None and holder.router == router:
                continue
            if all(twin.router != router for twin in self._twins.get(delivery.id, ())):
                self._add(Held(router, delivery, one.options))
                shared.append((delivery.id, delivery.attempt))
        return shared

    @property
    def any(self) -> bool:
        """Whether anything waits for how another router's delivery of it ends."""
        return bool(self._twins)

    def settle(self, routers: Mapping[Peer, WorkerRouter], of_forgotten: list[tuple[Peer, list[Settlement]]]) -> None:
        """What was settled in this wake-up for one router is settled for the twins, and remembered.

        ``of_forgotten``: for routers that are forgotten; nothing is left of it.
        """
        for peer, router in list(routers.items()):
            for settlement in list(router.fresh):
                self._settle(peer, settlement, routers)
        for peer, settlements in of_forgotten:
            for settlement in settlements:
                self._settle(peer, settlement, routers)
        of_forgotten.clear()

    def _settle(self, peer: Peer, settlement: Settlement, routers: Mapping[Peer, WorkerRouter]) -> None:
        if settlement.ending in FINAL and isinstance(settlement.payload, bytes):
            self._remember(peer, settlement)
        for twin in self._twins.pop(settlement.id, ()):
            other = routers.get(twin.router)
            if other is not None:
                other.fresh.append(replace(settlement, attempt=twin.delivery.attempt))

    def _remember(self, peer: Peer, settlement: Settlement) -> None:
        """Large payloads are kept for one router only, so their tasks are not remembered."""
        finished = self._finished
        if settlement.id in finished:
            return
        finished[settlement.id] = (peer, settlement)
        self._finished_bytes += len(settlement.payload)  # type: ignore[arg-type]
        settings = self._settings
        while len(finished) > settings.finished_max or self._finished_bytes > settings.finished_bytes_max:
            _, (_, oldest) = finished.popitem(last=False)
            self._finished_bytes -= len(oldest.payload)  # type: ignore[arg-type]

    def of(self, router: Peer) -> list[Held]:
        """The twins that this router delivered."""
        return [twin for twins in self._twins.values() for twin in twins if twin.router == router]

    def blobs(self) -> set[str]:
        """Keys of the large payloads of twins: they may have to be run."""
        payloads = [twin.delivery.payload for twins in self._twins.values() for twin in twins]
        return {payload.key for payload in payloads if isinstance(payload, Blob)}

    def drop(self, router: Peer, ids: Iterable[str]) -> None:
        """This router does not want these from us any more."""
        for task_id in ids:
            left = [twin for twin in self._twins.get(task_id, ()) if twin.router != router]
            if left:
                self._twins[task_id] = left
            else:
                self._twins.pop(task_id, None)

    def promote(self, running: Collection[str]) -> None:
        """Where what was held was given up, and does not run, its twin is to be run.

        ``running``: the ids that executors have: how they end is told to the twins, too.
        """
        held = self._holding.held
        for task_id in [task_id for task_id in self._twins if task_id not in held and task_id not in running]:
            first, *others = self._twins.pop(task_id)
            if others:
                self._twins[task_id] = others
            self._holding.add(first.router, [first.delivery], {first.delivery.option: first.options})

    def check(self, running: Collection[str]) -> None:
        """Raise ``AssertionError`` unless the bytes are counted right, and each twin waits for another's delivery."""
        payloads = [settlement.payload for _, settlement in self._finished.values()]
        assert self._finished_bytes == sum(map(len, payloads))  # type: ignore[arg-type]
        for task_id, twins in self._twins.items():
            one = self._holding.held.get(task_id)
            assert one is not None or task_id in running, "a twin of what nobody runs"
            assert one is None or all(twin.router != one.router for twin in twins)
