"""Periodic tasks as data: what is to be run when, how far it has come, and one time that it is due.

Instants that name a task are whole microseconds since 1970-01-01 UTC (``_us``), so that every node means the same one.
Every struct here crosses the wire or is kept in a store: fields may only be added at the end, with a default.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from mesh.model import Count, Id, Instant, Seconds, TaskOptions
from mesh.schedules import Schedule, microseconds

ENTRY_PAYLOAD_BYTES_MAX = 16 << 10  # a router keeps the arguments of all its entries in memory

OWN_IDS = "due@"
"""How the ids begin that routers give to the tasks of entries. Anybody can work them out, so none that is submitted may
begin so: one that was there before would count as the firing."""
NOT_TO_CHOOSE = f"ids that begin with {OWN_IDS!r} are for the tasks that routers make of periodic tasks: choose another"

_encode = msgspec.msgpack.Encoder().encode

DueUs = Annotated[int, Meta(ge=0, le=10**18)]
"""A due time: microseconds since 1970-01-01 UTC."""

DuesSkipped = Annotated[int, Meta(ge=0, le=10**15)]
"""Due times that were left out: of what is due each millisecond, there are no more."""

Duration = Annotated[float, Meta(ge=0.0, le=1e9)]
Catchup = Literal["latest", "all", "skip"]
Overlap = Literal["allow", "skip", "queue_one"]


class Entry(Struct, frozen=True, array_like=True, gc=False):
    """A schedule and the task it makes, by a unique name.

    ``app``: whose code it is from, None where it was added at run time. ``catchup``: which of the due times that were
    missed within ``catchup_window_s`` are made good, of "all" the newest ``catchup_max``. ``overlap``: what becomes of
    a due time while the task of the one before is not finished. ``expires_s``: how long after its due time, as
    ``jitter_s`` has put it off, a task may start. Due times before ``revised_at``, when the router took the entry in as
    it is, arguments aside, do not count.

    Of two forms the one counts that was written last: ``written_at``, 0 while it is as it first stood in the code.
    ``gone``: it was removed then, and this is kept to tell routers that were away. ``code_paused``: what the code said
    last of ``paused``, None where it never did. ``after_us``: an entry of this name was removed, which had come so far;
    nothing up to there is due again, whatever a clock says that was set back.
    """

    name: Id
    schedule: Schedule
    options: TaskOptions
    payload: Annotated[bytes, Meta(max_length=ENTRY_PAYLOAD_BYTES_MAX)] = b""
    app: str | None = None
    catchup: Catchup = "latest"
    catchup_max: Annotated[int, Meta(ge=1, le=10_000)] = 100
    catchup_window_s: Duration = 3_600.0
    overlap: Overlap = "allow"
    jitter_s: Duration = 0.0
    expires_s: Duration | None = None
    paused: bool = False
    revised_at: Instant = 0.0
    written_at: Instant = 0.0
    gone: bool = False
    code_paused: bool | None = None
    after_us: DueUs = 0


class Position(Struct, frozen=True, array_like=True, gc=False):
    """How far an entry has come: its last due time, what became of that, and what it has done so far.

    ``last_state`` is empty while ``last_task`` is not finished. ``queued_due_us``: fires when it is.
    """

    entry: Id
    last_due_us: DueUs
    last_task: str = ""
    last_state: str = ""
    fired: Count = 0
    skipped: Count = 0
    caught_up: Count = 0
    lateness_s: Seconds = 0.0
    queued_due_us: DueUs | None = None

    @property
    def was_due(self) -> bool:
        """Whether it has come any way since the entry was added."""
        return bool(self.fired or self.skipped) or self.queued_due_us is not None


class Firing(Struct, frozen=True, array_like=True, gc=False):
    """One due time of an entry. ``skipped``: due times before it that the leader left out; ``caught_up``: it is late.

    ``revised_at`` names the entry's form that the due time is of.
    """

    entry: Id
    due_us: DueUs
    skipped: DuesSkipped = 0
    caught_up: bool = False
    revised_at: Instant = 0.0


class Listing(Struct, frozen=True):
    """The answer to SCHEDULE ``list``, as JSON: entries by name, the name of the next if any, and who leads.

    By the names of entries among these: ``parked``, why no worker that is there could run the task; ``rivals``, another
    app whose code has an entry of that name, too, which is not taken; ``owners``, the id of the router that fires it.
    ``full``: why the store of this router takes nothing new; empty while it does.
    """

    entries: list[tuple[Entry, Position]]
    next: str = ""
    leader: str = ""
    term: int = 0
    parked: dict[str, str] = {}
    rivals: dict[str, str] = {}
    owners: dict[str, str] = {}
    full: str = ""


def merged_entry(first: Entry, second: Entry) -> Entry:
    """Which of two forms of an entry counts, for all that ask: the one written last.

    Of two as they first stood in the code, the one that was taken in first: it has come further. Whichever it is, what
    was fired before it came anew stays fired.
    """
    forms = replace(first, after_us=0), replace(second, after_us=0)
    newer = max(forms, key=lambda entry: (entry.written_at, -entry.revised_at, _digest(entry)))
    return replace(newer, after_us=max(first.after_us, second.after_us))


def first_position(entry: Entry) -> Position:
    """Where an entry begins that nothing else is known of, wherever it is taken in."""
    return Position(entry.name, max(microseconds(entry.revised_at), entry.after_us))


def merged_position(first: Position, second: Position) -> Position:
    """How far an entry has come that two routers had: the same for all that ask, and never back once it was due.

    Where it was not due yet at either, the one counts at which it began first.
    """
    if not (first.was_due or second.was_due):
        return min(first, second, key=lambda one: (one.last_due_us, _digest(one)))
    return replace(
        max(first, second, key=_progress),
        fired=max(first.fired, second.fired),
        skipped=max(first.skipped, second.skipped),
        caught_up=max(first.caught_up, second.caught_up),
    )


def _progress(one: Position) -> tuple[bool, int, int, str, bytes]:
    return one.was_due, one.last_due_us, one.fired + one.skipped, one.last_state, _digest(one)


def _digest(what: Entry | Position) -> bytes:
    return blake2b(_encode(what), digest_size=16).digest()


def firing_id(entry: str, due_us: int) -> str:
    """The id of the task that is made for this due time, whoever fires it and however often."""
    return _own_id(f"tick/1|{entry}|{due_us}")


def trigger_id(entry: str, key: str) -> str:
    """The id of the task that is made of an entry beside its schedule, once for each ``key``."""
    return _own_id(f"trigger/1|{key}|{entry}")


def _own_id(what: str) -> str:
    return OWN_IDS + blake2b(what.encode(), digest_size=16).hexdigest()


def jitter_s(firing: str, most: float) -> float:
    """How long the task of this id is put off, up to ``most``: the same for each node that asks."""
    return most * int(firing.removeprefix(OWN_IDS)[:12], 16) / 16**12
