"""``app.schedules``: the periodic tasks of the mesh, looked at and changed while it runs."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Unpack

import msgspec

from mesh.api.entry import NAME_LENGTH_MAX, Options, When, changed_entry, new_entry
from mesh.api.options import checked_text, checked_timeout
from mesh.api.result import CELERY_STATES, AsyncResult
from mesh.api.task import Task
from mesh.core.entry_operations import LOOKS
from mesh.cron import SECOND_US
from mesh.entries import Entry, Listing, Position
from mesh.errors import (
    ConfigError,
    EntryExists,
    MeshError,
    Overloaded,
    ProtocolError,
    Refused,
    Unavailable,
    UnknownEntry,
)
from mesh.messages import Schedule as ScheduleVerb
from mesh.model import TaskState
from mesh.schedules import Schedule, describe, next_due
from mesh.wire.payload import decode_call

if TYPE_CHECKING:
    from mesh.api.app import Mesh

log = logging.getLogger("mesh.periodic")

PARKED_ADVICE = "start one that has it, or look at the names; until then each due time is one more task that waits"
UPDATES_MAX = 5  # tries of a change that others change the entry under
LISTINGS_MAX = 10_000  # parts of one list

_listing = msgspec.json.Decoder(Listing).decode
_ERRORS: dict[str, type[MeshError]] = {
    "exists": EntryExists,
    "unknown": UnknownEntry,
    "changed": Unavailable,
    "refused": Refused,
    "overloaded": Overloaded,
    "invalid": ConfigError,
}


@dataclass(frozen=True, slots=True, repr=False)
class PeriodicTask:
    """One entry, as a router knows it. Times are in UTC; ``entry`` has all that was said of it."""

    name: str
    task: str
    schedule: Schedule
    app: str | None  # whose code it is from; None: it was added at run time
    paused: bool
    last_due: datetime | None  # None: it was not due yet
    next_due: datetime | None  # in the past: nobody leads, or the leader is behind; None: paused, or nothing to come
    last_task: str  # the id of the task of the last due time that was fired; empty where there is none
    last_state: str  # how that ended, as ``AsyncResult.state`` says it; empty while it is not finished
    lateness_s: float  # of the last that was fired
    fired: int
    skipped: int
    caught_up: int
    entry: Entry
    parked: str = ""  # why its task would wait: no worker that is there could run it
    rival: str = ""  # another app whose code has an entry of this name, which is not taken
    router: str = ""  # the id of the router that fires it; empty: none does now

    def __repr__(self) -> str:
        due = "paused" if self.paused else "nothing to come" if self.next_due is None else f"next due {self.next_due}"
        return f"<{type(self).__name__} {self.name!r}: {self.task}, {due}>"

    def describe(self) -> str:
        """Its schedule in words. Raises ``ConfigError`` for a zone that is not known on this machine."""
        return describe(self.schedule)

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and named arguments of its task. Raises ``ProtocolError``, and ``Unreadable`` without their code.

        What is not plain data is unpickled: that runs in this process whatever was put in there by who added the entry,
        be it a worker. Nothing else here does so.
        """
        return decode_call(self.entry.payload)


@dataclass(frozen=True, slots=True)
class Overview:
    """All entries, and the name of the node that says what is due; empty where none does.

    ``full``: why the store of the router that was asked takes nothing new, and so none is fired there; empty while it
    does.
    """

    entries: list[PeriodicTask]
    leader: str
    term: int
    full: str = ""


class Schedules:
    """Each method asks a router and waits, for ``timeout`` seconds at the most (default ``connect_timeout_s``).

    Then it raises ``Unavailable``: what was to be changed may be changed all the same. Also raises ``ConfigError`` for
    what is no entry, ``Overloaded`` and ``Refused``.
    """

    def __init__(self, app: Mesh) -> None:
        self._app = app

    def add(
        self,
        name: str,
        schedule: When,
        task: Task[..., Any] | str,
        args: Sequence[Any] | None = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        **options: Unpack[Options],
    ) -> None:
        """Have the mesh run a task by a schedule, whatever becomes of this process. Raises ``EntryExists``."""
        entry = new_entry(self._app, name, schedule, task, args, kwargs, options)
        if next_due(entry.schedule, time.time()) is None:
            raise ConfigError(f"entry {name!r}: {describe(entry.schedule)}: that is past, so it would never be due")
        answer = self._ask("add", [name], [entry], timeout)
        self._check(answer)
        _warn_of_parked(answer)

    def update(self, name: str, *, timeout: float | None = None, **changes: Any) -> None:
        """Change what is given, of ``schedule``, ``task``, ``args``, ``kwargs`` and the options of ``add``.

        It goes on from where it was, with due times that are still to come. Raises ``UnknownEntry``.
        """
        for _ in range(UPDATES_MAX):
            entry = changed_entry(self._app, self.get(name, timeout=timeout).entry, changes)
            answer = self._ask("update", [], [entry], timeout)
            if answer.get("code") != "changed":
                break
        self._check(answer)
        _warn_of_parked(answer)

    def pause(self, *names: str, timeout: float | None = None) -> None:
        """Have these not be due until they are resumed. Raises ``UnknownEntry``."""
        self._do("pause", names, [], timeout)

    def resume(self, *names: str, timeout: float | None = None) -> None:
        """Have these be due again; what was due meanwhile is not made good. Raises ``UnknownEntry``."""
        self._do("resume", names, [], timeout)

    def remove(self, *names: str, timeout: float | None = None) -> None:
        """Forget these; one in the code of an app is back when a node loads that. Raises ``UnknownEntry``."""
        self._do("remove", names, [], timeout)

    def trigger(self, name: str, *, timeout: float | None = None) -> AsyncResult[Any]:
        """Run the task of an entry now, beside its schedule, paused or not. Raises ``UnknownEntry``."""
        made: dict[str, str] = self._do("trigger", [name], [], timeout)
        return self._app.AsyncResult(made[name])

    def get(self, name: str, *, timeout: float | None = None) -> PeriodicTask:
        """One entry. Raises ``UnknownEntry``."""
        return self._look([name], timeout).entries[0]

    def list(self, *, timeout: float | None = None) -> list[PeriodicTask]:
        """All entries, by name."""
        return self._look([], timeout).entries

    def overview(self, *, timeout: float | None = None) -> Overview:
        """All entries, and who leads."""
        return self._look([], timeout)

    def _look(self, names: Sequence[str], timeout: float | None) -> Overview:
        rows: list[PeriodicTask] = []
        operation = "list"
        for _ in range(LISTINGS_MAX):
            body = self._send(operation, names, [], timeout)
            self._check(json.loads(body))
            listing = _listing(body)
            parked, rivals, owners = listing.parked, listing.rivals, listing.owners
            rows += [
                seen(
                    entry,
                    position,
                    parked.get(entry.name, ""),
                    rivals.get(entry.name, ""),
                    owners.get(entry.name, ""),
                )
                for entry, position in listing.entries
            ]
            if not listing.next:
                return Overview(rows, listing.leader, listing.term, listing.full)
            operation, names = "list_from", [listing.next]
        raise ProtocolError(f"a router lists entries without end; the next is {names[0]!r}")

    def _do(self, operation: str, names: Sequence[str], entries: Sequence[Entry], timeout: float | None) -> Any:
        return self._check(self._ask(operation, names, entries, timeout))

    def _ask(
        self, operation: str, names: Sequence[str], entries: Sequence[Entry], timeout: float | None
    ) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._send(operation, names, entries, timeout))
        return answer

    def _send(self, operation: str, names: Sequence[str], entries: Sequence[Entry], timeout: float | None) -> bytes:
        checked_timeout(timeout)
        checked = [checked_text("name", name, NAME_LENGTH_MAX) for name in names]
        what = f"what was asked of periodic tasks ({operation})"
        return self._app.connection.questions.ask(
            what,
            lambda request: ScheduleVerb(request, operation, checked, list(entries)),
            timeout,
            changes=operation not in LOOKS,
        )

    def _check(self, answer: dict[str, Any]) -> Any:
        if "error" in answer:
            raise _ERRORS.get(answer.get("code", ""), Refused)(answer["error"])
        return answer.get("done")


def _warn_of_parked(answer: dict[str, Any]) -> None:
    for name, why in answer.get("parked", {}).items():
        log.warning("entry %r: %s: %s", name, why, PARKED_ADVICE)


def seen(entry: Entry, position: Position, parked: str = "", rival: str = "", router: str = "") -> PeriodicTask:
    """What a router says of an entry, for people."""
    due = None
    if not entry.paused:
        with suppress(ConfigError):  # a zone that is not known on this machine
            after_us = max(position.last_due_us, entry.after_us)
            due = next_due(entry.schedule, max(after_us / SECOND_US, entry.revised_at))
    return PeriodicTask(
        entry.name,
        entry.options.name,
        entry.schedule,
        entry.app,
        entry.paused,
        _utc(position.last_due_us / SECOND_US) if position.was_due else None,
        None if due is None else _utc(due),
        position.last_task,
        str(CELERY_STATES[TaskState(position.last_state)]) if position.last_state else "",
        position.lateness_s,
        position.fired,
        position.skipped,
        position.caught_up,
        entry,
        parked,
        rival,
        router,
    )


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
