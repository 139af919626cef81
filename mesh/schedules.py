"""When a periodic task is due, as data, and the instants that follow from it.

A schedule is one of four: ``Every`` so many seconds, ``Cron`` as in Celery, a ``CronLine`` as in cron, ``Once``. Each
crosses the wire as a MessagePack array, so fields may only be added at the end, with a default. Nothing here reads a
clock: instants are UTC seconds, exact to the microsecond, and the same on each machine that has the same time zones.

``crontab`` and ``schedule`` are written as in Celery; ``as_schedule`` takes whatever stands for a schedule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import islice
from numbers import Integral, Real
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from mesh.cron import SECOND_US, ZONE_CHARS_MAX, Times, line_of
from mesh.errors import ConfigError

__all__ = [
    "Cron",
    "CronLine",
    "Every",
    "Once",
    "Schedule",
    "as_schedule",
    "check",
    "count_dues",
    "crontab",
    "describe",
    "dues",
    "dues_between",
    "in_zone",
    "latest_due",
    "microseconds",
    "next_due",
    "schedule",
]

EVERY_S_MIN, EVERY_S_MAX = 0.001, 1e9
DUE_US_MAX = 2**33 * SECOND_US  # in 2242: until then a float of seconds tells each microsecond from the next
TIMES_KEPT = 1024  # schedules that are kept as they were read

TEXT_CHARS_MAX = 1000

Text = Annotated[str, Meta(min_length=1, max_length=TEXT_CHARS_MAX)]
Zone = Annotated[str, Meta(max_length=ZONE_CHARS_MAX)]


class Every(Struct, frozen=True, array_like=True, gc=False, tag="every"):
    """Each instant that is a multiple of ``seconds`` since 1970-01-01 UTC, whichever process asks."""

    seconds: Annotated[float, Meta(ge=EVERY_S_MIN, le=EVERY_S_MAX)]


class Cron(Struct, frozen=True, array_like=True, gc=False, tag="cron"):
    """Times of the wall clock in ``zone``, with fields in Celery's syntax: a day must match all three of its fields.

    An empty ``zone`` is UTC, until ``in_zone`` gives another.
    """

    minute: Text = "*"
    hour: Text = "*"
    day_of_week: Text = "*"
    day_of_month: Text = "*"
    month_of_year: Text = "*"
    zone: Zone = ""


class CronLine(Struct, frozen=True, array_like=True, gc=False, tag="line"):
    """Times of the wall clock in ``zone``, as a line of a crontab: 5 fields, or 6 with the second before them."""

    line: Text
    zone: Zone = ""


class Once(Struct, frozen=True, array_like=True, gc=False, tag="once"):
    """One instant, UTC seconds."""

    at: Annotated[float, Meta(ge=0.0, le=DUE_US_MAX / SECOND_US)]


Schedule = Every | Cron | CronLine | Once

_EXPECTED = {
    "seconds": f"{EVERY_S_MIN:g} to {EVERY_S_MAX:.0f} seconds",
    "zone": f"text of at most {ZONE_CHARS_MAX} characters",
    "at": "an instant from 1970 to 2242",
}

Value = int | str
Values = Value | Iterable[Value]


def crontab(
    minute: Values = "*",
    hour: Values = "*",
    day_of_week: Values = "*",
    day_of_month: Values = "*",
    month_of_year: Values = "*",
    *,
    zone: str | tzinfo | None = None,
) -> Cron:
    """A schedule by the wall clock of ``zone``, with Celery's syntax. Raises ``ConfigError``."""
    made = Cron(
        _text("minute", minute),
        _text("hour", hour),
        _text("day_of_week", day_of_week),
        _text("day_of_month", day_of_month),
        _text("month_of_year", month_of_year),
        _zone_name(zone),
    )
    check(made)
    return made


def schedule(run_every: float | timedelta) -> Every:
    """A schedule of every so many seconds. Raises ``ConfigError``."""
    made = Every(_seconds(run_every))
    check(made)
    return made


def as_schedule(when: Schedule | float | timedelta | datetime | str, zone: str | tzinfo | None = None) -> Schedule:
    """What ``when`` stands for: an interval, a line of cron, or one instant. Raises ``ConfigError``.

    ``zone`` counts for times of the wall clock that have none of their own.
    """
    made: Schedule
    if isinstance(when, str):
        made = CronLine(when)
    elif isinstance(when, datetime):
        if when.tzinfo is None:
            raise ConfigError(f"{when!r}: a time that comes once needs a zone: give it tzinfo=UTC, or its own")
        made = Once(when.timestamp())
    elif isinstance(when, Schedule):
        made = when
    else:
        made = schedule(when)
    made = in_zone(made, zone)
    check(made)
    return made


def in_zone(when: Schedule, zone: str | tzinfo | None) -> Schedule:
    """The same schedule, by the wall clock of ``zone`` where it names no zone itself. Raises ``ConfigError``."""
    name = _zone_name(zone)
    if name and isinstance(when, Cron | CronLine) and not when.zone:
        return msgspec.structs.replace(when, zone=name)
    return when


def check(when: Schedule) -> None:
    """Raise ``ConfigError`` where a field is out of bounds, is no cron, or names a zone unknown on this machine."""
    for field in msgspec.structs.fields(when):
        value = getattr(when, field.name)
        try:
            msgspec.convert(value, field.type)
        except msgspec.ValidationError:
            expected = _EXPECTED.get(field.name, f"text of 1 to {TEXT_CHARS_MAX} characters")
            raise ConfigError(f"{field.name}={value!r:.80}: expected {expected}") from None
    if isinstance(when, Cron | CronLine):
        _times(when)


def dues(when: Schedule, after: float) -> Iterator[float]:
    """The due times strictly after ``after``, in order: the cheapest way to many. Raises ``ConfigError``."""
    instant = min(max(-1, microseconds(after)), DUE_US_MAX)
    for due in _instants(when, instant):
        if due > DUE_US_MAX:
            return
        yield due / SECOND_US


def next_due(when: Schedule, after: float) -> float | None:
    """The first due time strictly after ``after``; None where there is none. Raises ``ConfigError``."""
    return next(dues(when, after), None)


def dues_between(when: Schedule, after: float, until: float, limit: int) -> list[float]:
    """The first due times after ``after`` and up to ``until``, ``limit`` of them at most. Raises ``ConfigError``."""
    found, last = [], microseconds(until) / SECOND_US
    for due in islice(dues(when, after), limit):
        if due > last:
            break
        found.append(due)
    return found


def latest_due(when: Schedule, after: float, until: float) -> float | None:
    """The last due time after ``after`` and up to ``until``; however many there are, few are computed."""
    latest, low, high = None, microseconds(after), microseconds(until)
    while low < high:
        # Nothing is due after ``high``, and what is known to be due last is not after ``low``.
        middle = low if latest is None else (low + high) // 2
        due = next_due(when, middle / SECOND_US)
        if due is None or microseconds(due) > high:
            if latest is None:
                return None
            high = middle
        else:
            latest, low = due, microseconds(due)
    return latest


def count_dues(when: Schedule, after: float, until: float) -> int:
    """How many due times there are after ``after`` and up to ``until``; however many, few are computed."""
    low, high = max(-1, microseconds(after)), min(microseconds(until), DUE_US_MAX)
    if low >= high:
        return 0
    if isinstance(when, Every):
        return high // _period(when) - low // _period(when)
    if isinstance(when, Once):
        return int(low < microseconds(when.at) <= high)
    return _times(when).count(low, high)


def describe(when: Schedule) -> str:
    """The schedule in words, for people. Raises ``ConfigError``."""
    if isinstance(when, Every):
        return f"every {_duration(when.seconds)}"
    if isinstance(when, Once):
        return f"once, at {datetime.fromtimestamp(when.at, UTC).isoformat(' ').replace('+00:00', ' UTC')}"
    words = _times(when).describe()
    if isinstance(when, Cron) and not when.day_of_week.startswith("*") and not when.day_of_month.startswith("*"):
        words += " (only on days that are both)"
    return f"{words}, {when.zone or 'UTC'}"


def microseconds(at: float) -> int:
    """An instant in whole microseconds since 1970, UTC: what names a due time."""
    whole, part = divmod(at, 1.0)  # apart, for a product of all of it would be rounded twice
    return int(whole) * SECOND_US + round(part * SECOND_US)


def _instants(when: Schedule, instant: int) -> Iterator[int]:
    if isinstance(when, Every):
        period = _period(when)
        return iter(range((instant // period + 1) * period, DUE_US_MAX + 1, period))
    if isinstance(when, Once):
        at = microseconds(when.at)
        return iter((at,) if at > instant else ())
    return _times(when).after(instant)


def _period(when: Every) -> int:
    return microseconds(when.seconds)


@lru_cache(maxsize=TIMES_KEPT)
def _times(when: Cron | CronLine) -> Times:
    if isinstance(when, CronLine):
        return Times(when.line, when.zone or "UTC", False)
    line = line_of(when.minute, when.hour, when.day_of_month, when.month_of_year, when.day_of_week)
    return Times(line, when.zone or "UTC", True)


def _seconds(run_every: object) -> float:
    if isinstance(run_every, timedelta):
        return run_every.total_seconds()
    if not isinstance(run_every, bool) and isinstance(run_every, Real):
        return float(run_every)
    raise ConfigError(f"run_every={run_every!r:.80}: expected seconds, as a number or a timedelta")


def _text(field: str, values: Values) -> str:
    """Celery's value of a field as one text."""
    if isinstance(values, str):
        return values.strip()
    several = [values] if isinstance(values, Integral) else values
    if isinstance(several, Iterable):
        texts = {_one(field, value): None for value in islice(several, 1000)}
        if texts:
            return ",".join(sorted(texts, key=lambda text: (len(text), text)))
    raise ConfigError(f"{field}={values!r:.80}: expected a number, a text, or several of them")


def _one(field: str, value: object) -> str:
    if not isinstance(value, bool) and isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, str):
        return value.strip()
    raise ConfigError(f"{field}: {value!r:.80} is neither a number nor a text")


def _zone_name(zone: str | tzinfo | None) -> str:
    if zone is None or isinstance(zone, str):
        return zone or ""
    name = "UTC" if zone is UTC else getattr(zone, "key", None)
    if not isinstance(name, str):
        raise ConfigError(f"zone={zone!r:.80}: expected a name such as Europe/Paris, or a zoneinfo.ZoneInfo")
    return name


def __getattr__(name: str) -> object:
    if name == "solar":  # an AttributeError would lose its words in ``from mesh.schedules import solar``
        raise ImportError("cannot import name 'solar' from 'mesh.schedules': use crontab with the times you mean")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _duration(seconds: float) -> str:
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size and seconds % size == 0:
            return unit if seconds == size else f"{seconds / size:g} {unit}s"
    return "second" if seconds == 1 else f"{seconds:.15g} seconds"
