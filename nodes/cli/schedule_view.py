"""From what a router knows of periodic tasks to what people read. Pure."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Any

from mesh.api.schedules import PARKED_ADVICE, Overview, PeriodicTask
from mesh.errors import ConfigError, MeshError
from mesh.schedules import Once
from mesh.wire.payload import decode_call, is_pickled
from nodes.cli.status_view import duration
from nodes.counts import count_of, number, term_text
from nodes.shown import shown
from nodes.tables import Table

OVERDUE_S = 2.0  # a due time that is past for so long and was not fired is nobody's
ON_TIME_S = 1.0  # later than that is told in seconds
SCHEDULE_CHARS_MAX = 60  # of a list


def headline(mesh: str, overview: Overview) -> str:
    """How many there are, and who says what is due."""
    paused = sum(row.paused for row in overview.entries)
    parts = [count_of(len(overview.entries), "periodic task")] + ([f"{number(paused)} paused"] if paused else [])
    if overview.leader:
        parts.append(f"leader {shown(overview.leader)}, term {term_text(overview.term)}")
    else:
        parts.append("NOBODY LEADS: nothing is fired until a worker with -A and without --no-scheduler is there")
    if overview.full:
        parts.append(f"NOTHING IS FIRED HERE: {overview.full}")
    return f"mesh {mesh}: {', '.join(parts)}"


def entries_table(overview: Overview, now: datetime, zone: tzinfo | None = None) -> Table:
    """One row for each entry, with times by the clock of ``zone``; None: of this machine."""
    here = now.astimezone(zone)
    next_due, last_due = f"next due {here:%Z}", f"last due {here:%Z}"
    columns = ["entry", "schedule", next_due, last_due, "outcome", ">late", "origin", "note"]
    table = Table(f"now {here:%H:%M:%S %Z}", columns, whole=(next_due, last_due, "outcome", "late"))
    for row in overview.entries:
        table.rows.append(
            [
                row.name,
                shortened(in_words(row)),
                "" if row.next_due is None else at(row.next_due, now, zone),
                "" if row.last_due is None else at(row.last_due, now, zone),
                outcome(row),
                lateness(row),
                origin(row),
                ", ".join(notes(row, now)),
            ]
        )
    without_notes = not any(cells[-1] for cells in table.rows)
    table.spare = [*(["note"] if without_notes else []), "origin", "schedule"]
    return table


def in_words(row: PeriodicTask) -> str:
    """When it is due."""
    try:
        return row.describe()
    except ConfigError as error:
        return str(error)


def shortened(text: str) -> str:
    """A text that would make all lines of a list as long as itself, cut to what is read at a glance."""
    return text if len(text) <= SCHEDULE_CHARS_MAX else f"{text[: SCHEDULE_CHARS_MAX - 1].rstrip()}…"


def at(when: datetime, now: datetime, zone: tzinfo | None = None, *, named: bool = False) -> str:
    """A time by the clock of ``zone``; with the day unless that is today, with its name where that is another."""
    local, now = when.astimezone(zone), now.astimezone(zone)
    name = f"{local: %Z}" if named or local.utcoffset() != now.utcoffset() else ""
    if local.date() == now.date():
        return f"{local:%H:%M:%S}{name}"
    return f"{local:%Y-%m-%d %H:%M}{local.strftime(':%S') if local.second else ''}{name}"


def when_due(row: PeriodicTask, now: datetime, zone: tzinfo | None = None) -> str:
    """When it is due next, in words."""
    if row.paused:
        return "paused"
    return "nothing to come" if row.next_due is None else f"next due {at(row.next_due, now, zone, named=True)}"


def outcome(row: PeriodicTask) -> str:
    """How the last task ended."""
    return row.last_state or ("unfinished" if row.last_task else "")


def lateness(row: PeriodicTask) -> str:
    """How late the last one was fired."""
    if not row.fired:
        return ""
    late_s = max(0.0, row.lateness_s)
    return duration(late_s) if late_s > ON_TIME_S else f"{late_s * 1000:.0f} ms"


def origin(row: PeriodicTask) -> str:
    """The app in whose code it is."""
    return "run time" if row.app is None else row.app


def notes(row: PeriodicTask, now: datetime) -> list[str]:
    """What is not as it should be."""
    found = ["paused"] if row.paused else []
    if isinstance(row.schedule, Once) and row.next_due is None and not row.paused:
        found.append("past, never fired" if row.last_due is None else "done")
    if row.next_due is not None and (now - row.next_due).total_seconds() > OVERDUE_S:
        found.append("OVERDUE")
    if row.skipped:
        found.append(f"{number(row.skipped)} skipped")
    if row.parked:
        found.append(row.parked)
    if row.rival:
        found.append(f"that of app {row.rival} is not taken")
    return found


def entry_table(row: PeriodicTask, now: datetime, zone: tzinfo | None = None) -> Table:
    """All of one entry, a line for each fact."""
    entry, options = row.entry, row.entry.options
    begins = "put off to" if entry.jitter_s else "due"
    lines = [
        ("entry", row.name),
        ("task", f"{row.task}({_arguments(row)})"),
        ("schedule", in_words(row)),
        ("fired by", f"router {row.router}" if row.router else "nobody now"),
        ("origin", "added at run time" if row.app is None else f"the code of app {row.app}"),
        (
            "next due",
            "paused" if row.paused else "none" if row.next_due is None else at(row.next_due, now, zone, named=True),
        ),
        ("last due", "none yet" if row.last_due is None else at(row.last_due, now, zone, named=True)),
        ("last task", row.last_task or "none yet"),
        ("last outcome", outcome(row) or "none yet"),
        ("late", f"{max(0.0, row.lateness_s):.3f} s" if row.fired else "none yet"),
        ("fired, skipped, caught up", f"{number(row.fired)}, {number(row.skipped)}, {number(row.caught_up)}"),
        ("queue, priority", f"{options.queue}, {options.priority}"),
        ("catchup", f"{entry.catchup}, at most {number(entry.catchup_max)}, of the last {entry.catchup_window_s:g} s"),
        ("overlap", entry.overlap),
        ("jitter", f"{entry.jitter_s:g} s"),
        ("expires", "never" if entry.expires_s is None else f"{entry.expires_s:g} s after it is {begins}"),
        ("time limit", "none" if options.time_limit_s is None else f"{options.time_limit_s:g} s"),
        ("delivery", "at most once" if options.at_most_once else "at least once"),
    ]
    if row.parked:
        lines.append(("parked", f"{row.parked}: {PARKED_ADVICE}"))
    if row.rival:
        lines.append(("not taken", f"app {row.rival} has an entry of this name, too: it needs another name there"))
    return Table("", ["", ""], [[name, value] for name, value in lines])


def _arguments(row: PeriodicTask) -> str:
    """Whoever may declare an entry may pickle anything: to look at it must not run that."""
    payload = row.entry.payload
    if is_pickled(payload):
        return f"pickled, {count_of(len(payload), 'byte')}"
    try:
        args, kwargs = decode_call(payload)
    except MeshError as error:
        return f"cannot be read here: {error}"
    return ", ".join([*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())])


def as_json(row: PeriodicTask) -> dict[str, Any]:
    """For scripts; times in UTC, ISO 8601."""
    entry, options = row.entry, row.entry.options
    return {
        "name": row.name,
        "task": row.task,
        "arguments": _arguments(row),
        "schedule": in_words(row),
        "app": row.app,
        "router": row.router or None,
        "paused": row.paused,
        "next_due": None if row.next_due is None else row.next_due.isoformat(),
        "last_due": None if row.last_due is None else row.last_due.isoformat(),
        "last_task": row.last_task or None,
        "last_state": row.last_state or None,
        "lateness_s": row.lateness_s,
        "fired": row.fired,
        "skipped": row.skipped,
        "caught_up": row.caught_up,
        "queue": options.queue,
        "priority": options.priority,
        "catchup": entry.catchup,
        "catchup_max": entry.catchup_max,
        "catchup_window_s": entry.catchup_window_s,
        "overlap": entry.overlap,
        "jitter_s": entry.jitter_s,
        "expires_s": entry.expires_s,
        "parked": row.parked or None,
        "rival": row.rival or None,
    }
