"""Messages ↔ frames: one envelope, then the parts of its Blobs in order of appearance.

Types, lengths and ranges are checked by msgspec while it decodes; what one field says about another is checked
here. A frame that fails either is a ``ProtocolError``, whatever its bytes are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple, get_args

import msgspec

from mesh.errors import ProtocolError
from mesh.messages import (
    Deliver,
    FromNode,
    FromRouter,
    Function,
    Message,
    Outcomes,
    PutFunction,
    Settled,
    Submit,
)
from mesh.model import Blob, Buffer, Settlement
from mesh.wire.frames import FRAMES_MAX, HEADER_BYTES, check_version, read_header, write_header
from mesh.wire.parts import PART_BYTES_MAX, group

FROM_NODE: tuple[type[Message], ...] = get_args(FromNode)
FROM_ROUTER: tuple[type[Message], ...] = get_args(FromRouter)


class Incoming(NamedTuple):
    """A message as it came: ``raw`` is its body, ``blobs`` are its large payloads with their parts.

    Those that were left in a depot have no parts.
    """

    session: int
    number: int
    message: Message
    raw: bytes
    blobs: list[tuple[Blob, list[Buffer]]]


_encoder = msgspec.msgpack.Encoder()
_from_node: msgspec.msgpack.Decoder[FromNode] = msgspec.msgpack.Decoder(FromNode)
_from_router: msgspec.msgpack.Decoder[FromRouter] = msgspec.msgpack.Decoder(FromRouter)
_submit = msgspec.msgpack.Decoder(Submit)


def encode(
    message: Message,
    session: int,
    number: int,
    parts_of: Callable[[Blob], Sequence[Buffer] | None] | None = None,
) -> list[Buffer]:
    """The frames of ``message``; ``parts_of`` gives the bytes of its Blobs, uncopied, but of those in a depot.

    Raises ``LookupError`` where it has none, and ``ProtocolError`` for more than FRAMES_MAX frames.
    """
    envelope = bytearray(HEADER_BYTES)
    _encoder.encode_into(message, envelope, HEADER_BYTES)
    write_header(envelope, session, number)
    frames: list[Buffer] = [envelope]
    for blob in blobs_of(message):
        if blob.file is not None:
            continue
        parts = parts_of(blob) if parts_of is not None else None
        if parts is None:
            raise LookupError(f"the bytes of payload {blob.key} are not here")
        frames += parts
    if len(frames) > FRAMES_MAX:
        raise ProtocolError(f"{type(message).__name__} needs {len(frames)} frames, the limit is {FRAMES_MAX}: split it")
    return frames


def decode_from_node(frames: Sequence[Buffer]) -> Incoming:
    """What a router received. Raises ``ProtocolError``."""
    return _decode(frames, _from_node)


def decode_from_router(frames: Sequence[Buffer]) -> Incoming:
    """What a client or a worker received. Raises ``ProtocolError``."""
    return _decode(frames, _from_router)


def encode_body(message: Message) -> bytes:
    """``message`` without header and parts, as it is journalled."""
    return _encoder.encode(message)


def decode_body(raw: Buffer) -> Submit:
    """Read a journalled SUBMIT again. Raises ``ProtocolError``."""
    submit: Submit = _checked(raw, _submit)
    return submit


def blobs_of(message: Message) -> list[Blob]:
    """The large payloads of ``message``, in the order in which their parts follow it."""
    payloads_of = _PAYLOADS.get(type(message))
    if payloads_of is None:
        return []
    payloads = payloads_of(message)
    # Almost always there are none: find that out without a step of Python per task.
    return [p for p in payloads if type(p) is Blob] if Blob in set(map(type, payloads)) else []


def _decode(frames: Sequence[Buffer], decoder: msgspec.msgpack.Decoder[Any]) -> Incoming:
    if not 0 < len(frames) <= FRAMES_MAX:
        raise ProtocolError(f"{len(frames)} frames; a message has 1 to {FRAMES_MAX}")
    envelope = frames[0]
    header = read_header(envelope)
    check_version(header)
    raw = bytes(memoryview(envelope)[HEADER_BYTES:])
    message = _checked(raw, decoder)
    blobs = blobs_of(message)
    if not blobs:
        if len(frames) > 1:
            raise ProtocolError(f"{len(frames) - 1} frames too many: no payload of the message is large")
        return Incoming(header.session, header.number, message, raw, [])
    return Incoming(header.session, header.number, message, raw, _with_parts(blobs, frames))


def _checked(raw: Buffer, decoder: msgspec.msgpack.Decoder[Any]) -> Any:
    try:
        message: Any = decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"malformed body: {error}") from error
    if type(message) is Submit:
        _check_options(message.tasks, range(len(message.options)))
    elif type(message) is Deliver:
        _check_options(message.tasks, message.options)
    return message


def _check_options(tasks: Sequence[Any], known: range | dict[int, Any]) -> None:
    """Every task must refer to options that came with it. The set keeps this out of Python for each task."""
    for option in set(map(_option, tasks)):
        if option not in known:
            raise ProtocolError(f"a task refers to options {option}, which did not come with it")


def _with_parts(blobs: list[Blob], frames: Sequence[Buffer]) -> list[tuple[Blob, list[Buffer]]]:
    sizes = list(chain.from_iterable(blob.sizes for blob in blobs if blob.file is None))
    buffers = iter(group(sizes, frames[1:], PART_BYTES_MAX))
    return [(blob, [part for _ in _sizes_sent(blob) for part in next(buffers)]) for blob in blobs]


def _sizes_sent(blob: Blob) -> list[int]:
    return [] if blob.file is not None else blob.sizes


_option = attrgetter("option")
_payload = attrgetter("payload")


def _of_settlements(settlements: list[Settlement]) -> list[Any]:
    if set(map(type, map(_retry, settlements))) <= {type(None)}:
        return list(map(_payload, settlements))
    return [p for s in settlements for p in (s.payload, s.retry.payload if s.retry else None)]


_retry = attrgetter("retry")

_PAYLOADS: dict[type[Message], Callable[[Any], list[Any]]] = {
    Submit: lambda m: list(map(_payload, m.tasks)),
    Deliver: lambda m: list(map(_payload, m.tasks)),
    Outcomes: lambda m: list(map(_payload, m.outcomes)),
    Settled: lambda m: _of_settlements(m.settlements),
    PutFunction: lambda m: [m.code.payload],
    Function: lambda m: [m.code.payload] if m.code else [],
}
"""Where a verb may carry payloads; a test finds a verb that is missing here."""
