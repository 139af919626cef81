"""Arguments and results ↔ bytes. The first byte names the format.

Plain data (``mesh.wire.plain``) is MessagePack and needs no code to be read; everything else is pickled
(``mesh.wire.pickled``). Both come back exactly: same value, same types.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from mesh.errors import PayloadTooLarge, ProtocolError, StoreDamaged, Unpicklable
from mesh.model import Blob, Buffer, Payload
from mesh.wire import pickled, plain
from mesh.wire.parts import PART_BYTES_MAX, cut, group, join, join_writable

PARTS_MAX = 1_000
"""Parts of one payload: they and the envelope must fit FRAMES_MAX of ``mesh.wire.frames``."""


class Encoded(NamedTuple):
    """``payload`` as it goes into a message, and the ``parts`` of its bytes where it is a Blob.

    Parts of arrays are views of the arrays' own memory: who keeps them keeps the arrays, and sees them change.
    """

    payload: Payload
    parts: list[Buffer]


def _inline(data: bytes, parts: list[Buffer]) -> Encoded:
    return tuple.__new__(Encoded, (data, parts))  # half the price of calling the class


_NOTHING = Encoded(plain.PLAIN + plain.pack_scalars(None), [])
_NO_ARGUMENTS = Encoded(plain.ARGUMENTS + plain.pack_scalars(()), [])
_all_scalars = plain.SCALARS.issuperset
_all_strings = frozenset({str}).issuperset


GONE = b"\x00"
"""In place of a large payload that its node has not got any more, or that is not what was written."""


def encode(value: Any, *, key: str, inline_max: int, total_max: int) -> Encoded:
    """Encode a result. Raises ``PayloadTooLarge`` over ``total_max`` bytes, ``Unpicklable``.

    ``key`` names the bytes if they are more than ``inline_max``.
    """
    if value is None and inline_max:
        return _NOTHING
    if type(value) in plain.SCALARS:
        try:
            data = plain.pack_behind(plain.PLAIN, value)
        except (OverflowError, UnicodeEncodeError):
            pass
        else:
            if len(data) <= inline_max:
                return _inline(bytes(data), [])
            return _placed(data, [], key, inline_max, total_max)
    packed = plain.pack(value)
    if packed is not None:
        return _placed(packed, [], key, inline_max, total_max)
    outside_min = max(pickled.OUTSIDE_BYTES_MIN, inline_max)
    data, outside = pickled.pack(value, f"the result, a {type(value).__qualname__},", outside_min)
    return _placed(data, outside, key, inline_max, total_max)


def encode_call(args: tuple[Any, ...], kwargs: dict[str, Any], *, key: str, inline_max: int, total_max: int) -> Encoded:
    """Encode the arguments of a call; see ``encode``. ``Unpicklable`` names the argument."""
    if not args and not kwargs and inline_max:
        return _NO_ARGUMENTS
    if _all_scalars(map(type, args)) and (not kwargs or _named_scalars(kwargs)):
        try:
            if kwargs:
                data: bytes | bytearray = plain.PLAIN + plain.pack_scalars((args, kwargs))
            else:
                data = plain.pack_behind(plain.ARGUMENTS, args)
        except (OverflowError, UnicodeEncodeError):
            pass
        else:
            if len(data) <= inline_max:
                return _inline(bytes(data), [])
            return _placed(data, [], key, inline_max, total_max)
    packed = plain.pack([list(args), kwargs])
    if packed is not None:
        return _placed(packed, [], key, inline_max, total_max)
    data, outside = _pickle_call(args, kwargs, max(pickled.OUTSIDE_BYTES_MIN, inline_max))
    return _placed(data, outside, key, inline_max, total_max)


def decode(payload: Payload, parts: Sequence[Buffer] = ()) -> Any:
    """Decode a result; ``parts`` are the bytes of a Blob.

    Raises ``ProtocolError`` when they are damaged, ``StoreDamaged`` when they were lost before they were sent,
    ``Unreadable`` when this process lacks the code to read them.
    """
    if payload == _NOTHING.payload:
        return None
    data, outside = _gathered(payload, parts)
    form = data[:1]
    if form in (plain.PLAIN, plain.MARKED):
        return plain.unpack(data)
    if form == pickled.PICKLED:
        return pickled.unpack(data, outside)
    if data == GONE:
        why = "it is gone, or not what was written; the log of the node that had it says more"
        raise StoreDamaged(f"the payload is lost: {why}")
    raise ProtocolError(f"damaged payload: no result has format {bytes(form).hex() or 'nothing'}")


def is_pickled(payload: bytes) -> bool:
    """Whether to decode it is to run what its sender likes."""
    return payload[:1] == pickled.PICKLED


def decode_call(payload: Payload, parts: Sequence[Buffer] = ()) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Decode the arguments of a call; see ``decode``."""
    if type(payload) is bytes:
        if payload == _NO_ARGUMENTS.payload:
            return (), {}
        if payload[:1] == plain.ARGUMENTS:
            return _unpack_arguments(payload), {}
    elif parts and bytes(memoryview(parts[0])[:1]) == plain.ARGUMENTS:
        return _unpack_arguments(_gathered(payload, parts)[0]), {}
    call = decode(payload, parts)
    if type(call) in (list, tuple) and len(call) == 2:
        args, kwargs = call
        if type(args) in (list, tuple) and type(kwargs) is dict and all(isinstance(name, str) for name in kwargs):
            return tuple(args), kwargs
    raise ProtocolError("damaged payload: not the arguments of a call")


def _named_scalars(kwargs: dict[str, Any]) -> bool:
    return _all_scalars(map(type, kwargs.values())) and _all_strings(map(type, kwargs))


def _unpack_arguments(data: Buffer) -> tuple[Any, ...]:
    try:
        return plain.unpack_arguments(plain.behind_form(data))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"damaged payload: {error}") from error


def _pickle_call(args: tuple[Any, ...], kwargs: dict[str, Any], outside_min: int) -> tuple[bytes, list[memoryview]]:
    try:
        return pickled.pack((args, kwargs), "the call", outside_min)
    except Unpicklable:
        for position, value in enumerate(args, start=1):
            pickled.pack(value, f"argument {position}, a {type(value).__qualname__},", outside_min)
        for name, value in kwargs.items():
            pickled.pack(value, f"argument {name!r}, a {type(value).__qualname__},", outside_min)
        raise  # each alone can be pickled, together they cannot


def _placed(data: bytes | bytearray, outside: list[memoryview], key: str, inline_max: int, total_max: int) -> Encoded:
    """``data`` inside the message where it is small and whole, else in parts."""
    sizes = [len(data), *(view.nbytes for view in outside)]
    total = sum(sizes)
    if total > total_max:
        raise PayloadTooLarge(
            f"the payload of {key} has {total} bytes, the limit payload_bytes_max is {total_max}: nothing was sent. "
            "Pass a path or a reference to the data, or raise payload_bytes_max on this node"
        )
    if not outside and total <= inline_max:
        return Encoded(bytes(data), [])
    buffers: list[Buffer] = [data, *outside]
    parts = [part for buffer in buffers for part in cut(buffer)]
    if len(parts) > PARTS_MAX:
        raise PayloadTooLarge(
            f"the payload of {key}, {total} bytes, makes {len(parts)} parts of at most {PART_BYTES_MAX} bytes; "
            f"no more than {PARTS_MAX} can be sent. Pass a path or a reference to the data"
        )
    return Encoded(Blob(key, sizes), parts)


def _gathered(payload: Payload, parts: Sequence[Buffer]) -> tuple[Buffer, list[Buffer]]:
    """The payload's first buffer and the others; the others may be written to."""
    if not isinstance(payload, Blob):
        if parts:
            raise ProtocolError("parts came with a payload that has none")
        return payload, []
    groups = group(payload.sizes, parts)
    if not groups:
        raise ProtocolError(f"payload {payload.key} has no buffers")
    return join(groups[0]) if groups[0] else b"", [join_writable(mine) for mine in groups[1:]]
