"""Arguments and results come back exactly, and nothing but a clear error comes of what cannot."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import datetime as dt
import enum
import math
import pickle
import struct
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgpack
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mesh.errors import MeshError, PayloadTooLarge, ProtocolError, StoreDamaged, Unpicklable, Unreadable
from mesh.model import Blob
from mesh.wire import payload as payloads
from mesh.wire.parts import PART_BYTES_MAX

INLINE, TOTAL = 64 << 10, 256 << 20


def encode(value: Any, inline_max: int = INLINE, total_max: int = TOTAL) -> payloads.Encoded:
    return payloads.encode(value, key="t1", inline_max=inline_max, total_max=total_max)


def encode_call(*args: Any, **kwargs: Any) -> payloads.Encoded:
    return payloads.encode_call(args, kwargs, key="t1", inline_max=INLINE, total_max=TOTAL)


def there_and_back(value: Any, inline_max: int = INLINE) -> Any:
    """Through bytes, as the network makes them."""
    payload, parts = encode(value, inline_max)
    return payloads.decode(payload, [bytes(part) for part in parts])


def exactly(value: Any) -> Any:
    """A form in which only equal values of equal types at every depth are equal, NaN and -0.0 included."""
    kind = type(value)
    if kind in (list, tuple):
        return kind, [exactly(item) for item in value]
    if kind in (set, frozenset):
        return kind, sorted(repr(exactly(item)) for item in value)
    if kind is dict:
        return kind, [(exactly(key), exactly(item)) for key, item in value.items()]
    if kind is float:
        return kind, "nan" if math.isnan(value) else struct.pack("d", value)
    if kind is complex:
        return kind, exactly(value.real), exactly(value.imag)
    if kind in (dt.datetime, dt.time):
        return kind, value.replace(tzinfo=None), value.fold, repr(value.tzinfo)
    if kind is Decimal:
        return kind, str(value)
    return kind, value


# Composites, because the repr of strategies this deep is enormous, and Hypothesis makes it whenever it draws again.


@st.composite
def zones(draw):
    offsets = st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23))
    known = [None, dt.UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("UTC"), dt.timezone(dt.timedelta(hours=1), "home")]
    return draw(st.sampled_from(known) | st.builds(dt.timezone, offsets))


HASHABLE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1]),
    st.floats(),
    st.complex_numbers(),
    st.text(st.characters()),
    st.binary(),
    st.datetimes(timezones=zones()),
    st.dates(),
    st.times(timezones=zones()),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.fractions(),
    st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 9)),
    zones(),
)
LEAVES = st.one_of(HASHABLE, st.decimals(), st.binary().map(bytearray), st.builds(slice, st.integers(), st.none()))


@st.composite
def hashables(draw):
    return draw(HASHABLE)


@st.composite
def leaves(draw):
    return draw(LEAVES)


KEYS = st.recursive(
    hashables(),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=12,
)


@st.composite
def keys(draw):
    return draw(KEYS)


VALUES = st.recursive(
    leaves(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(keys(), inner, max_size=4),
        st.sets(keys(), max_size=4),
    ),
    max_leaves=12,
)


@st.composite
def plain_values(draw):
    return draw(VALUES)


values = plain_values()


@given(values)
@example([True, 1, 1.0, -0.0, {True: 0}, {1: 0}, {1.0: 0}])
@example(Decimal("-sNaN12"))
@example("\ud800")
@example({"\udfff": [(), ((),), [], {}, set(), frozenset()]})
def test_plain_data_comes_back_exactly(value):
    assert exactly(there_and_back(value)) == exactly(value)


@given(st.lists(values, max_size=3), st.dictionaries(st.text(max_size=5), values, max_size=3))
def test_arguments_come_back_exactly(args, kwargs):
    payload, parts = encode_call(*args, **kwargs)
    got_args, got_kwargs = payloads.decode_call(payload, parts)
    assert exactly(got_args) == exactly(tuple(args))
    assert exactly(got_kwargs) == exactly(kwargs)


class Point(NamedTuple):
    x: int
    y: int


class Colour(enum.IntEnum):
    RED = 1


class Word(str):
    __slots__ = ()


class Home(dt.tzinfo):
    def utcoffset(self, when):
        return dt.timedelta(hours=3)


@pytest.mark.parametrize(
    "value",
    [
        Point(1, 2),
        [Point(1, 2)],
        Colour.RED,
        {Colour.RED: 1},
        Word("a"),
        {Word("a"): 1},
        collections.OrderedDict(a=1),
        collections.defaultdict(list, a=[1]),
        collections.deque([1, 2], 3),
        np.int64(5),
        np.float64(5.0),
        [np.float64(1.5), 1.5],
        bytearray(b"ab"),
        [bytearray(b"ab"), b"ab"],
        msgpack.ExtType(1, b"ab"),
        [msgpack.Timestamp(1, 2)],
        pytest.param(uuid.uuid1(), id="uuid1"),  # a new one in each process: no name for a test
        range(Colour.RED, 5),
        Ellipsis,
        int,
    ],
    ids=repr,
)
def test_what_only_looks_like_plain_data_comes_back_exactly_too(value):
    got = there_and_back(value)
    assert got == value and type(got) is type(value)
    if isinstance(value, dict | list):
        assert [*map(type, got)] == [*map(type, value)]


def test_arguments_of_subclasses_come_back_exactly():
    args, kwargs = payloads.decode_call(encode_call(Colour.RED, Word("a"), **{Word("name"): True}).payload)
    assert [*map(type, args)] == [Colour, Word]
    assert kwargs == {"name": True} and kwargs["name"] is True


def test_a_uuid_keeps_what_it_knows_of_its_safety():
    value = uuid.UUID(int=5, is_safe=uuid.SafeUUID.safe)
    assert there_and_back(value).is_safe is uuid.SafeUUID.safe


def test_time_zones_come_back_as_themselves():
    now = dt.datetime(2026, 10, 25, 2, 30, fold=1)
    berlin = there_and_back(now.replace(tzinfo=ZoneInfo("Europe/Berlin")))
    assert berlin.tzinfo is ZoneInfo("Europe/Berlin") and berlin.fold == 1
    assert there_and_back(now.replace(tzinfo=dt.UTC)).tzinfo is dt.UTC
    assert type(there_and_back(now.replace(tzinfo=Home())).tzinfo) is Home
    apart = ZoneInfo.no_cache("Europe/Berlin")
    assert there_and_back(now.replace(tzinfo=apart)).tzinfo is not ZoneInfo("Europe/Berlin")


def test_cycles_and_shared_parts_come_back():
    cycle: list[Any] = [1]
    cycle.append(cycle)
    got = there_and_back(cycle)
    assert got[0] == 1 and got[1] is got
    widest: Any = "x"
    for _ in range(60):
        widest = [widest, widest]  # 2 ** 60 leaves if each were written out
    assert len(encode(widest).payload) < 2000
    assert there_and_back([[1], [1]]) == [[1], [1]]


@pytest.mark.parametrize("depth", [10, 63, 64, 65, 150])
def test_deep_data_comes_back(depth):
    value: Any = 0
    for _ in range(depth):
        value = [value]
    assert there_and_back(value) == value
    value = 0
    for _ in range(depth):
        value = (value,)
    assert there_and_back(value) == value


def test_plain_data_is_not_pickled():
    for value in (None, 5, "a", [1, {"a": (2**70, {3})}], dt.datetime.now(dt.UTC), Decimal("1.5"), Fraction(1, 3)):
        assert encode(value).payload[:1] != b"\x03"
    assert encode_call(1, "a", when=dt.date(2026, 1, 1)).payload[:1] != b"\x03"


def test_functions_and_classes_of_main_are_sent_by_value():
    factor = 3
    assert payloads.decode_call(encode_call(lambda n: n * factor).payload)[0][0](14) == 42


def test_small_payloads_stay_inline_and_large_ones_do_not():
    for value in (b"x" * 100, "x" * 100, [1] * 100, Point("x" * 100, 1), bytearray(100)):
        size = len(encode(value, inline_max=1000).payload)
        assert encode(value, inline_max=size).parts == []
        payload, parts = encode(value, inline_max=size - 1)
        assert payload == Blob("t1", [size]) and sum(map(len, parts)) == size
        assert payloads.decode(payload, parts) == value


def test_large_payloads_are_cut_into_parts():
    payload, parts = encode(b"x" * (2 * PART_BYTES_MAX + 5))
    assert [len(part) for part in parts] == [PART_BYTES_MAX, PART_BYTES_MAX, payload.size - 2 * PART_BYTES_MAX]
    assert payloads.decode(payload, parts) == b"x" * (2 * PART_BYTES_MAX + 5)
    call = payloads.encode_call(("y" * PART_BYTES_MAX,), {}, key="t1", inline_max=INLINE, total_max=TOTAL)
    assert payloads.decode_call(*call) == (("y" * PART_BYTES_MAX,), {})


def address(buffer: Any) -> int:
    return int(np.frombuffer(buffer, dtype=np.uint8).__array_interface__["data"][0])


def test_arrays_are_not_copied():
    array = np.arange(1 << 18)  # 2 MiB
    payload, parts = encode_call(array, axis=0)
    assert isinstance(payload, Blob) and payload.sizes[1:] == [array.nbytes]
    start = array.__array_interface__["data"][0]
    assert [address(part) for part in parts[1:]] == [start, start + PART_BYTES_MAX]

    whole = bytearray(array.tobytes())
    small = np.arange(10_000)  # 80 kB: one part
    payload, parts = encode(small)
    writable = bytearray(parts[1])
    got = payloads.decode(payload, [parts[0], writable])
    assert address(got) == address(writable)
    assert len(whole) == array.nbytes


@pytest.mark.parametrize("size", [10, 10_000, 500_000])
@pytest.mark.parametrize("copy", [bytes, bytearray, memoryview])
def test_arrays_come_back_writable(size, copy):
    array = np.random.default_rng(0).random(size)
    fortran = np.asfortranarray(array.reshape(2, -1))
    payload, parts = encode({"a": array, "b": [fortran], "c": array[::2]})
    got = payloads.decode(payload, [copy(bytes(part)) for part in parts])
    assert np.array_equal(got["a"], array) and np.array_equal(got["b"][0], fortran)
    assert np.array_equal(got["c"], array[::2])
    got["a"][0] = 5.0
    got["b"][0][0, 0] = 5.0


def test_an_array_that_may_not_be_written_stays_so():
    array = np.arange(10_000)
    array.flags.writeable = False
    assert not there_and_back(array).flags.writeable


def test_many_arrays_have_a_bounded_number_of_buffers():
    arrays = [np.zeros(70_000, dtype=np.uint8) for _ in range(600)]
    payload, parts = encode(arrays)
    assert len(payload.sizes) <= 1024
    assert sum(a.nbytes for a in payloads.decode(payload, parts)) == 600 * 70_000


@pytest.mark.parametrize("value", ["x" * 2000, [1] * 2000, Point("x" * 2000, 1), bytearray(2000), np.zeros(100_000)])
def test_a_payload_over_the_limit_is_refused(value):
    with pytest.raises(PayloadTooLarge, match=r"payload of t1 has \d+ bytes, the limit payload_bytes_max is 1999"):
        encode(value, inline_max=100, total_max=1999)
    with pytest.raises(PayloadTooLarge, match="payload_bytes_max"):
        payloads.encode_call((value,), {}, key="t1", inline_max=100, total_max=1999)


def test_a_payload_of_too_many_parts_is_refused():
    arrays = [np.zeros(2 * PART_BYTES_MAX, dtype=np.uint8) for _ in range(500)]  # memory that is never touched
    with pytest.raises(PayloadTooLarge, match=r"makes 1001 parts .* no more than 1000"):
        encode(arrays, total_max=4 << 30)
    assert len(encode(arrays[1:], total_max=4 << 30).parts) == 999


def test_what_cannot_be_pickled_is_named():
    lock = threading.Lock()
    with pytest.raises(Unpicklable, match="argument 2, a lock,"):
        encode_call(1, lock)
    with pytest.raises(Unpicklable, match="argument 'guard', a lock,"):
        encode_call(1, guard=lock)
    with pytest.raises(TypeError, match="the result, a list,") as caught:
        encode([lock])
    assert isinstance(caught.value.__cause__, TypeError)


class Stubborn:
    def __reduce__(self):
        raise RuntimeError("no")


class Explodes:
    def __reduce__(self):
        return int, ("not a number",)


class Leaves:
    def __reduce__(self):
        return sys.exit, (3,)


def cancel():
    raise asyncio.CancelledError


class Cancels:
    def __reduce__(self):
        return cancel, ()


def test_whatever_a_class_raises_becomes_an_error_of_ours():
    with pytest.raises(Unpicklable, match="RuntimeError: no"):
        encode(Stubborn())
    with pytest.raises(Unreadable, match="ValueError"):
        payloads.decode(encode(Explodes()).payload)
    with pytest.raises(Unreadable, match="SystemExit: 3"):
        payloads.decode(encode(Leaves()).payload)
    with pytest.raises(Unreadable, match="CancelledError"):
        payloads.decode(encode(Cancels()).payload)


def test_a_missing_module_is_named(monkeypatch):
    module = type(sys)("their_models")
    exec("class Thing: pass", module.__dict__)
    module.Thing.__module__ = "their_models"
    monkeypatch.setitem(sys.modules, "their_models", module)
    payload = encode(module.Thing()).payload
    monkeypatch.delattr(module, "Thing")
    with pytest.raises(Unreadable, match="Thing"):
        payloads.decode(payload)
    monkeypatch.delitem(sys.modules, "their_models")
    with pytest.raises(Unreadable, match="module 'their_models'"):
        payloads.decode(payload)


def test_a_time_zone_unknown_here_is_named():
    payload = encode(dt.datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Berlin"))).payload
    with pytest.raises(Unreadable, match="Europe/Merlin"):
        payloads.decode(payload.replace(b"Europe/Berlin", b"Europe/Merlin"))


@pytest.mark.parametrize(
    ("payload", "parts"),
    [
        (b"", []),
        (b"\x00\x00", []),
        (b"\x09\x01", []),
        (b"\x01", []),
        (b"\x01\x01\x01", []),
        (b"\x01\xdd\xff\xff\xff\xff", []),
        (b"\x01" + b"\x91" * 100_000, []),
        (b"\x02" + b"\x91" * 100_000, []),
        (b"\x02\xdd\xff\xff\xff\xff", []),
        (b"\x02\xc7\x00\x01", []),  # a mark that heads no array
        (b"\x02\x92\x01\xc7\x00\x01", []),
        (b"\x02\x91\xc7\x00\x63", []),  # no such mark
        (b"\x02\x91\xc7\x01\x01x", []),  # a mark with data
        (b"\x02\x92\xc7\x00\x02\x90", []),  # a set of a list
        (b"\x02\x92\xc7\x00\x0b\x05", []),  # a zone that is a number
        (b"\x02\x92\xc7\x00\x0c\xa1x", []),  # a Decimal of "x"
        (b"\x02\x81\x90\x01", []),  # a list as a key
        (b"\x03", []),
        (b"\x03\x80\x05", []),
        (b"\x04\x01", []),
        (b"\x04\x92\x01", []),
        (b"\x01\x01", [b"x"]),
        (Blob("k", [2]), []),
        (Blob("k", [2]), [b"\x01"]),
        (Blob("k", [2]), [b"\x01\x01\x01"]),
        (Blob("k", [2]), [b"\x01\x01", b""]),
        (Blob("k", []), []),
    ],
)
def test_damaged_payloads_are_protocol_errors(payload, parts):
    with pytest.raises(ProtocolError):
        payloads.decode(payload, parts)
    with pytest.raises(ProtocolError):
        payloads.decode_call(payload, parts)


def test_what_was_lost_before_it_was_sent_is_said_to_be_lost():
    for read in (payloads.decode, payloads.decode_call):
        with pytest.raises(StoreDamaged, match="the payload is lost"):
            read(payloads.GONE)


def test_a_result_is_not_taken_for_arguments():
    for value in (5, [1], [[1], [2]], [[1], {2: 3}], Point(1, 2)):
        with pytest.raises(ProtocolError, match="not the arguments"):
            payloads.decode_call(encode(value).payload)
    with pytest.raises(ProtocolError, match="no result has format 04"):
        payloads.decode(encode_call(1).payload)


@given(st.sampled_from([b"\x01", b"\x02", b"\x04", b""]), st.binary(max_size=60))
def test_random_payloads_are_read_or_refused(form, data):
    for decode in (payloads.decode, payloads.decode_call):
        with contextlib.suppress(ProtocolError, StoreDamaged, Unreadable):
            decode(form + data)


@given(values, st.data())
def test_damaged_plain_payloads_are_read_or_refused(value, data):
    payload = bytearray(encode(value, inline_max=TOTAL).payload)
    if payload[0] == 3:
        payload[:] = payload[: data.draw(st.integers(1, len(payload) - 1))]
    else:
        payload[data.draw(st.integers(0, len(payload) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    if payload[0] != 3 or pickle.STOP not in payload:  # a pickle that is whole may do anything by design
        with contextlib.suppress(MeshError):
            payloads.decode(bytes(payload))


def test_threads_do_not_disturb_each_other():
    def work(number: int) -> bool:
        value = [number, (number, str(number)), {number: Decimal(number)}]
        return all(there_and_back(value) == value and there_and_back(number) == number for _ in range(200))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
