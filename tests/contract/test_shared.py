"""What every store promises that routers share: the one on Redis, and the one that all simulated histories rest on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec
import pytest
import redis
from msgspec.structs import replace

from mesh.core.commands import (
    AppendBatch,
    DropBatches,
    DropOutcomes,
    DueSpan,
    RecordOutcomes,
    SaveApp,
    SaveEntry,
    SavePositions,
)
from mesh.core.events import DueGrant
from mesh.entries import Entry, Position
from mesh.errors import StoreLost
from mesh.model import NodeInfo, TaskOptions
from mesh.schedules import Every
from mesh.store.shared import ClaimedJournal, Handover, SharedStore
from tests.contract.stores import ARGUMENTS, BLOB, PARTS, fill_to_be_adopted, outcome_of, submit_of
from tests.redis_server import open_redis, own_url, redis_server
from tests.sim.shared import FencedStore, Journal, Server

DUE = 1_800_000_000_123_457  # microseconds: more digits than a float of seconds has
YES, HELD = DueGrant(True), DueGrant(False)
ENTRY = Entry("e", Every(1.0), TaskOptions("work"))
encode = msgspec.msgpack.encode


class Common(Protocol):
    """One store that routers share."""

    def open(self, name: str) -> SharedStore:
        """As the router of this name does at a start."""

    def id_of(self, store: SharedStore) -> str: ...

    def lose(self, store: SharedStore) -> str:
        """Its lock runs out; who it was."""


class OnRedis:
    """A real one."""

    def __init__(self) -> None:
        self.url = own_url(redis_server().url)
        self.admin = redis.Redis(port=redis_server().port)

    def open(self, name: str) -> SharedStore:
        return open_redis(f"{self.url}&router={name}")

    def id_of(self, store: SharedStore) -> str:
        return str(store.router_id)

    def lose(self, store: SharedStore) -> str:
        router_id = self.id_of(store)
        self.admin.delete(f"{self.url.rpartition('prefix=')[2]}:{{m}}:r:{router_id}:lock")
        return router_id


class Simulated:
    """That of the simulated histories."""

    def __init__(self) -> None:
        self.server = Server()
        self.names: dict[int, str] = {}

    def open(self, name: str) -> SharedStore:
        journal = self.server.journals.get(name) or Journal(self.server, name)
        store = FencedStore(journal, 1, lambda: 0.0, 10.0)
        self.names[id(store)] = name
        return store

    def id_of(self, store: SharedStore) -> str:
        return self.names[id(store)]

    def lose(self, store: SharedStore) -> str:
        name = self.id_of(store)
        self.server.journals[name].lock_until = 0.0
        return name


KINDS = [pytest.param(OnRedis, marks=pytest.mark.processes, id="redis"), pytest.param(Simulated, id="simulated")]


class Routers:
    """Some on one store."""

    def __init__(self, common: Common) -> None:
        self._common = common
        self.id_of, self.lose = common.id_of, common.lose

    def begin(self, name: str) -> SharedStore:
        return self._common.open(name)


class Pair(Routers):
    """The first has a journal of two batches, of which one task is finished."""

    def __init__(self, common: Common) -> None:
        super().__init__(common)
        self.first = self.begin("first")
        fill_to_be_adopted(self.first)
        self.second = self.begin("second")
        self.second.recover()

    def claim(self) -> ClaimedJournal:
        journal = self.second.claim(self.lose(self.first))
        assert journal is not None
        return journal

    def moves(self, journal: ClaimedJournal) -> list[Handover]:
        one, two = self.second.read_claimed(journal, journal.seqs)
        _, marks = self.second.find(journal, ["b", "t2"])
        return [
            Handover(1, 7, encode(submit_of("b")), one.accepted_at, ["b"], [replace(marks[0], batch=7)]),
            Handover(2, 8, two.raw, two.accepted_at, ["t2"], blobs=[ARGUMENTS]),
        ]


class Keepers(Routers):
    """Two which keep the entry."""

    def __init__(self, common: Common) -> None:
        super().__init__(common)
        self.one, self.two = self.begin("one"), self.begin("two")

    def begin(self, name: str) -> SharedStore:
        store = super().begin(name)
        store.recover()
        store.commit([SaveEntry(ENTRY)])
        return store


@pytest.fixture(params=KINDS)
def pair(request: pytest.FixtureRequest) -> Pair:
    kind: Callable[[], Common] = request.param
    return Pair(kind())


@pytest.fixture(params=KINDS)
def routers(request: pytest.FixtureRequest) -> Keepers:
    kind: Callable[[], Common] = request.param
    return Keepers(kind())


# journals of routers that are lost


def test_only_a_journal_that_nobody_has_and_that_is_not_empty_is_offered(pair: Pair) -> None:
    assert pair.second.keep() == {} == pair.first.keep()
    lost = pair.lose(pair.first)
    assert pair.second.keep() == {lost: 0.0}
    assert pair.first.keep() == {}, "it is its own again"
    assert pair.second.keep() == {}
    pair.lose(pair.second)
    assert pair.first.keep() == {}, "the second left nothing"


def test_a_journal_is_claimed_once_and_its_router_learns_it(pair: Pair) -> None:
    third = pair.begin("third")
    journal = pair.claim()
    assert (journal.seqs, journal.boot, journal.functions) == ([1, 2], 1, {"d1": 5.0})
    assert journal.nodes == [NodeInfo("n1", "one")]
    assert third.claim(journal.router_id) is None
    for word in (pair.first.keep, pair.first.usage, lambda: pair.first.commit([DropBatches([1])])):
        with pytest.raises(StoreLost):
            word()
    assert [batch.settled for batch in pair.second.read_claimed(journal, [1, 2])] == [{"a"}, set()]
    assert pair.second.claim(journal.router_id) is not None, "said again, for its answer was lost"


def test_a_router_that_is_not_lost_cannot_be_robbed(pair: Pair) -> None:
    assert pair.second.claim(pair.id_of(pair.first)) is None
    pair.first.commit([DropBatches([2])])


def test_its_router_begins_with_nothing_and_knows_who_has_what_it_had(pair: Pair) -> None:
    journal = pair.claim()
    pair.second.move(journal, pair.moves(journal))
    pair.second.leave(journal)
    with pytest.raises(StoreLost):
        pair.first.keep()
    first = pair.begin("first")
    found = first.recover()
    assert (found.batches, found.marks, found.nodes, found.functions, found.boot) == ([], [], [], {}, 2)
    assert found.next_seq == 3
    assert first.elsewhere(["a", "b", "t2", "x"]) == ["b", "t2"]
    assert pair.second.elsewhere(["b", "t2"]) == []
    pair.second.commit([RecordOutcomes([outcome_of("b", batch=7)])])
    assert first.elsewhere(["b", "t2"]) == ["t2"]
    first.commit([AppendBatch(3, submit_of("c"), None, 1.0)])
    assert first.usage().batches == 1


def test_an_adoption_that_ended_in_the_middle_is_gone_on_with_by_another(pair: Pair) -> None:
    journal = pair.claim()
    pair.second.move(journal, pair.moves(journal)[:1])
    third = pair.begin("third")
    for store in (pair.first, pair.second):
        pair.lose(store)
    assert third.keep() == {pair.id_of(pair.first): 0.0, pair.id_of(pair.second): 0.0}
    rest = third.claim(pair.id_of(pair.first))
    assert rest is not None and rest.seqs == [2]
    with pytest.raises(StoreLost):
        pair.second.move(journal, [Handover(2, 8, b"", 0.0, [])])
    (batch,) = third.read_claimed(rest, [2])
    third.move(rest, [Handover(2, 1, batch.raw, batch.accepted_at, ["t2"], blobs=[ARGUMENTS])])
    third.leave(rest)
    assert third.read_blob(ARGUMENTS) == PARTS
    other = third.claim(pair.id_of(pair.second))
    assert other is not None and other.seqs == [7]
    assert [mark.id for mark in third.find(other, ["b"])[1]] == ["b"]


def test_the_first_outcome_of_a_task_counts_whichever_router_wrote_it(pair: Pair) -> None:
    pair.second.put_blob(BLOB, PARTS)
    mine = outcome_of("x", payload=BLOB, worker="other")
    assert pair.first.commit([RecordOutcomes([outcome_of("x")])]) == []
    assert pair.second.commit([RecordOutcomes([mine, outcome_of("y")])]) == [outcome_of("x")]
    assert pair.second.outcomes(["x"]) == [outcome_of("x")]
    assert pair.second.read_blob(BLOB) is None
    assert pair.second.finished(["x", "y", "z"]) == [outcome_of("x"), outcome_of("y")]
    assert pair.second.commit([DropOutcomes(["x"]), RecordOutcomes([outcome_of("x")])]) == []


# due times


def behind(done_us: int) -> DueGrant:
    return DueGrant(False, done_us)


def span(first: int = DUE, last: int = 0, entry: str = "e", *, queued: bool = False) -> DueSpan:
    return DueSpan(entry, first, last or first, queued)


def fire(store: SharedStore, *spans: DueSpan) -> None:
    store.commit([SavePositions([], list(spans))])


def test_what_is_granted_and_not_fired_is_free_with_the_next_bid(routers: Keepers) -> None:
    assert routers.one.grant_dues(1, [span(), span(entry="other")]) == [YES, YES]
    fire(routers.one, span(entry="other"))
    assert routers.one.grant_dues(2, []) == []
    assert routers.two.grant_dues(1, [span(), span(entry="other")]) == [YES, behind(DUE)]


def test_many_are_granted_at_once(routers: Keepers) -> None:
    spans = [span(entry=f"e{number}") for number in range(500)]
    assert routers.one.grant_dues(1, spans) == [YES] * 500
    assert routers.two.grant_dues(1, spans) == [HELD] * 500
    fire(routers.one, *spans[::2])
    assert routers.two.grant_dues(2, spans) == [behind(DUE), YES] * 250, "with what it fires a bid is over"


def test_one_that_has_waited_is_fired_once_beside_those_that_come(routers: Keepers) -> None:
    routers.one.grant_dues(1, [span()])
    fire(routers.one, span())
    assert routers.two.grant_dues(1, [span(queued=True)]) == [YES]
    fire(routers.two, span(queued=True))
    assert routers.one.grant_dues(2, [span(queued=True)]) == [behind(DUE)]


def test_what_a_router_that_was_killed_was_granted_it_may_have_in_its_next_life(routers: Keepers) -> None:
    routers.one.grant_dues(1, [span()])
    routers.lose(routers.one)
    assert routers.two.grant_dues(1, [span()]) == [HELD], "it may be slow, and fire it"
    again = routers.begin("one")
    assert routers.two.grant_dues(2, [span()]) == [YES]
    assert again.grant_dues(1, [span()]) == [HELD]
    with pytest.raises(StoreLost):
        fire(routers.one, span())


def test_what_a_router_that_was_killed_was_granted_is_free_for_who_adopts_it_and_others(routers: Keepers) -> None:
    routers.one.grant_dues(1, [span(), span(entry="other")])
    fire(routers.one, span(entry="other"))
    assert routers.two.claim(routers.lose(routers.one)) is not None
    with pytest.raises(StoreLost):
        fire(routers.one, span())
    assert routers.two.grant_dues(1, [span(), span(entry="other")]) == [YES, behind(DUE)]


def test_a_router_that_ends_keeps_nothing(routers: Keepers) -> None:
    routers.one.grant_dues(1, [span()])
    routers.one.close()
    assert routers.two.grant_dues(1, [span()]) == [YES]


def test_periodic_tasks_of_a_router_that_is_lost_are_offered_once_in_each_of_its_lives(routers: Keepers) -> None:
    position = Position("e", DUE, "t", "", 3)
    routers.one.commit([SaveApp("app", 5.0), SavePositions([position])])
    lost = routers.lose(routers.one)
    assert list(routers.two.keep()) == [lost]
    journal = routers.two.claim(lost)
    assert journal is not None and journal.seqs == []
    found = routers.two.read_schedules(journal)
    assert (found.apps, found.entries, found.positions) == ({"app": 5.0}, [ENTRY], [position])
    routers.two.leave(journal)
    assert not routers.two.keep()
    again = routers.begin("one")
    assert again.recover().positions == [position], "it has them still"
    routers.lose(again)
    assert list(routers.two.keep()) == [lost]
