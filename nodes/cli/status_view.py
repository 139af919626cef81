"""From what a router says of itself (``mesh.core.status``) to what people read. Pure."""

from __future__ import annotations

from typing import Any

from nodes.counts import count_of, number
from nodes.tables import Table

Status = dict[str, Any]


def rates(before: Status, after: Status) -> dict[str, float]:
    """Tasks accepted and finished per second between two looks at the same router."""
    seconds = after["router"]["uptime_s"] - before["router"]["uptime_s"]
    if seconds <= 0 or before["router"]["boot"] != after["router"]["boot"]:
        return {"accepted_per_s": 0.0, "finished_per_s": 0.0}
    accepted = after["router"]["accepted"] - before["router"]["accepted"]
    finished = sum(after["router"]["finished"].values()) - sum(before["router"]["finished"].values())
    return {"accepted_per_s": accepted / seconds, "finished_per_s": finished / seconds}


def headline(mesh: str, status: Status, per_s: dict[str, float]) -> str:
    """The router, in two lines; then, where there is something to tell, its keys and what it has turned away."""
    router = status["router"]
    finished = router["finished"]
    failed = sum(count for state, count in finished.items() if state != "succeeded")
    first = (
        f"mesh {mesh}: {router['name']}, up {duration(router['uptime_s'])}, level {router['durability']}, "
        f"{count_of(router['clients'], 'client')}"
    )
    if router["store_full"]:
        first += ", STORE FULL: accepts nothing"
    second = (
        f"{number(router['tasks'])} unfinished, {number(finished.get('succeeded', 0))} succeeded, "
        f"{number(failed)} ended otherwise; now {rate(per_s['accepted_per_s'])} in, "
        f"{rate(per_s['finished_per_s'])} done"
    )
    return "\n".join(line for line in (first, second, _mesh_keys(router), _turned_away(router)) if line)


def _mesh_keys(router: Status) -> str:
    """While two count: how many connections there are with each."""
    keys = router.get("transport", {}).get("keys", {})
    if len(keys) < 2:
        return ""
    return "mesh keys, the newest first: " + ", ".join(
        f"{key} with {count_of(n, 'connection')}" for key, n in keys.items()
    )


def _turned_away(router: Status) -> str:
    """What was kept out since the router's start; empty where nothing was."""
    sockets = router.get("transport", {}).get("counters", {})
    messages = router.get("counters", {})
    lan = router.get("transport", {}).get("lan", {})
    kinds = {
        "mute connection": sockets.get("mute", 0),  # its key was wrong, mostly
        "revoked connection": sockets.get("revoked", 0),
        "flooding connection": sockets.get("flooding", 0) + sockets.get("cut", 0),  # it sent or asked too much at once
        "forbidden message": sum(messages.get(why, 0) for why in ("refused", "garbage")),
        "false announcement": sum(lan.values()),
    }
    found = [count_of(count, kind) for kind, count in kinds.items() if count]
    return f"turned away since its start: {', '.join(found)}" if found else ""


def workers_table(status: Status) -> Table:
    """One row for each worker."""
    table = Table("workers", ["worker", ">slots", ">running", ">held", ">credit", ">settled", "queues", "note"])
    for worker in status["workers"]:
        notes = ["draining"] if worker["draining"] else []
        if worker["silent_s"] > 3.0:
            notes.append(f"silent for {worker['silent_s']:.0f} s")
        counts = [worker[key] for key in ("slots", "running", "held", "credit", "settled")]
        table.rows.append(
            [worker["name"], *map(number, counts), ", ".join(worker["queues"]), ", ".join(notes)],
        )
    return table


def queues_table(status: Status) -> Table:
    """One row for each queue that is served or has tasks."""
    left_out = status.get("left_out", {}).get("queues", 0)
    title = f"queues ({number(left_out)} with fewer tasks are not shown)" if left_out else "queues"
    table = Table(title, ["queue", ">ready", ">running", ">scheduled", ">parked", "why parked"])
    for queue in status["queues"]:
        counts = [queue[key] for key in ("ready", "running", "scheduled", "parked")]
        why = "; ".join(dict.fromkeys(queue["parked_why"]))
        table.rows.append([queue["name"], *map(number, counts), why])
    return table


def rate(per_s: float) -> str:
    return f"{number(per_s)}/s" if per_s >= 10 or per_s == 0 else f"{per_s:.1f}/s"


def duration(seconds: float) -> str:
    """The two largest units that say something: 3 d 4 h, 12 min, 8 s."""
    left = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if left >= size or (unit == "s" and not parts):
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2])
