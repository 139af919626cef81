"""Times of the wall clock, written as cron writes them, as instants.

``cronsim`` reads a line, and says which days match it. The instants are found here: what ``cronsim`` finds is wrong
where a clock is set at midnight or by half an hour, it may lie before where one begins inside a repeated hour, and
takes ten times as long. All instants are whole microseconds since 1970, UTC.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from itertools import takewhile
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from mesh.errors import ConfigError

SECOND_US = 1_000_000
YEARS_MAX = 50  # looked ahead: a 29 February on a given day of the week may be 40 years away
ZONE_CHARS_MAX = 64
NEAR = 0.8  # how alike a name and a zone must be to be taken for one another

_DAY = timedelta(days=1)
_DAY_US = 86_400 * SECOND_US
_MOMENT = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1)
# Each date and day of the week that come together at all do so in the years after it.
_IF_EVER = datetime(2000, 1, 1)


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    names: Sequence[str] = ()

    @property
    def allowed(self) -> str:
        named = f", {self.names[0][:3]} to {self.names[-1][:3]}" if self.names else ""
        return f"{self.low} to {self.high}{named}"


_LINES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_SECONDS = _Field("second", 0, 59)
FIELDS = (  # in the order of a line
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day_of_month", 1, 31),
    _Field("month_of_year", 1, 12, _MONTHS),
    _Field("day_of_week", 0, 7, _DAYS),
)
_DAY_OF_WEEK = FIELDS[4]
_OF_CRONSIM = ("second", "minute", "hour", "day-of-month", "month", "day-of-week")


def line_of(minute: str, hour: str, day_of_month: str, month_of_year: str, day_of_week: str) -> str:
    """The cron line of fields in Celery's syntax. Raises ``ConfigError``."""
    texts = (minute, hour, day_of_month, month_of_year, day_of_week)
    return " ".join(_field_of(field, text) for field, text in zip(FIELDS, texts))


def _field_of(field: _Field, text: str) -> str:
    plain: list[str] = []
    wrapped: set[int] = set()
    for part in text.split(","):
        values = _part_of(field, text, part.strip())
        if isinstance(values, str):
            plain.append(values)
        else:
            wrapped.update(values)
    return ",".join([*plain, *map(str, sorted(wrapped))])


def _part_of(field: _Field, text: str, part: str) -> str | list[int]:
    """One part as ``cronsim`` reads it, or the values of a range that goes on from the least value."""
    span, slash, step_text = part.partition("/")
    step = _number(step_text) if slash else 1
    if not step or (slash and span != "*" and "-" not in span):
        raise _bad(field, text, part)
    if span == "*":
        return part
    first_text, dash, last_text = span.partition("-")
    first = _value(field, text, part, first_text)
    last = _value(field, text, part, last_text) if dash else first
    is_day = field is _DAY_OF_WEEK
    if is_day and first == 7 > last:
        first = 0
    if first == last:
        return str(first)  # ``cronsim`` takes a-a/n for a/n, which goes on to the greatest value
    if first < last:
        return f"{first}-{last}/{step}"
    # Sunday is 0 and 7: the week has it once.
    return [*range(first, 7 if is_day else field.high + 1), *range(field.low, last + 1)][::step]


def _value(field: _Field, text: str, part: str, value: str) -> int:
    number = _number(value)
    if number is None and len(value) >= 3:
        for named, name in enumerate(field.names, field.low):
            if name.startswith(value.lower()):
                return named
    if number is None or not field.low <= number <= field.high:
        raise _bad(field, text, part)
    return number


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 4 else None


def _bad(field: _Field, text: str, part: str) -> ConfigError:
    where = "" if part == text.strip() else f" in {text!r:.80}"
    return ConfigError(
        f"{field.name}: {part!r:.40}{where} is not understood; allowed are {field.allowed}, *, a-b, */n, a-b/n, "
        f"and several of them with commas between"
    )


def zone_of(name: str) -> ZoneInfo:
    """The zone. Raises ``ConfigError`` where this machine does not know the name."""
    try:
        # Those in right/ count leap seconds, and localtime is another one on each machine.
        if len(name) <= ZONE_CHARS_MAX and not name.startswith(("right/", "posix", "localtime")):
            return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        pass
    raise ConfigError(f"zone={name!r:.80} is not known on this machine: {_instead_of(name[:ZONE_CHARS_MAX])}")


def _instead_of(name: str) -> str:
    """What to write, where this is no zone."""
    text = name.casefold().replace(" ", "_").removeprefix("posix/").removeprefix("right/")
    if text in ("local", "localtime"):
        return "that is another zone on each machine: write the name of yours, as in Europe/Paris, or UTC"
    advice = "a zone is a place, as in Europe/Paris, or UTC"
    offset = re.fullmatch(r"(?:utc|gmt)?([+-])0?(\d{1,2})(?::?00)?", text)
    if offset is not None:  # the names of these count the other way round
        ahead, hours = offset[1] == "+", offset[2]
        fixed = f"Etc/GMT{'-' if ahead else '+'}{hours}"
        is_one = fixed in _zones().values()
        return f"{advice}; {fixed} is always {hours} h {'ahead of' if ahead else 'behind'} UTC" if is_one else advice
    near = get_close_matches(text, _zones(), 1, NEAR)
    return f"did you mean {_zones()[near[0]]}?" if near else advice


@lru_cache(maxsize=1)
def _zones() -> Mapping[str, str]:
    """Those there are, by their names in small letters, and by their last parts."""
    names = sorted(available_timezones() - {"localtime"}, reverse=True)
    return {name.casefold().rpartition("/")[2]: name for name in names} | {name.casefold(): name for name in names}


class Times:
    """The instants at which the clock of a zone reads a time of a cron line.

    ``both``: a day must match both its day of the month and its day of the week, as in Celery. Otherwise that is so
    where one of the two begins with ``*``, and either will do where none does, as in cron.
    """

    def __init__(self, line: str, zone: str, both: bool) -> None:
        self._line = _read(line)
        if both:
            self._line.day_and = True
        hours, minutes, seconds = (sorted(some) for some in (self._line.hours, self._line.minutes, self._line.seconds))
        self._hours, self._minutes, self._seconds = hours, minutes, seconds
        if next(self._walls(_IF_EVER), None) is None:
            raise ConfigError(f"cron line {line!r:.80}: no year has such a day")
        self._zone = zone_of(zone)
        self._is_set = self._zone.key not in ("UTC", "Etc/UTC")
        # Due as often as the clock reads a matching time; otherwise once for each time of the day.
        self._runs_through = (
            any("*" in text for text in self._line.parts[:3]) or 60 in (len(seconds), len(minutes)) or len(hours) == 24
        )

    def describe(self) -> str:
        """The line in words, without the zone."""
        return re.sub(r"\b(\d+)th\b", lambda found: _ordinal(int(found[1])), self._line.explain())

    def after(self, instant: int) -> Iterator[int]:
        """The instants after ``instant``, in order; it ends where none comes within YEARS_MAX."""
        if not self._is_set:
            return map(_since_epoch, self._walls(_EPOCH + timedelta(microseconds=instant)))
        if self._runs_through:
            return self._each_reading(instant)
        return self._once_each(instant)

    def count(self, after: int, until: int) -> int:
        """How many instants there are after ``after`` and up to ``until``: by days, at once but near a shift."""
        if not self._is_set:
            return self._count_walls(_wall(after, timedelta()), _wall(until, timedelta()))
        count = 0
        while after < until:
            end = min(until, after + _DAY_US)
            offset, *others = (_at(at, self._zone).utcoffset() for at in (after - _DAY_US, after, end, end + _DAY_US))
            assert offset is not None
            if all(other == offset for other in others):
                count += self._count_walls(_wall(after, offset), _wall(end, offset))
            else:
                count += sum(1 for _ in takewhile(end.__ge__, self.after(after)))
            after = end
        return count

    def _count_walls(self, after: datetime, until: datetime) -> int:
        """How many matching times a clock that nobody sets reads after ``after`` and up to ``until``."""
        if until <= after:
            return 0
        each = len(self._hours) * len(self._minutes) * len(self._seconds)
        day, last = after.date(), until.date()
        count = self._count_in_day(until) - self._count_in_day(after)
        while day < last:
            count += each if self._is_due_on(day) else 0
            day += _DAY
        return count

    def _count_in_day(self, until: datetime) -> int:
        """How many matching times its day has up to ``until``."""
        if not self._is_due_on(until.date()):
            return 0
        hours, minutes, seconds = self._hours, self._minutes, self._seconds
        count = bisect_left(hours, until.hour) * len(minutes) * len(seconds)
        if until.hour in hours:
            count += bisect_left(minutes, until.minute) * len(seconds)
            if until.minute in minutes:
                count += bisect_right(seconds, until.second)
        return count

    def _is_due_on(self, day: date) -> bool:
        return day.month in self._line.months and self._line.match_day(day)

    def _once_each(self, instant: int) -> Iterator[int]:
        """A time that is repeated counts the first time; those that are skipped count once, when the gap ends."""
        walls = self._walls(_at(instant, self._zone).replace(tzinfo=None))
        while (wall := next(walls, None)) is not None:
            first, second = self._readings(wall)
            if second < first:
                shift = self._shift(second, first)
                walls = self._walls(shift.later_wall)
                first = shift.instant
            if first > instant:
                yield first

    def _each_reading(self, instant: int) -> Iterator[int]:
        """A time that is repeated counts twice, one that is skipped not at all."""
        local = _at(instant, self._zone)
        start, second_pass = local.replace(tzinfo=None, fold=0), local.fold == 1
        first, second = self._readings(start)
        repeated = self._shift(first, second) if first < second else None
        walls = self._walls(start)
        while (wall := next(walls, None)) is not None:
            if repeated is not None and wall >= repeated.later_wall:
                if not second_pass:
                    second_pass = True
                    walls = self._walls(repeated.earlier_wall - _MOMENT)
                    continue
                repeated, second_pass = None, False
            first, second = self._readings(wall)
            if second < first:
                walls = self._walls(self._shift(second, first).later_wall - _MOMENT)
                continue
            if first < second and repeated is None:
                repeated = self._shift(first, second)
            yield second if second_pass else first

    def _walls(self, after: datetime) -> Iterator[datetime]:
        """The matching times after ``after`` of a clock that nobody sets."""
        day = first_day = after.date()
        while day.year <= after.year + YEARS_MAX:
            if day.month not in self._line.months:
                day = (day.replace(day=1) + timedelta(days=31)).replace(day=1)
                continue
            if self._line.match_day(day):
                yield from self._walls_of(day, after if day == first_day else None)
            day += _DAY

    def _walls_of(self, day: date, after: datetime | None) -> Iterator[datetime]:
        year, month, number = day.year, day.month, day.day
        for hour in self._hours:
            if after and hour < after.hour:
                continue
            for minute in self._minutes:
                if after and (hour, minute) < (after.hour, after.minute):
                    continue
                for second in self._seconds:
                    wall = datetime(year, month, number, hour, minute, second)
                    if not after or wall > after:
                        yield wall

    def _readings(self, wall: datetime) -> tuple[int, int]:
        """When the clock reads ``wall``, by its offset before and after a shift nearby; in a gap the second is less."""
        since_epoch = _since_epoch(wall)
        before, after = self._zone.utcoffset(wall), self._zone.utcoffset(wall.replace(fold=1))
        assert before is not None and after is not None
        if before == after:
            first = since_epoch - _microseconds(before)
            return first, first
        return since_epoch - _microseconds(before), since_epoch - _microseconds(after)

    def _shift(self, low: int, high: int) -> _Shift:
        """The shift of the clock in (low, high]."""
        before, after = _at(low, self._zone).utcoffset(), _at(high, self._zone).utcoffset()
        assert before is not None and after is not None
        while high - low > SECOND_US:
            middle = (low + high) // (2 * SECOND_US) * SECOND_US
            if _at(middle, self._zone).utcoffset() == before:
                low = middle
            else:
                high = middle
        walls = [_EPOCH + timedelta(microseconds=high) + offset for offset in (before, after)]
        return _Shift(high, min(walls), max(walls))


class _Shift(NamedTuple):
    """The clock is set at ``instant``; the wall times from the earlier to before the later are skipped or repeated."""

    instant: int
    earlier_wall: datetime
    later_wall: datetime


def _ordinal(number: int) -> str:
    ending = "th" if number // 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _read(line: str) -> CronSim:
    try:
        return CronSim(_LINES.get(line.strip(), line), _IF_EVER)
    except CronSimError as error:
        bad = str(error).removeprefix("Bad ")
    parts = line.split()
    if line.strip().startswith("@"):
        raise ConfigError(f"cron line {line!r:.80} is not understood; of those with @ there are {', '.join(_LINES)}")
    if len(parts) not in (5, 6) or bad not in _OF_CRONSIM:
        raise ConfigError(
            f"cron line {line!r:.80} has {len(parts)} field{'s' * (len(parts) != 1)}: write 5, minute hour "
            f"day_of_month month_of_year day_of_week, or 6 with the second before them"
        )
    field = (_SECONDS, *FIELDS)[_OF_CRONSIM.index(bad)]
    text = parts[_OF_CRONSIM.index(bad) - (len(parts) == 5)]
    more = {"day_of_month": ", L, LW", "day_of_week": ", 5L, 5#2"}.get(field.name, "")
    never = ", or no month has it" if field.name == "day_of_month" else ""
    raise ConfigError(
        f"cron line {line!r:.80}: {field.name} {text!r:.40} is not understood{never}; allowed are "
        f"{field.allowed}, *, a-b, */n, a-b/n{more}, and several of them with commas between"
    )


def _since_epoch(wall: datetime) -> int:
    return _microseconds(wall - _EPOCH)


def _wall(instant: int, offset: timedelta) -> datetime:
    return _EPOCH + timedelta(microseconds=instant) + offset


def _microseconds(duration: timedelta) -> int:
    return (duration.days * 86400 + duration.seconds) * SECOND_US + duration.microseconds


def _at(instant: int, zone: ZoneInfo) -> datetime:
    return (_EPOCH + timedelta(microseconds=instant)).replace(tzinfo=UTC).astimezone(zone)
