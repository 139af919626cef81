"""What a router says of itself: the body of the REPLY to ``QUERY status``; plain data, in the words of the glossary."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from mesh.clock import Now
from mesh.core.queues import Lane

if TYPE_CHECKING:
    from mesh.core.router import RouterMachine

ROWS_BYTES_MAX = 480 << 10  # of the workers, and of the queues
REASONS_MAX = 20  # of those why a queue is parked
STORE_FULL = "the store is full"  # how the reason begins where it has no room
STORE_AWAY = "the store is away"  # how the reason begins for which a router that waits for its store takes nothing

Row = dict[str, Any]


class SocketStatus(Struct, frozen=True):
    """What a router says of its sockets: what they counted since its start, how many connections there are now.

    ``users``: by who came in over TCP, the most frequent; "" is all that came in over its own user's socket.
    ``keys``: by the id of the mesh key, the newest first. ``lan``: counted of announcements. ``addresses``: where those
    with each mesh key come from; ``other_keys``: where those with any other came from, since its start. Both: the most
    frequent.
    """

    counters: dict[str, int] = {}
    users: dict[str, int] = {}
    keys: dict[str, int] = {}
    lan: dict[str, int] = {}
    addresses: dict[str, dict[str, int]] = {}
    other_keys: dict[str, int] = {}


class StoreStatus(Struct, frozen=True):
    """What a router says of its store. ``free_bytes`` None: no disk. ``given_up``: things its start did not save.

    ``warning``: what is wrong with how the store is set up, for people.
    """

    free_bytes: int | None = None
    free_bytes_min: int = 0
    given_up: int = 0
    warning: str = ""


class OtherStatus(Struct, frozen=True):
    """What a router says of another; ``answers``: it has let this one in, and was not lost since."""

    id: str | None
    address: str
    answers: bool


class Surroundings(Struct, frozen=True):
    """What a router's machine does not see itself."""

    sockets: SocketStatus = SocketStatus()
    store: StoreStatus = StoreStatus()
    others: Sequence[OtherStatus] = ()


def snapshot(router: RouterMachine, now: Now) -> dict[str, Any]:
    """The router, its workers and clients, its queues with what is parked and why, and its counters.

    Where there are too many for one message, the fullest queues and the busiest workers; ``left_out`` counts the rest.
    """
    table = router.table
    all_workers, all_queues = _workers(router, now), _queues(router)
    workers = _fitting(all_workers, lambda row: row["held"])
    queues = _fitting(all_queues, lambda row: row["ready"] + row["running"] + row["scheduled"] + row["parked"])
    return {
        "router": {
            "id": router.router_id,
            "name": router.name,
            "version": router.version,
            "durability": router.durability,
            "boot": router.boot,
            "uptime_s": now.mono - router.since.mono if router.since else 0.0,
            "at": now.wall,
            "store_full": router.full,
            "tasks": len(table.tasks),
            "bytes": table.bytes,
            "limbo": len(table.limbo),
            "accepted": table.accepted,
            "finished": {str(state): count for state, count in table.finished.items()},
            "counters": router.counters,
            "clients": len(router.clients),
            "leader": router.periodic.lease.holder_name,
            "term": router.periodic.lease.term,
            "entries": len(router.periodic.book.entries),
            "fires": sorted(router.periodic.ownership.fires),
            "transport": router.surroundings.sockets,
            "store": router.surroundings.store,
            "others": router.surroundings.others,
        },
        "workers": workers,
        "queues": queues,
        "left_out": {"workers": len(all_workers) - len(workers), "queues": len(all_queues) - len(queues)},
    }


def _fitting(rows: list[Row], weight: Callable[[Row], int]) -> list[Row]:
    """The heaviest rows that fit, in the order in which they came."""
    sizes = [len(msgspec.json.encode(row)) + 1 for row in rows]
    if sum(sizes) <= ROWS_BYTES_MAX:
        return rows
    chosen = []
    left = ROWS_BYTES_MAX
    for place in sorted(range(len(rows)), key=lambda place: -weight(rows[place])):
        if sizes[place] <= left:
            left -= sizes[place]
            chosen.append(place)
    return [rows[place] for place in sorted(chosen)]


def _workers(router: RouterMachine, now: Now) -> list[Row]:
    return [
        {
            "id": worker.node_id,
            "name": worker.name,
            "version": worker.version,
            "python": worker.python,
            "queues": worker.info.queues,
            "tasks": len(worker.info.tasks),
            "slots": worker.info.slots,
            "leads": worker.peer == router.periodic.lease.holder,
            "window": worker.window,
            "credit": worker.credit,
            "held": worker.held,
            "running": min(worker.held, worker.slots),
            "settled": worker.settled,
            "draining": worker.draining,
            "silent_s": now.mono - worker.heard,
        }
        for worker in sorted(router.workers.values(), key=lambda w: w.name)
    ]


def _queues(router: RouterMachine) -> list[Row]:
    rows: defaultdict[str, Row] = defaultdict(
        lambda: {"ready": 0, "running": 0, "scheduled": 0, "parked": 0, "parked_why": []}
    )
    for worker in router.workers.values():
        for queue in worker.info.queues:
            rows[queue]  # a queue that is served is shown, even when it is empty
        for task in worker.leases.values():
            rows[task.kind.options.queue]["running"] += 1
    for lane in router.table.ready:
        if lane.scheduled:
            rows[lane.queue]["scheduled"] += lane.scheduled
        if not len(lane):
            continue
        row = rows[lane.queue]
        why = parked_why(router, lane)
        if why is None:
            row["ready"] += len(lane)
        else:
            row["parked"] += len(lane)
            if why not in row["parked_why"] and len(row["parked_why"]) < REASONS_MAX:
                row["parked_why"].append(why)
    return [{"name": name, **row} for name, row in sorted(rows.items())]


def parked_why(router: RouterMachine, lane: Lane) -> str | None:
    """Why nobody can run what stands in this lane; None when somebody can."""
    if router.able(lane):
        return None
    if not router.workers:
        return "no worker is connected"
    lacks = [worker.lack(lane.queue, lane.need) or "" for worker in router.workers.values()]
    serving = [lack for worker, lack in zip(router.workers.values(), lacks) if lane.queue in worker.info.queues]
    return (serving or lacks)[0]
