"""Journals of lost routers on a real Redis: claimed once, moved as a whole or not at all, left empty."""

from __future__ import annotations

from contextlib import closing

import msgspec
import pytest
import redis
from msgspec.structs import replace

from mesh.clock import Now
from mesh.core.commands import (
    AppendBatch,
    DropBatches,
    DropBlobs,
    DropFunctions,
    SaveApp,
    SavePositions,
)
from mesh.core.events import BatchesAdopted, Event, GossipHeard, JournalAdopted, JournalClaimed
from mesh.core.router import RouterMachine
from mesh.entries import Position
from mesh.errors import StoreDamaged, StoreLost
from mesh.model import TaskMark
from mesh.runtime.adopting import Adopter
from mesh.settings import Settings
from mesh.store.redis.address import parse_address
from mesh.store.redis.kinds import FORMAT
from mesh.store.redis.reader import RedisReader
from mesh.store.redis.store import RedisStore
from mesh.store.shared import ClaimedJournal, Handover
from mesh.wire.codec import decode_body, encode_body
from tests.contract.stores import ARGUMENTS, PARTS, fill_to_be_adopted, submit_of
from tests.redis_server import KEYS, open_redis, own_url, redis_server

pytestmark = pytest.mark.processes

encode = msgspec.msgpack.encode


class Pair:
    """Two routers on one server; the first has a journal of two batches, of which one task is finished."""

    def __init__(self) -> None:
        self.url = own_url(redis_server().url)
        self.admin = redis.Redis(port=redis_server().port)
        self.first = self.open("first")
        fill_to_be_adopted(self.first)
        self.second = self.open("second")
        self.second.recover()

    def open(self, name: str) -> RedisStore:
        return open_redis(f"{self.url}&router={name}")

    def reader(self, name: str) -> RedisReader:
        return RedisReader(parse_address(f"{self.url}&router={name}"), "m", KEYS, 2.0)

    def key(self, store: RedisStore, name: str) -> str:
        return self.named(str(store.router_id), name)

    @property
    def listed(self) -> str:
        return f"{self.url.rpartition('prefix=')[2]}:{{m}}:routers"

    def named(self, router_id: str, name: str) -> str:
        return f"{self.url.rpartition('prefix=')[2]}:{{m}}:r:{router_id}:{name}"

    def lose(self, store: RedisStore) -> str:
        """Its lock runs out."""
        self.admin.delete(self.key(store, "lock"))
        assert store.router_id is not None
        return store.router_id

    def cut(self, store: RedisStore) -> None:
        """Its connection ends, as when its process dies."""
        lock = msgspec.json.decode(self.admin.get(self.key(store, "lock")))  # type: ignore[arg-type]
        assert self.admin.client_kill_filter(_id=lock["connection"]) == 1

    def fall_silent(self, store: RedisStore, left_s: float) -> str:
        """It has said nothing for so long that its lock holds for ``left_s`` more."""
        self.admin.pexpire(self.key(store, "lock"), int(left_s * 1000))
        return str(store.router_id)

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


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_a_router_that_is_held_up_has_its_journal_until_its_lock_has_run_out(pair: Pair) -> None:
    silent = pair.fall_silent(pair.first, left_s=4.0)
    assert pair.second.keep() == {silent: pytest.approx(4.0, abs=1.0)}
    assert pair.second.claim(silent) is None, "its connection is there"
    pair.first.commit([DropBatches([2])])
    assert pair.second.keep() == {}


def test_a_router_whose_connection_is_cut_has_its_journal_for_half_of_that_time(pair: Pair) -> None:
    pair.cut(pair.first)
    lost = pair.fall_silent(pair.first, left_s=7.0)
    assert pair.second.keep() == {lost: pytest.approx(2.0, abs=1.0)}
    assert pair.second.claim(lost) is None
    pair.fall_silent(pair.first, left_s=4.9)
    assert pair.second.keep() == {lost: 0.0}
    assert pair.second.claim(lost) is not None
    with pytest.raises(StoreLost, match="in use by pid"):
        pair.first.keep()


def test_a_router_that_has_a_new_connection_is_not_robbed(pair: Pair) -> None:
    pair.cut(pair.first)
    lost = pair.fall_silent(pair.first, left_s=4.9)
    assert pair.second.keep() == {lost: 0.0}
    pair.first.keep()
    pair.fall_silent(pair.first, left_s=4.9)
    assert pair.second.claim(lost) is None, "it has spoken since, by another connection"
    assert pair.second.keep() == {lost: pytest.approx(4.9, abs=1.0)}


def test_a_start_waits_for_half_of_the_time_for_a_router_whose_connection_is_cut(pair: Pair) -> None:
    pair.cut(pair.first)
    pair.fall_silent(pair.first, left_s=499.0)
    again = open_redis(f"{pair.url}&router=first", lock_s=1000.0)
    assert [batch.seq for batch in again.recover().batches] == [1, 2]
    with pytest.raises(StoreLost):
        pair.first.commit([DropBatches([1])])


def test_a_lost_router_is_adopted_when_its_grace_is_over_and_not_at_the_next_look(pair: Pair) -> None:
    settings = Settings(mesh="m", adopt_grace_s=0.1)
    machine = RouterMachine(str(pair.second.router_id), "second", settings, shared=True)
    adopter = Adopter(machine, pair.second, decode=decode_body, encode=encode_body)
    pair.lose(pair.first)
    assert adopter.take(Now(1000.0, 100.0)) == []
    due = adopter.next_deadline()
    assert due == pytest.approx(100.1)
    (claimed,) = adopter.take(Now(1000.1, due))
    assert isinstance(claimed, JournalClaimed)


def test_a_journal_that_is_in_another_store_now_is_left_alone(pair: Pair) -> None:
    lost = pair.lose(pair.first)
    pair.admin.set(pair.key(pair.first, "moved"), "a note")
    assert pair.second.keep() == {}
    assert pair.second.claim(lost) is None


def test_what_is_moved_is_in_the_other_journal_with_all_that_belongs_to_it(pair: Pair) -> None:
    journal = pair.claim()
    moves = pair.moves(journal)
    for _ in range(2):  # the second time for a lost answer
        pair.second.move(journal, moves)
    pair.second.leave(journal)
    assert pair.second.usage().batches == 2
    pair.second.commit([])
    pair.second.close()
    found = (again := pair.open("second")).recover()
    assert [(b.seq, b.accepted_at, b.settled) for b in found.batches] == [(7, 1000.5, set()), (8, 1001.5, set())]
    assert found.marks == [TaskMark("b", 7, 3, 1, 0)]
    assert (found.next_seq, found.functions) == (9, {"d1": 5.0})
    assert again.read_blob(ARGUMENTS) == PARTS
    again.commit([DropBlobs([ARGUMENTS]), DropBatches([7, 8]), DropFunctions(["d1"])])
    assert not pair.admin.keys(pair.key(pair.first, "b:*")) + pair.admin.keys(pair.key(again, "b:*"))
    assert again.function("d1") is None, "nobody needs it"


def test_what_somebody_calls_adopted_is_not(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    journal = pair.claim()
    pair.second.move(journal, pair.moves(journal))
    pair.second.leave(journal)
    first = pair.open("first")
    adopted = pair.key(first, "").partition(":r:")[0] + ":adopted"
    row = pair.admin.hget(adopted, "b")
    forged = {"x": b"000000000000", "y": str(pair.second.router_id).encode(), "z": row}
    pair.admin.hset(adopted, mapping=forged)  # type: ignore[arg-type]
    assert first.elsewhere(["b", "x", "y", "z"]) == ["b"]
    assert caplog.text.count("is adopted no router wrote") == 3
    assert sorted(pair.admin.hkeys(adopted)) == [b"b", b"t2"]  # type: ignore[arg-type]


def test_a_payload_that_is_here_already_is_not_kept_twice(pair: Pair) -> None:
    pair.second.put_blob(ARGUMENTS, PARTS)
    pair.second.commit([AppendBatch(5, submit_of("t2"), None, 1.0)])
    journal = pair.claim()
    pair.second.move(journal, [Handover(2, 8, b"", 0.0, [], unneeded=[ARGUMENTS])])
    assert pair.admin.keys(pair.key(pair.first, "b:*")) == []
    assert pair.second.read_blob(ARGUMENTS) == PARTS
    third = pair.open("third")
    assert third.read_blob(ARGUMENTS) == PARTS, "others find it where it is"


def test_a_claimed_row_that_no_router_wrote_is_set_aside(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    pair.admin.hset(pair.key(pair.first, "journal"), "2", b"forged" * 20)
    journal = pair.claim()
    assert [batch.seq for batch in pair.second.read_claimed(journal, journal.seqs)] == [1]
    assert "batch 2 is not what a router wrote" in caplog.text
    assert pair.admin.hget(pair.key(pair.first, "journal:damaged"), "2") == b"forged" * 20


def adopter_of(store: RedisStore) -> Adopter:
    machine = RouterMachine(str(store.router_id), "second", Settings(mesh="m", adopt_grace_s=0.1), shared=True)
    return Adopter(machine, store, decode=decode_body, encode=encode_body)


def adopt(adopter: Adopter, turns: int = 20) -> list[Event]:
    return [event for turn in range(turns) for event in adopter.take(Now(1000.0 + turn, 100.0 + turn))]


@pytest.fixture
def readable(pair: Pair) -> Pair:
    """Without the batch whose payload is of sizes that no client sends."""
    pair.first.commit([DropBatches([2]), DropBlobs([ARGUMENTS])])
    return pair


def test_fields_that_no_router_wrote_are_set_aside_and_the_rest_is_adopted(
    readable: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    names = [b"junk", b"\x1b[31mevil\n", b"007", b"0", b"-1", b"9" * 5000, b"1" * 16]
    readable.admin.hset(readable.key(readable.first, "journal"), mapping=dict.fromkeys(names, b"x"))  # type: ignore[arg-type]
    lost = readable.lose(readable.first)
    events = adopt(adopter_of(readable.second))
    assert [type(event) for event in events] == [JournalClaimed, BatchesAdopted, GossipHeard, JournalAdopted]
    assert readable.second.usage().batches == 1
    aside = readable.admin.hgetall(readable.key(readable.first, "journal:damaged"))
    assert sorted(aside) == sorted(names)  # type: ignore[arg-type]
    assert "6 rows that no router wrote" in caplog.text
    assert "\x1b" not in caplog.text
    assert readable.second.keep() == {}
    with closing(readable.reader("first")) as reader:
        assert any("set aside under :damaged: 7" in line for line in reader.loose_ends()), lost


MISFITS = ["journal", "marks", "nodes", "functions", "staged", "meta", "lock"]


@pytest.mark.parametrize("place", [*MISFITS, "epoch", "boot", "batches"])
def test_a_journal_that_makes_no_sense_is_left_alone_and_the_others_are_adopted(
    readable: Pair, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    other = readable.open("third")
    other.commit([AppendBatch(1, submit_of("c"), None, 1.0)])
    third = str(other.router_id)
    for lost in (str(readable.first.router_id), third):
        readable.admin.delete(readable.named(lost, "lock"))
    if place in MISFITS:
        readable.admin.delete(readable.key(readable.first, place))
        readable.admin.rpush(readable.key(readable.first, place), b"x")
    else:
        readable.admin.hset(readable.key(readable.first, "meta"), place, "9" * 17 if place == "boot" else "x")
    events = adopt(adopter_of(readable.second))
    assert [event.router_id for event in events if isinstance(event, JournalClaimed)] == [third]
    assert isinstance(events[-1], JournalAdopted)
    assert caplog.text.count("journals that make no sense") == 1
    assert str(readable.first.router_id) in caplog.text
    assert readable.second.claim(str(readable.first.router_id)) is None
    with closing(readable.reader("second")) as reader:
        assert any(f"router {readable.first.router_id} (" in line for line in reader.loose_ends())


def test_a_journal_that_breaks_while_it_is_adopted_ends_no_router(
    readable: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    adopter = adopter_of(readable.second)
    readable.lose(readable.first)
    assert [type(event) for event in adopt(adopter, 2)] == [JournalClaimed]
    readable.admin.delete(readable.key(readable.first, "marks"))
    readable.admin.set(readable.key(readable.first, "marks"), b"x")
    assert [type(event) for event in adopt(adopter)] == [JournalAdopted]
    assert "is not adopted further" in caplog.text
    assert readable.second.usage().batches == 0, "nothing was moved"
    assert readable.admin.hlen(readable.key(readable.first, "journal")) == 1


def test_a_journal_that_breaks_while_an_answer_is_lost_was_moved(pair: Pair) -> None:
    journal = pair.claim()
    moves = pair.moves(journal)
    pair.second.move(journal, moves)
    pair.admin.set(pair.key(pair.first, "marks"), b"x")
    pair.second.move(journal, moves)
    with pytest.raises(StoreDamaged, match="marks is a string"):
        pair.second.leave(journal)
    assert pair.second.usage().batches == 2


def test_routers_that_are_none_are_not_looked_at(readable: Pair, caplog: pytest.LogCaptureFixture) -> None:
    routers = readable.key(readable.first, "").partition(":r:")[0] + ":routers"
    for name in ("evil", "\x1b[2J\nevil!!!!!!", "ABCDEFABCDEF", "0123456789ab"):
        readable.admin.sadd(routers, name)
        readable.admin.hset(readable.named(name, "meta"), mapping={"owner": "x", "format": FORMAT, "batches": 5})
        readable.admin.hset(readable.named(name, "journal"), "x", "y")
    readable.lose(readable.first)
    events = adopt(adopter_of(readable.second))
    adopted = {event.router_id for event in events if isinstance(event, JournalAdopted)}
    assert adopted == {readable.first.router_id, "0123456789ab"}
    assert caplog.text.count("in the list of routers that are none: 3") == 1
    assert "evil" not in caplog.text
    with closing(readable.reader("second")) as reader:
        assert any("that are none: 3" in line for line in reader.loose_ends())


def test_what_somebody_calls_finished_is_adopted(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    pair.admin.sadd(pair.key(pair.first, "settled:1"), "b")
    journal = pair.claim()
    assert [batch.settled for batch in pair.second.read_claimed(journal, journal.seqs)] == [{"a"}, set()]
    assert "settled:1: 1 rows that no router wrote" in caplog.text


def test_journals_that_nobody_can_adopt_hide_none_that_somebody_can(pair: Pair) -> None:
    routers = pair.key(pair.first, "").partition(":r:")[0] + ":routers"
    for number in range(200):
        router_id = f"{number:012x}"
        pair.admin.hset(pair.named(router_id, "meta"), mapping={"owner": "x", "format": 99})
        pair.admin.hset(pair.named(router_id, "journal"), "1", "x")
        pair.admin.sadd(routers, router_id)
    lost = pair.lose(pair.first)
    assert pair.second.keep() == {lost: 0.0}


def test_a_lock_that_never_runs_out_is_none(pair: Pair) -> None:
    pair.admin.set(pair.key(pair.first, "lock"), "somebody")
    assert pair.second.keep() == {pair.first.router_id: 0.0}
    assert pair.second.claim(str(pair.first.router_id)) is not None


@pytest.mark.parametrize("instead", [None, b"x"])
def test_a_router_puts_itself_and_what_it_adopts_back_into_the_list_of_routers(
    pair: Pair, caplog: pytest.LogCaptureFixture, instead: bytes | None
) -> None:
    routers = pair.key(pair.first, "").partition(":r:")[0] + ":routers"
    pair.claim()
    for _ in range(2):
        pair.admin.delete(routers)
        if instead is not None:
            pair.admin.set(routers, instead)
        pair.second.keep()
        ids = {str(store.router_id).encode() for store in (pair.first, pair.second)}
        assert pair.admin.smembers(routers) == ids
    assert caplog.text.count("the list of routers had lost this one") == 1
    for store in (pair.first, pair.second):
        pair.lose(store)
    assert set(pair.open("fourth").keep()) == {pair.first.router_id, pair.second.router_id}


def test_a_start_waits_while_its_journal_is_being_emptied(pair: Pair) -> None:
    journal = pair.claim()
    first_id = pair.key(pair.first, "lock")
    assert pair.admin.hget(pair.key(pair.first, "meta"), "adopter") == str(pair.second.router_id).encode()
    pair.admin.pexpire(first_id, 300)  # the adopter is lost, too
    first = pair.open("first")
    assert [batch.seq for batch in first.recover().batches] == [1, 2]
    with pytest.raises(StoreLost):
        pair.second.move(journal, [Handover(1, 7, b"", 0.0, [])])


def test_a_router_that_ends_and_leaves_nothing_is_listed_no_more_until_it_is_back(pair: Pair) -> None:
    empty = pair.open("empty")
    empty.recover()
    name, meta = str(empty.router_id), pair.key(empty, "meta")
    assert pair.admin.sismember(pair.listed, name)
    empty.close()
    assert not pair.admin.sismember(pair.listed, name)
    assert pair.admin.pttl(meta) > 0, "how often it was started is kept for a while"
    empty = pair.open("empty")
    assert empty.recover().boot == 2
    assert pair.admin.sismember(pair.listed, name) and pair.admin.pttl(meta) == -1
    empty.close()


def test_a_router_that_ends_and_leaves_something_stays_listed(pair: Pair) -> None:
    pair.first.close()
    assert pair.admin.sismember(pair.listed, str(pair.first.router_id))
    assert pair.admin.pttl(pair.key(pair.first, "meta")) == -1


@pytest.mark.parametrize("periodic", [False, True])
def test_a_router_that_was_adopted_and_never_comes_back_is_forgotten(pair: Pair, periodic: bool) -> None:
    if periodic:
        pair.first.commit([SaveApp("app", 1.0), SavePositions([Position("e", 1)])])
    name = str(pair.first.router_id)
    journal = pair.claim()
    pair.second.move(journal, pair.moves(journal))
    pair.second.leave(journal)
    assert pair.admin.sismember(pair.listed, name) == periodic
    places = [pair.key(pair.first, place) for place in ("meta", *(("apps", "positions") if periodic else ()))]
    assert all(pair.admin.pttl(place) > 0 for place in places)
    pair.admin.delete(*places)  # their time is over
    pair.second.keep()
    assert not pair.admin.sismember(pair.listed, name)


def test_merged_periodic_tasks_stay_where_their_router_is_back(pair: Pair) -> None:
    pair.first.commit([SaveApp("app", 1.0), SavePositions([Position("e", 1)])])
    journal = pair.claim()
    pair.second.move(journal, pair.moves(journal))
    pair.second.leave(journal)
    first = pair.open("first")
    assert first.recover().apps == {"app": 1.0}
    assert all(pair.admin.pttl(pair.key(first, place)) == -1 for place in ("meta", "apps", "positions"))
    first.close()


def test_a_journal_that_is_not_empty_is_not_taken_for_adopted(pair: Pair) -> None:
    journal = pair.claim()
    pair.second.move(journal, pair.moves(journal))
    pair.admin.hset(pair.key(pair.first, "journal"), "9", b"came since")
    with pytest.raises(StoreDamaged, match="batches have come since"):
        pair.second.leave(journal)
