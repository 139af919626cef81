"""What a router says of itself: the body of the REPLY to ``QUERY status``; plain data, in the words of the glossary."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from mesh.clock import Now
from mesh.core.queues import Lane

if TYPE_CHECKING:
    from mesh.core.router import RouterMachine


def snapshot(router: RouterMachine, now: Now) -> dict[str, Any]:
    """The router, its workers and clients, its queues with what is parked and why, and its counters."""
    table = router.table
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
        },
        "workers": [
            {
                "id": worker.node_id,
                "name": worker.name,
                "version": worker.version,
                "python": worker.python,
                "queues": worker.info.queues,
                "tasks": len(worker.info.tasks),
                "slots": worker.slots,
                "window": worker.window,
                "credit": worker.credit,
                "held": worker.held,
                "running": min(worker.held, worker.slots),
                "settled": worker.settled,
                "draining": worker.draining,
                "silent_s": now.mono - worker.heard,
            }
            for worker in sorted(router.workers.values(), key=lambda w: w.name)
        ],
        "queues": _queues(router),
    }


def _queues(router: RouterMachine) -> list[dict[str, Any]]:
    rows: defaultdict[str, dict[str, Any]] = defaultdict(
        lambda: {"ready": 0, "running": 0, "scheduled": 0, "parked": 0, "parked_why": []}
    )
    for worker in router.workers.values():
        for queue in worker.info.queues:
            rows[queue]  # a queue that is served is shown, even when it is empty
        for task in worker.leases.values():
            rows[task.kind.options.queue]["running"] += 1
    for task in router.table.scheduled():
        rows[task.kind.options.queue]["scheduled"] += 1
    for lane in router.table.ready:
        if not len(lane):
            continue
        row = rows[lane.queue]
        why = parked_why(router, lane)
        if why is None:
            row["ready"] += len(lane)
        else:
            row["parked"] += len(lane)
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
