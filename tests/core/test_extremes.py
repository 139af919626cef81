"""Numbers at their bounds, in every verb: what comes of them can be kept and read again, said and understood."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mesh.core.commands import RECORDS, AppendBatch, Record
from mesh.core.events import GossipHeard
from mesh.messages import (
    AskLease,
    Bye,
    Gossip,
    Identify,
    Message,
    PutFunction,
    Query,
    Schedule,
    Submit,
    Unwatch,
    Watch,
)
from mesh.model import Blob, Buffer, TaskOptions, TaskSpec
from mesh.store.sqlite import SqliteStore
from mesh.wire import codec
from mesh.wire.parts import cut
from tests.core.make import C1, W1, Driven, hello_client, hello_worker, sent
from tests.wire.golden import EXAMPLES

IDS = ["a", "b", "c", "d"]
HEARD = {
    name: one
    for name, one in EXAMPLES.items()
    if type(one) is Gossip or (type(one) in codec.FROM_NODE and type(one) is not Identify)
}
CLIENTS = (Submit, Watch, Unwatch, Query, Schedule, PutFunction)
Bounds = tuple[Any, Any]


def bounds(kind: msgspec.inspect.Type) -> dict[type, list[Bounds]]:
    """Of a number, where the type has one."""
    kinds = kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)
    found: dict[type, list[Bounds]] = {int: [], float: []}
    for one in kinds:
        if isinstance(one, msgspec.inspect.IntType):
            found[int].append((one.ge, one.le))
        elif isinstance(one, msgspec.inspect.FloatType):
            found[float].append((one.ge, one.le))
    return found


def extreme(value: Any, kind: msgspec.inspect.Type, end: int) -> Any:
    """``value`` with each number in it at its least (0) or its greatest (1)."""
    if type(value) in (int, float):
        of = bounds(kind)[type(value)]
        return type(value)(of[0][end]) if of else value
    if isinstance(value, msgspec.Struct) and not isinstance(value, Blob):  # whose bytes come with it
        fields = msgspec.inspect.type_info(type(value)).fields  # type: ignore[attr-defined]
        changes = {
            one.name: extreme(getattr(value, one.name), one.type, end)
            for one in fields
            if one.name not in ("option", "protocol")
        }
        return msgspec.structs.replace(value, **changes)
    kinds = kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)
    if isinstance(value, list | tuple):
        items = next((one for one in kinds if hasattr(one, "item_type") or hasattr(one, "item_types")), None)
        types = getattr(items, "item_types", None) or [getattr(items, "item_type", msgspec.inspect.AnyType())] * len(
            value
        )
        return type(value)(extreme(one, of, end) for one, of in zip(value, types))
    if isinstance(value, dict):
        of = next((one.value_type for one in kinds if isinstance(one, msgspec.inspect.DictType)), None)
        return value if of is None else {key: extreme(one, of, end) for key, one in value.items()}
    return value


def with_raw(record: Record) -> Record:
    if not isinstance(record, AppendBatch) or record.raw is not None:
        return record
    return msgspec.structs.replace(record, raw=codec.encode_body(record.submit))


def examples() -> Iterator[Any]:
    for name, message in HEARD.items():
        for end, word in enumerate(("least", "greatest")):
            yield pytest.param(extreme(message, msgspec.inspect.AnyType(), end), id=f"{name}, {word}")


def parts_of(blob: Blob) -> list[Buffer]:
    return [part for size in blob.sizes for part in cut(bytes(size))]


@pytest.mark.parametrize("message", list(examples()))
def test_numbers_at_their_bounds_can_be_kept_and_said(tmp_path: Path, message: Message) -> None:
    mesh = Driven(boot=1)
    store = SqliteStore(tmp_path / "m.db", level="process", ballast_bytes=0)
    store.recover()

    def do(*steps: Any) -> None:
        commands = []
        for step in steps:
            commands += step()
        store.commit([with_raw(one) for one in commands if isinstance(one, RECORDS)])
        for one in sent(commands):
            frames = codec.encode(one, 1, 1, parts_of)
            codec.decode_from_router([bytes(frame) for frame in frames])

    worker = hello_worker("one", window=4, slots=4, held=[])
    specs = [TaskSpec(i, 0, b"") for i in IDS]
    do(lambda: mesh.hear(C1, hello_client()), lambda: mesh.hear(W1, worker))
    do(lambda: mesh.hear(W1, AskLease()), lambda: mesh.hear(C1, Submit(1, [TaskOptions("work")], specs)))
    if isinstance(message, Gossip):
        do(lambda: mesh.do(GossipHeard("other", message)))
    else:
        peer = C1 if isinstance(message, CLIENTS) else W1
        do(lambda: mesh.hear(peer, message), lambda: mesh.hear(peer, message))
    do(lambda: mesh.hear(C1, Query(1, "status")), lambda: mesh.hear(C1, Query(1, "story", IDS)))
    do(lambda: mesh.do(wait=1.0), lambda: mesh.hear(W1, Bye()))
    store.recover()
    store.close()
