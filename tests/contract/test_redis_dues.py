"""Due times of periodic tasks on a real Redis: granted to one bid of one router, never again once they are fired."""

from __future__ import annotations

import struct

import pytest
import redis

from mesh.core.commands import DropEntry, DueSpan, SaveEntry, SavePositions
from mesh.core.events import DueGrant
from mesh.entries import Entry
from mesh.model import TaskOptions
from mesh.schedules import Every
from mesh.store.redis.store import RedisStore
from tests.redis_server import open_redis, own_url, redis_server

pytestmark = pytest.mark.processes

DUE = 1_800_000_000_123_457  # microseconds: more digits than a float of seconds has
YES, HELD = DueGrant(True), DueGrant(False)
ENTRY = Entry("e", Every(1.0), TaskOptions("work"))


def behind(done_us: int) -> DueGrant:
    return DueGrant(False, done_us)


def span(first: int = DUE, last: int = 0, entry: str = "e", *, queued: bool = False) -> DueSpan:
    return DueSpan(entry, first, last or first, queued)


class Routers:
    """Two on one server, which keep the entry."""

    def __init__(self) -> None:
        self.url = own_url(redis_server().url)
        self.admin = redis.Redis(port=redis_server().port)
        self.one, self.two = self.start("one"), self.start("two")
        self.dues = f"{self.url.rpartition('prefix=')[2]}:{{m}}:dues"

    def start(self, name: str) -> RedisStore:
        store = open_redis(f"{self.url}&router={name}")
        store.recover()
        store.commit([SaveEntry(ENTRY)])
        return store

    def key(self, store: RedisStore, name: str) -> str:
        return f"{self.dues.removesuffix('dues')}r:{store.router_id}:{name}"

    def lose(self, store: RedisStore) -> str:
        self.admin.delete(self.key(store, "lock"))
        assert store.router_id is not None
        return store.router_id


@pytest.fixture
def routers() -> Routers:
    return Routers()


def fire(store: RedisStore, *spans: DueSpan) -> None:
    store.commit([SavePositions([], list(spans))])


def test_a_due_time_is_granted_to_one_router_and_not_again_once_it_is_fired(routers: Routers) -> None:
    assert routers.one.grant_dues(1, [span()]) == [YES]
    assert routers.one.grant_dues(1, [span()]) == [YES], "said again, for its answer was lost"
    assert routers.two.grant_dues(1, [span()]) == [HELD]
    assert routers.two.grant_dues(1, [span(DUE + 1)]) == [HELD], "nor a later one, before that is decided"
    granted = routers.admin.hget(routers.dues, "due:e")
    fire(routers.one, span())
    assert routers.two.grant_dues(2, [span()]) == [behind(DUE)] == routers.one.grant_dues(2, [span()])
    assert routers.two.grant_dues(3, [span(DUE - 5, DUE + 5)]) == [behind(DUE)], "all of it, or nothing"
    assert routers.two.grant_dues(4, [span(DUE + 1)]) == [YES]
    routers.admin.hset(routers.dues, "due:e", granted)
    assert routers.two.grant_dues(5, [span(DUE + 2)]) == [YES], "what somebody puts back holds nothing"


def test_what_no_router_wrote_neither_holds_an_entry_nor_says_that_it_was_fired(
    routers: Routers, caplog: pytest.LogCaptureFixture
) -> None:
    assert routers.one.router_id is not None
    one = routers.one.router_id.encode()
    routers.one.grant_dues(7, [span(entry="held"), span(DUE + 900, entry="later")])
    held, later = (routers.admin.hget(routers.dues, f"due:{name}") for name in ("held", "later"))
    for row in (
        b"",
        b"garbage",
        b"\xff" * 80,
        bytes(16) + struct.pack("<12sddd", one, 0, DUE, DUE * 4) + b"due:e",
        bytes(16) + struct.pack("<12sddd", one, 7, DUE, DUE) + b"due:e",
        bytes(16) + struct.pack("<12sddd", one, float("nan"), float("nan"), float("inf")) + b"due:e",
        held,
        later,
    ):
        routers.admin.hset(routers.dues, "due:e", row)
        caplog.clear()
        assert routers.two.grant_dues(1, [span(), span(entry="held")]) == [YES, HELD]
        assert not row or "'due:e' is not what a router wrote" in caplog.text
    assert routers.two.grant_dues(1, [span()]) == [YES]


def test_rows_of_an_entry_go_when_no_router_keeps_it(routers: Routers) -> None:
    routers.one.grant_dues(1, [span(), span(queued=True)])
    fire(routers.one, span(), span(queued=True))
    routers.one.commit([DropEntry("e")])
    assert routers.admin.hlen(routers.dues) == 2, "the other may be behind"
    routers.two.commit([DropEntry("e"), SaveEntry(ENTRY)])
    assert routers.admin.hlen(routers.dues) == 2
    routers.two.commit([DropEntry("e")])
    assert not routers.admin.exists(routers.dues)


def test_rows_of_its_periodic_tasks_that_no_router_wrote_are_left_out(routers: Routers) -> None:
    row = routers.admin.hget(routers.key(routers.one, "schedules"), "e")
    routers.admin.hset(routers.key(routers.one, "schedules"), mapping={"f": row, "g": b"x"})  # type: ignore[dict-item]
    journal = routers.two.claim(routers.lose(routers.one))
    assert journal is not None
    assert routers.two.read_schedules(journal).entries == [ENTRY]
