"""From what a router says of itself (``mesh.core.status``) to what people read. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import convert

from mesh.core.status import STORE_AWAY, SocketStatus
from nodes.counts import count_of, number, term_text
from nodes.shown import shown
from nodes.tables import Table

ID_SHORT = 8  # digits of an id
ADDRESSES_SHOWN = 5  # of strangers

Status = dict[str, Any]
Answer = tuple[str | None, str, Status | None]
"""Of a router: its id, where it is, and what it says of itself; None where it has not answered."""


def rates(before: Status, after: Status) -> dict[str, float]:
    """Tasks accepted and finished per second between two looks at the same router."""
    seconds = after["router"]["uptime_s"] - before["router"]["uptime_s"]
    if seconds <= 0 or before["router"]["boot"] != after["router"]["boot"]:
        return {"accepted_per_s": 0.0, "finished_per_s": 0.0}
    accepted = after["router"]["accepted"] - before["router"]["accepted"]
    finished = sum(after["router"]["finished"].values()) - sum(before["router"]["finished"].values())
    return {"accepted_per_s": accepted / seconds, "finished_per_s": finished / seconds}


def headline(mesh: str, status: Status, per_s: dict[str, float]) -> str:
    """The router, in two lines, and, where there is something to tell, its store, its keys and what it turned away."""
    router = status["router"]
    finished = router["finished"]
    failed = sum(count for state, count in finished.items() if state != "succeeded")
    first = (
        f"mesh {mesh}: {router['name']}, up {duration(router['uptime_s'])}, level {router['durability']}, "
        f"{count_of(router['clients'], 'client')}"
    )
    if router["store_full"]:
        first += f", {_no_room(router['store_full'])}: accepts nothing"
    second = (
        f"{number(router['tasks'])} unfinished, {number(finished.get('succeeded', 0))} succeeded, "
        f"{number(failed)} ended otherwise; now {rate(per_s['accepted_per_s'])} in, "
        f"{rate(per_s['finished_per_s'])} done"
    )
    warning = router.get("store", {}).get("warning")
    store = f"WARNING, the store: {warning}" if warning else ""
    lines = (first, store, second, _all_routers(status), _periodic(router), _mesh_keys(router), _turned_away(router))
    return "\n".join(shown(line) for line in lines if line)


def _no_room(reason: str) -> str:
    """Why a router takes nothing, in a word: it says so of a store that does not answer, too."""
    return "STORE AWAY" if reason.startswith(STORE_AWAY) else "STORE FULL"


def away(answers: Sequence[Answer]) -> list[Answer]:
    """Routers that we did not find, and that one which has answered knows, and has no answer from either."""
    known = {router_id or address for router_id, address, _ in answers}
    told: dict[str, Answer] = {}
    for other in (other for _, _, status in answers if status for other in status["router"].get("others", ())):
        name = other["id"] or other["address"]
        if name not in known and not other["answers"]:
            told[name] = (other["id"], other["address"], None)
    return list(told.values())


def router_rows(answers: Sequence[Answer]) -> list[Status]:
    """What each router is like; of one that has not answered only where it should be."""
    rows = []
    for router_id, address, status in answers:
        router = {} if status is None else status["router"]
        row = {key: router.get(key) for key in ("name", "version", "durability", "store_full", "uptime_s", "tasks")}
        workers = None if status is None else len(status["workers"]) + status["left_out"]["workers"]
        rows.append({"id": router_id, "address": address, "answers": status is not None, **row, "workers": workers})
    return sorted(rows, key=lambda row: (not row["answers"], row["name"], row["address"]))


def totals(answers: Sequence[Answer]) -> dict[str, int]:
    """Over the routers that have answered; a worker counts once, however many routers it serves."""
    said = [status for _, _, status in answers if status is not None]
    return {
        "routers": len(answers),
        "answering": len(said),
        "tasks": sum(status["router"]["tasks"] for status in said),
        "workers": len({worker["id"] for status in said for worker in status["workers"]}),
    }


def _all_routers(status: Status) -> str:
    """Where there are several: what they have between them."""
    sums = status.get("totals", {})
    if sums.get("routers", 1) < 2:
        return ""
    mute = sums["routers"] - sums["answering"]
    text = f"all {sums['routers']} routers: {number(sums['tasks'])} unfinished, {count_of(sums['workers'], 'worker')}"
    return f"{text}; {mute} of them {'does' if mute == 1 else 'do'} not answer" if mute else text


def _periodic(router: Status) -> str:
    """Who says what is due, where anything ever is."""
    if not router.get("entries"):
        return ""
    counters = router["counters"]
    leader = f"leader {router['leader']} (term {term_text(router['term'])})" if router["leader"] else "NO LEADER"
    parts = [f"{number(router['entries'])} periodic, {leader}", f"{number(counters['firings'])} fired"]
    for what, text in (("caught_up", "late"), ("skipped", "skipped"), ("stale", "of terms that were over")):
        if count := counters[f"firings_{what}"]:
            parts.append(f"{number(count)} {text}")
    return ", ".join(parts)


def _sockets(router: Status) -> SocketStatus:
    """What it says of its sockets; an older router says less."""
    return convert(router.get("transport", {}), SocketStatus)


def _mesh_keys(router: Status) -> str:
    """While two count: how many connections there are with each."""
    keys = _sockets(router).keys
    if len(keys) < 2:
        return ""
    return "mesh keys, the newest first: " + ", ".join(
        f"{key} with {count_of(n, 'connection')}" for key, n in keys.items()
    )


def _turned_away(router: Status) -> str:
    """What was kept out since the router's start; empty where nothing was."""
    sockets = _sockets(router)
    messages = router.get("counters", {})
    kinds = {
        "failed greeting": sockets.counters.get("greetings_failed", 0) - sockets.counters.get("other_keys", 0),
        "mute connection": sockets.counters.get("mute", 0),
        "revoked connection": sockets.counters.get("revoked", 0),
        "flooding connection": sockets.counters.get("flooding", 0)
        + sockets.counters.get("cut", 0),  # it sent or asked too much at once
        "garbled connection": sockets.counters.get("garbled", 0),
        "forbidden message": sum(messages.get(why, 0) for why in ("refused", "garbage")),
        "false announcement": sum(sockets.lan.values()),
    }
    found = [count_of(count, kind) for kind, count in kinds.items() if count]
    if other_keys := sockets.counters.get("other_keys", 0):
        whence = [address for address in sockets.other_keys if address][:ADDRESSES_SHOWN]
        text = f"{count_of(other_keys, 'connection')} with another key"
        found.insert(0, f"{text} (from {', '.join(whence)})" if whence else text)
    return f"turned away since its start: {', '.join(found)}" if found else ""


def tables(status: Status) -> list[Table]:
    """The routers where there are several, and the workers and queues of the one that is shown."""
    own = [workers_table(status), queues_table(status)]
    return [routers_table(status), *own] if len(status["routers"]) > 1 else own


def routers_table(status: Status) -> Table:
    """One row for each router."""
    table = Table("routers", ["router", "address", "id", ">unfinished", ">workers", "level", "version", "note"])
    for row in status["routers"]:
        counts = ["" if row[key] is None else number(row[key]) for key in ("tasks", "workers")]
        notes = ["shown below"] if row["id"] == status["router"]["id"] else []
        notes += [_no_room(row["store_full"])] if row["store_full"] else []
        notes += [] if row["answers"] else ["does not answer"]
        texts = [row["name"] or "", row["address"].removeprefix("tcp://"), (row["id"] or "")[:ID_SHORT]]
        table.rows.append([*texts, *counts, row["durability"] or "", row["version"] or "", ", ".join(notes)])
    return table


def workers_table(status: Status) -> Table:
    """One row for each worker."""
    table = Table("workers", ["worker", ">slots", ">running", ">held", ">credit", ">settled", "queues", "note"])
    for worker in status["workers"]:
        notes = ["leads"] if worker.get("leads") else []
        notes += ["draining"] if worker["draining"] else []
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
