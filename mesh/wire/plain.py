"""Plain data ↔ MessagePack, exactly: equal value, same types at every depth. What is not plain is left to pickle.

MessagePack knows neither tuples, sets, dates nor large integers. Such a value travels as an array whose first item
is an empty extension, its *mark*: ``[mark of tuple, 1, 2]``. Reading marks costs a call per array, so data without
any has a format of its own, and that is nearly all data.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from itertools import chain
from typing import Any
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgpack
import msgspec

from mesh.errors import ProtocolError, Unreadable
from mesh.model import Buffer

PLAIN = b"\x01"
MARKED = b"\x02"
ARGUMENTS = b"\x04"  # the positional arguments of a call without others

DEPTH_MAX = 64
"""Deeper data is pickled: reading must not run out of stack wherever it happens."""

LARGE_BYTES = 16 << 10
"""Larger data is worth a view instead of a copy."""

SCALARS = frozenset({type(None), bool, int, float, str, bytes})
CONTAINERS = frozenset({list, dict, tuple, set, frozenset})

_encoder = msgspec.msgpack.Encoder()
pack_scalars = _encoder.encode
unpack_plain = msgspec.msgpack.Decoder().decode
unpack_arguments = msgspec.msgpack.Decoder(tuple).decode


class NotPlain(TypeError):
    """This value would not come back as it went."""


def pack(value: Any) -> bytes | None:
    """``value`` with its format byte; None where it is not plain data."""
    form = _form(value)
    if form is None:
        return None
    try:
        if form is PLAIN:
            try:
                return PLAIN + pack_scalars(value)
            except OverflowError:  # an integer of more than 64 bits somewhere
                pass
        packed: bytes = msgpack.Packer(strict_types=True, default=_mark).pack(value)
    except (NotPlain, ValueError, OverflowError):  # UnicodeEncodeError (lone surrogates) is a ValueError
        return None
    return MARKED + packed


def pack_behind(form: bytes, value: Any) -> bytes | bytearray:
    """Scalars behind their format byte. One that is large, alone or as the one argument, is copied once."""
    one = value[0] if type(value) is tuple and len(value) == 1 else value
    if type(one) in (bytes, str) and len(one) > LARGE_BYTES:
        packed = bytearray(form)
        _encoder.encode_into(value, packed, len(form))
        return packed
    return form + pack_scalars(value)


def behind_form(data: Buffer) -> Buffer:
    """``data`` without its format byte; what is large is not copied."""
    return data[1:] if len(data) <= LARGE_BYTES else memoryview(data)[1:]


def unpack(data: Buffer) -> Any:
    """The value of PLAIN or MARKED ``data``. Raises ``ProtocolError``, or ``Unreadable`` for an unknown time zone."""
    try:
        return unpack_plain(behind_form(data)) if data[:1] == PLAIN else _Reader().read(behind_form(data))
    except (ProtocolError, Unreadable):
        raise
    except (msgspec.MsgspecError, msgpack.UnpackException, ValueError, TypeError, RecursionError) as error:
        raise ProtocolError(f"damaged payload: {error}") from error


def _form(value: Any) -> bytes | None:
    """How ``value`` can be packed. Walks level by level, so that all per-item work is done in C.

    A container met twice is left to pickle: that keeps its identity, ends cycles, and a small value whose parts
    are shared many times over does not explode.
    """
    level: list[Any] = [value]
    seen: set[int] = set()
    form = PLAIN
    for _ in range(DEPTH_MAX):
        types = set(map(type, level))
        if types <= SCALARS:
            return form
        if not types <= _UNMARKED:
            if not types <= _KNOWN:
                return None
            form = MARKED
        containers = [item for item in level if type(item) in CONTAINERS]
        before = len(seen)
        seen.update(map(id, containers))
        if len(seen) != before + len(containers):
            return None
        level = list(chain.from_iterable(containers))
        if dict in types:
            for item in containers:
                if type(item) is dict:
                    level += item.values()
    return None


def _fields_of_datetime(value: dt.datetime) -> tuple[Any, ...]:
    return (value.year, value.month, value.day, *_fields_of_time(value))


def _fields_of_time(value: dt.time | dt.datetime) -> tuple[Any, ...]:
    return value.hour, value.minute, value.second, value.microsecond, value.fold, value.tzinfo


def _fields_of_timezone(value: dt.timezone) -> tuple[Any, ...]:
    offset = value.utcoffset(None)
    if repr(value) != repr(dt.timezone(offset)):
        raise NotPlain("a time zone with a name of its own")
    return (offset,)


def _fields_of_zone(value: ZoneInfo) -> tuple[Any, ...]:
    try:
        if ZoneInfo(value.key) is value:
            return (value.key,)
    except (TypeError, ValueError, LookupError):
        pass
    raise NotPlain("a time zone that its name does not lead to")


def _fields_of_uuid(value: UUID) -> tuple[Any, ...]:
    if value.is_safe is not SafeUUID.unknown:
        raise NotPlain("a UUID that knows how safe it is")
    return (value.bytes,)


def _fields_of_int(value: int) -> tuple[Any, ...]:
    return (value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True),)


def _build_datetime(*fields: Any) -> dt.datetime:
    year, month, day, hour, minute, second, microsecond, fold, zone = fields
    return dt.datetime(year, month, day, hour, minute, second, microsecond, zone, fold=fold)


def _build_time(*fields: Any) -> dt.time:
    hour, minute, second, microsecond, fold, zone = fields
    return dt.time(hour, minute, second, microsecond, zone, fold=fold)


def _build_zone(key: str) -> ZoneInfo:
    try:
        return ZoneInfo(key)
    except ZoneInfoNotFoundError as error:
        raise Unreadable(f"this node knows no time zone {key!r}; install the package tzdata") from error


_MARKS: list[tuple[int, type, Callable[[Any], Any], Callable[..., Any]]] = [
    # number, type, value → fields, fields → value; the numbers are the wire format
    (1, tuple, lambda v: v, lambda *items: items),
    (2, set, lambda v: v, lambda *items: set(items)),
    (3, frozenset, lambda v: v, lambda *items: frozenset(items)),
    (4, int, _fields_of_int, lambda raw: int.from_bytes(raw, "big", signed=True)),
    (5, complex, lambda v: (v.real, v.imag), complex),
    (6, dt.datetime, _fields_of_datetime, _build_datetime),
    (7, dt.date, lambda v: (v.year, v.month, v.day), dt.date),
    (8, dt.time, _fields_of_time, _build_time),
    (9, dt.timedelta, lambda v: (v.days, v.seconds, v.microseconds), dt.timedelta),
    (10, dt.timezone, _fields_of_timezone, dt.timezone),
    (11, ZoneInfo, _fields_of_zone, _build_zone),
    (12, Decimal, lambda v: (str(v),), Decimal),
    (13, UUID, _fields_of_uuid, lambda raw: UUID(bytes=raw)),
    (14, Fraction, lambda v: (v.numerator, v.denominator), Fraction),
    (15, range, lambda v: (v.start, v.stop, v.step), range),
]
_FIELDS = {kind: (msgpack.ExtType(number, b""), fields) for number, kind, fields, _ in _MARKS}
_KNOWN = SCALARS | CONTAINERS | set(_FIELDS)
_UNMARKED = SCALARS | {list, dict}


class _Mark:
    """Stands for a mark while its array is being read."""

    __slots__ = ("build",)

    def __init__(self, build: Callable[..., Any]) -> None:
        self.build = build


_BUILDERS = {number: _Mark(build) for number, _, _, build in _MARKS}


def _mark(value: Any) -> list[Any]:
    try:
        mark, fields = _FIELDS[type(value)]
    except KeyError:
        raise NotPlain(type(value).__name__) from None
    return [mark, *fields(value)]


class _Reader:
    """Reads MARKED data once. ``_open`` counts marks not yet at the head of an array: none may be left over."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open = 0

    def read(self, data: Buffer) -> Any:
        value = msgpack.unpackb(data, strict_map_key=False, ext_hook=self._on_mark, list_hook=self._on_array)
        if self._open:
            raise ProtocolError("damaged payload: a mark out of place")
        return value

    def _on_mark(self, number: int, data: bytes) -> _Mark:
        if data or number not in _BUILDERS:
            raise ProtocolError(f"damaged payload: no mark has number {number}")
        self._open += 1
        return _BUILDERS[number]

    def _on_array(self, items: list[Any]) -> Any:
        if not items or type(items[0]) is not _Mark:
            return items
        self._open -= 1
        try:
            return items[0].build(*items[1:])
        except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise ProtocolError(f"damaged payload: {error}") from error
