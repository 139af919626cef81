"""What becomes of messages whose large payloads cannot be put into the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from mesh.errors import StoreFull
from mesh.messages import Rejected, Settled, Submit
from mesh.model import Blob, Buffer, Ending, Peer, Settlement, TaskOptions, TaskSpec
from mesh.runtime.payload_intake import NotTaken, PayloadIntake, Refusal
from mesh.store.memory import MemoryStore

NODE = Peer(b"node")
SMALL, LARGE = Blob("small", [3]), Blob("large", [8])
PARTS = [(SMALL, [b"abc"]), (LARGE, [b"12345678"])]
SUBMIT = Submit(7, [TaskOptions("work")], [TaskSpec("a", 0, SMALL), TaskSpec("b", 0, LARGE)])
SETTLED = Settled(1, [Settlement(i, 1, Ending.SUCCEEDED, blob) for i, blob in (("a", SMALL), ("b", LARGE))])


class SmallStore(MemoryStore):
    """Has room for payloads of up to five bytes."""

    def put_blob(self, blob: Blob, parts: Iterable[Buffer]) -> bool:
        if blob.size > 5:
            raise StoreFull(f"no room for {blob.size} bytes")
        return super().put_blob(blob, parts)


class GivenStore(MemoryStore):
    """Remembers what it was given."""

    def put_blob(self, blob: Blob, parts: Iterable[Buffer]) -> bool:
        self.given: Sequence[Buffer] = [*parts]
        return super().put_blob(blob, self.given)


def test_parts_are_put_from_the_memory_that_they_came_in() -> None:
    store, came = GivenStore(), memoryview(bytearray(b"12345678"))
    assert PayloadIntake(store).take(NODE, SUBMIT, [(LARGE, [came[:5], came[5:]])], maps=False) is None
    assert [memoryview(part).obj for part in store.given] == [came.obj, came.obj]
    came[:] = b"changed!"
    assert store.read_blob(LARGE) == [b"12345678"], "what was put is the store's own"


def test_what_comes_is_put_and_told_once() -> None:
    intake = PayloadIntake(MemoryStore())
    for _ in range(2):
        assert intake.take(NODE, SUBMIT, PARTS, maps=False) is None
    assert intake.new == [SMALL, LARGE]


@pytest.mark.parametrize("message", [SUBMIT, SETTLED])
def test_where_one_finds_no_room_none_is_kept(message: Submit | Settled) -> None:
    store = SmallStore()
    intake = PayloadIntake(store)
    assert intake.take(NODE, message, PARTS, maps=False) is not None
    assert intake.new == []
    assert store.read_blob(SMALL) is None


def test_a_client_is_told_that_there_is_no_room() -> None:
    why = "the store is full: no room for 8 bytes"
    assert PayloadIntake(SmallStore()).take(NODE, SUBMIT, PARTS, maps=False) == NotTaken(
        Rejected(7, "overloaded", why), why
    )


def test_a_worker_says_it_again_once_there_is_room_and_no_sooner() -> None:
    intake = PayloadIntake(SmallStore())
    refusal = intake.take(NODE, SETTLED, PARTS, maps=False)
    assert refusal is not None and refusal.what is Refusal.WAITS
    assert intake.fitting(10) == []
    assert intake.fitting(11) == [NODE]
    assert intake.fitting(11) == []


def test_a_worker_that_is_gone_is_not_waited_for() -> None:
    intake = PayloadIntake(SmallStore())
    intake.take(NODE, SETTLED, PARTS, maps=False)
    intake.forget(NODE)
    assert intake.fitting(None) == []


@pytest.mark.parametrize("maps", [False, True])
def test_what_is_not_in_the_depot_is_asked_for_again(maps: bool) -> None:
    left = Blob("left", [3], "0" * 40 + "." + "1" * 16)
    word = Settled(1, [Settlement("a", 1, Ending.SUCCEEDED, left)])
    refusal = PayloadIntake(MemoryStore()).take(NODE, word, [(left, [])], maps=maps)
    assert refusal is not None and refusal.what is Refusal.AGAIN
