"""How journal entries, marks, functions, nodes, outcomes and periodic tasks become rows in Redis.

A row is a MAC and a body. Outcomes and functions begin their body with a head that the scripts read: which router wrote
it, the batch, when it expires, and the key and sizes of its large payload. So do the rows of due times: which router
wrote it, its bid (0: they are fired), the first and the last of them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from mesh.core.commands import DueSpan
from mesh.entries import Entry, Position
from mesh.errors import RowDamaged
from mesh.model import Blob, Buffer, FunctionCode, NodeInfo, Outcome, Payload, TaskMark
from mesh.store.redis.sealing import MAC_BYTES, Signer

T = TypeVar("T")

_JOURNAL = struct.Struct("<qd")
_HEAD = struct.Struct("<12sddH")
_DUE = struct.Struct("<12sddd")
_ENCODE = msgspec.msgpack.Encoder().encode
_OUTCOME = msgspec.msgpack.Decoder(Outcome)
_FUNCTION = msgspec.msgpack.Decoder(FunctionCode)
_MARK = msgspec.msgpack.Decoder(TaskMark)
_NODE = msgspec.msgpack.Decoder(NodeInfo)
_ENTRY = msgspec.msgpack.Decoder(Entry)
_POSITION = msgspec.msgpack.Decoder(Position)
_SETTLED = msgspec.msgpack.Decoder(tuple[int, list[str]])
_APP = msgspec.msgpack.Decoder(tuple[str, float])
_ROUTER_ID = re.compile(rb"[0-9a-f]{12}")


class Rows:
    """Makes and reads the rows of the router ``router_id`` (12 hex digits), and those that all routers share."""

    def __init__(self, row_key: bytes, router_id: str) -> None:
        self._router = router_id.encode()
        self._journal = Signer(row_key, f"journal/{router_id}")
        self._marks = Signer(row_key, f"mark/{router_id}")
        self._nodes = Signer(row_key, f"node/{router_id}")
        self._entries = Signer(row_key, f"entry/{router_id}")
        self._positions = Signer(row_key, f"position/{router_id}")
        self._apps = Signer(row_key, f"app/{router_id}")
        self._settled = Signer(row_key, f"settled/{router_id}")
        self._adopted = Signer(row_key, "adopted")
        self._names = Signer(row_key, "name")
        self._outcomes = Signer(row_key, "outcome")
        self._functions = Signer(row_key, "function")
        self._dues = Signer(row_key, "due")
        self.blobs = Signer(row_key, "blob")

    def batch(self, seq: int, accepted_at: float, raw: bytes) -> bytes:
        """The row of a batch."""
        return self._journal.sign(_JOURNAL.pack(seq, accepted_at) + raw)

    def read_batch(self, seq: bytes, row: bytes) -> tuple[int, float, bytes] | None:
        """Number, time and bytes of a batch; None where the row is not what was written."""
        body = self._journal.body(row)
        if body is None or len(body) < _JOURNAL.size:
            return None
        number, accepted_at = _JOURNAL.unpack_from(body)
        return (number, accepted_at, body[_JOURNAL.size :]) if b"%d" % number == seq else None

    def settled(self, seq: int, ids: Sequence[str]) -> bytes:
        """A row that says which tasks of a batch one commit has finished."""
        return self._settled.sign(_ENCODE((seq, ids)))

    def read_settled(self, seq: int, rows: Iterable[bytes]) -> tuple[set[str], list[bytes]]:
        """The tasks of a batch that are finished, and those of the rows that are not what was written."""
        ids: set[str] = set()
        damaged: list[bytes] = []
        for row in rows:
            found = _decoded(_SETTLED, self._settled.body(row))
            if found is not None and found[0] == seq:
                ids.update(found[1])
            else:
                damaged.append(row)
        return ids, damaged

    def adopted(self, task_id: str) -> bytes:
        """The row that says that this router has adopted a task."""
        return self._adopted.sign(self._router + task_id.encode())

    def read_adopted(self, task_id: str, row: bytes) -> str | None:
        """Which router has adopted a task; None where the row is not what was written."""
        body = self._adopted.body(row)
        return body[:12].decode() if body is not None and body[12:] == task_id.encode() else None

    def name(self, name: str) -> bytes:
        """The row that says by which name this router's journal is asked for."""
        return self._names.sign(self._router + name.encode())

    def read_name(self, router_id: str, row: bytes) -> str | None:
        """By which name a router's journal is asked for; None where the row is not what was written."""
        body = self._names.body(row)
        return body[12:].decode() if body is not None and body[:12] == router_id.encode() else None

    def mark(self, mark: TaskMark) -> bytes:
        """The row of a mark."""
        return self._marks.sign(_ENCODE(mark))

    def read_mark(self, task_id: bytes, row: bytes) -> TaskMark | None:
        """The mark in a row; None where it is not what was written."""
        mark = _decoded(_MARK, self._marks.body(row))
        return mark if mark is not None and mark.id.encode() == task_id else None

    def node(self, node: NodeInfo) -> bytes:
        """The row of a worker."""
        return self._nodes.sign(_ENCODE(node))

    def read_node(self, node_id: bytes, row: bytes) -> NodeInfo | None:
        """The worker in a row; None where it is not what was written."""
        node = _decoded(_NODE, self._nodes.body(row))
        return node if node is not None and node.node_id.encode() == node_id else None

    def entry(self, entry: Entry) -> bytes:
        """The row of an entry of periodic tasks."""
        return self._entries.sign(_ENCODE(entry))

    def read_entry(self, name: bytes, row: bytes) -> Entry | None:
        """The entry in a row; None where it is not what was written."""
        entry = _decoded(_ENTRY, self._entries.body(row))
        return entry if entry is not None and entry.name.encode() == name else None

    def position(self, position: Position) -> bytes:
        """The row of a position."""
        return self._positions.sign(_ENCODE(position))

    def read_position(self, name: bytes, row: bytes) -> Position | None:
        """The position in a row; None where it is not what was written."""
        position = _decoded(_POSITION, self._positions.body(row))
        return position if position is not None and position.entry.encode() == name else None

    def app(self, name: str, declared_at: float) -> bytes:
        """The row that says when the code of an app was loaded."""
        return self._apps.sign(_ENCODE((name, declared_at)))

    def read_app(self, name: bytes, row: bytes) -> tuple[str, float] | None:
        """The app in a row, and when its code was loaded; None where it is not what was written."""
        found = _decoded(_APP, self._apps.body(row))
        return found if found is not None and found[0].encode() == name else None

    def outcomes(self, outcomes: Iterable[Outcome]) -> list[bytes | str]:
        """Id and row of each outcome, one after the other. The hottest lines of the store."""
        values: list[bytes | str] = []
        extend, sign, pack, router = values.extend, self._outcomes.sign, _HEAD.pack, self._router
        for o in outcomes:
            if type(o.payload) is bytes:
                extend((o.id, sign(pack(router, o.batch, o.expires_at, 0) + _ENCODE(o))))
            else:
                head = self._head(o.payload, o.batch, o.expires_at)
                extend((o.id, sign(head + _ENCODE(replace(o, payload=b"")))))
        return values

    def _head(self, payload: Payload, batch: int = 0, expires_at: float = 0.0) -> bytes:
        if not isinstance(payload, Blob):
            return _HEAD.pack(self._router, batch, expires_at, 0)
        key, sizes = payload.key.encode(), payload.sizes
        rest = struct.pack(f"<H{len(sizes)}Q", len(sizes), *sizes)
        return _HEAD.pack(self._router, batch, expires_at, len(key)) + key + rest

    def read_outcome(self, task_id: str, row: bytes, where: str) -> Outcome:
        """The outcome in a row. Raises ``RowDamaged`` naming its id and its place."""
        body = self._outcomes.body(row)
        if body is not None:
            blob, rest = _after_head(body)
            outcome = _decoded(_OUTCOME, rest)
            if outcome is not None and outcome.id == task_id:
                return outcome if blob is None else replace(outcome, payload=blob)
        raise RowDamaged(f"task {task_id}: its result in {where} is not what a router wrote; it is lost")

    def function(self, code: FunctionCode) -> bytes:
        """The row of a shipped function."""
        small = replace(code, payload=b"") if isinstance(code.payload, Blob) else code
        return self._functions.sign(self._head(code.payload) + _ENCODE(small))

    def read_function(self, digest: str, row: bytes, where: str) -> FunctionCode:
        """The function in a row. Raises ``RowDamaged`` naming its digest and its place."""
        body = self._functions.body(row)
        if body is not None:
            blob, rest = _after_head(body)
            code = _decoded(_FUNCTION, rest)
            if code is not None and code.digest == digest:
                return code if blob is None else replace(code, payload=blob)
        raise RowDamaged(f"function {digest}: its code in {where} is not what a router wrote; submit it anew")

    def due(self, span: DueSpan, bid: int) -> bytes:
        """The row of due times that this router is granted by a bid, or has fired: 0."""
        return self._dues.sign(_DUE.pack(self._router, bid, span.first_us, span.last_us) + due_field(span).encode())

    def read_due(self, field: str, row: bytes) -> tuple[int, int, int] | None:
        """The bid, the first and the last due time in a row; None where it is not what was written."""
        body = self._dues.body(row)
        if body is None or len(body) < _DUE.size or body[_DUE.size :] != field.encode():
            return None
        _, bid, first_us, last_us = _DUE.unpack_from(body)
        return int(bid), int(first_us), int(last_us)


def due_field(span: DueSpan) -> str:
    """Where the row of these due times stands: those that waited are fired beside those that come."""
    return f"{'queued' if span.queued else 'due'}:{span.entry}"


def _decoded(decoder: msgspec.msgpack.Decoder[T], body: Buffer | None) -> T | None:
    try:
        return None if body is None else decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):  # signed, and of a router that wrote what none can read
        return None


def _after_head(body: bytes) -> tuple[Blob | None, memoryview]:
    """The large payload of a row, and what follows its head."""
    key_bytes = _HEAD.unpack_from(body)[3]
    at = _HEAD.size
    view = memoryview(body)
    if not key_bytes:
        return None, view[at:]
    key = body[at : at + key_bytes].decode()
    at += key_bytes
    (count,) = struct.unpack_from("<H", body, at)
    sizes = struct.unpack_from(f"<{count}Q", body, at + 2)
    return Blob(key, list(sizes)), view[at + 2 + 8 * count :]


def without_mac_and_head(row: bytes) -> memoryview:
    """What an outcome or a function was encoded to, by the word of the row alone: to look at, not to rely on."""
    return _after_head(row[MAC_BYTES:])[1]


def is_router_id(value: bytes) -> bool:
    """Whether a router may have this id."""
    return _ROUTER_ID.fullmatch(value) is not None


def router_of(row: bytes) -> str | None:
    """Which router wrote an outcome or a function, by the word of the row alone; None where it says none."""
    found = row[MAC_BYTES : MAC_BYTES + 12]
    return found.decode() if len(found) == 12 and found.isascii() else None
