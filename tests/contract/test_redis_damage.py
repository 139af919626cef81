"""Keys and numbers in Redis that no router wrote: who can write there needs no key of the mesh for them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from itertools import pairwise

import pytest

from mesh.core.commands import DropBatches, RecordOutcomes, SaveFunction, SaveMarks, SaveNode
from mesh.errors import ConfigError, StoreDamaged, StoreLost
from mesh.model import FunctionCode, NodeInfo, TaskMark
from mesh.store.check import Checked, check
from mesh.store.redis.address import parse_address
from mesh.store.redis.kinds import kinds
from mesh.store.redis.reader import RedisReader
from mesh.store.redis.store import RedisStore
from tests.contract.stores import BLOB, PARTS, append, outcome_of
from tests.redis_server import KEYS, mine, open_redis, prefix_of

pytestmark = pytest.mark.processes


def fill(url: str) -> RedisStore:
    store = open_redis(url)
    store.recover()
    store.put_blob(BLOB, PARTS)
    store.commit(
        [
            append(1, "a"),
            append(2, "b"),
            SaveMarks([TaskMark("a", 1, 1, 0, 0)]),
            SaveNode(NodeInfo("n1", "one")),
            SaveFunction(FunctionCode("d1", "3.11", b"code"), 1.0),
            RecordOutcomes([outcome_of("x"), outcome_of("b", batch=2), outcome_of("y", payload=BLOB)]),
        ]
    )
    return store


def checked(url: str) -> Checked:
    with closing(RedisReader(parse_address(url), "m", KEYS, 2.0)) as reader:
        return check(reader)


def is_refused_and_salvaged(url: str, match: str) -> RedisStore:
    """What a start says, and one with ``--salvage`` mends for all that follow."""
    with pytest.raises(StoreDamaged, match=f"{match}.*--salvage"), closing(open_redis(url)) as store:
        store.recover()
    with closing(open_redis(url, salvage=True)) as store:
        boot = store.recover().boot
        assert store.salvaged
        store.commit([append(90, "n"), RecordOutcomes([outcome_of("n", batch=90)]), DropBatches([90])])
    store = open_redis(url)
    assert store.recover().boot == boot + 1
    store.commit([append(91, "o"), RecordOutcomes([outcome_of("o", batch=91)]), DropBatches([91])])
    store.usage()
    store.keep()
    store.prune(1e12, 10)
    return store


@pytest.mark.parametrize("field", ["boot", "seq", "commits", "batches", "epoch"])
@pytest.mark.parametrize("value", ["abc", "-7", "", "1e300", "nan", str(2**53), str(2**62 + 5), str(2**63)])
def test_a_number_that_no_router_wrote_is_refused_by_its_name_and_begins_anew(url, admin, field, value):
    store = fill(url)
    meta = f"{mine(store)}meta"
    boot = int(admin.hget(meta, "boot"))
    store.close()
    admin.hset(meta, field, value)
    assert any(f"{meta}: field {field} " in fault for fault in checked(url).faults)
    if field != "epoch":
        with (
            closing(RedisReader(parse_address(url), "m", KEYS, 2.0)) as reader,
            pytest.raises(StoreDamaged, match=field),
        ):
            reader.facts()
    store = is_refused_and_salvaged(url, f"meta: field {field}")
    assert int(admin.hget(meta, "boot")) > boot, "no life has the number of another"
    assert [batch.seq for batch in store.recover().batches] == [1, 2]
    store.close()
    assert checked(url).faults == []


@pytest.mark.parametrize("value", ["abc", str(2**53), str(10**18), ""])
@pytest.mark.parametrize("field", ["commits", "seq", "batches"])
def test_a_number_that_is_changed_while_the_router_runs_ends_it_at_its_next_commit(url, admin, field, value):
    store = fill(url)
    admin.hset(f"{mine(store)}meta", field, value)
    with pytest.raises(StoreDamaged, match=rf"meta: field {field} .*--salvage"):
        store.commit([append(3, "c")])
    assert not admin.hexists(f"{mine(store)}journal", "3"), "nothing of it was written"
    store.close()


def test_a_number_of_commits_that_somebody_raises_again_and_again_ends_the_router(url, admin, monkeypatch):
    store = fill(url)
    owned = store._journal.do

    def raised(*args: object) -> list[object]:
        admin.hincrby(f"{mine(store)}meta", "commits", 5)
        return owned(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(store._journal, "do", raised)
    with pytest.raises(StoreDamaged, match="commits grows by itself"):
        store.commit([append(3, "c")])
    monkeypatch.undo()
    store.close()


OF_ALL = ["outcomes", "expiries", "functions", "users", "blob_at", "adopted", "names", "dues", "routers"]
OWN = [key.removeprefix("r:") for key in kinds("", "r:") if key.startswith("r:")]


@pytest.mark.parametrize("place", [*OF_ALL, *(f"r:{place}" for place in OWN)])
def test_a_key_of_another_type_is_refused_by_its_name_and_set_aside(url, admin, place):
    store = fill(url)
    key = f"{mine(store)}{place[2:]}" if place.startswith("r:") else f"{prefix_of(store.url)}{place}"
    store.close()
    wrong: Callable[[], object] = lambda: admin.rpush(key, "x")  # noqa: E731
    admin.delete(key)
    wrong()
    with suppress(StoreDamaged):  # a reader that finds no meta says so at once
        assert any(f"key {key} is not of the type" in fault for fault in checked(url).faults)
    is_refused_and_salvaged(url, f"key {key} is not of the type").close()
    assert admin.keys(f"{key.replace('[', '?')}:damaged*"), "nothing is thrown away"


def test_sealed_keys_of_another_type_are_set_aside_and_their_rows_are_nobody_s(url, admin):
    store = fill(url)
    store.close()
    keys = f"{prefix_of(store.url)}keys"
    sealed = admin.hgetall(keys)
    admin.delete(keys)
    admin.set(keys, "x")
    with pytest.raises(StoreDamaged, match=f"key {keys} is not of the type .*--salvage"):
        open_redis(url)
    with pytest.raises(ConfigError, match="keys is gone"):
        open_redis(url, salvage=True)
    admin.hset(keys, mapping=sealed)
    with closing(open_redis(url)) as store:
        assert len(store.recover().batches) == 2


@pytest.mark.parametrize("place", ["settled:1", "held:1", "settled:2"])
def test_a_set_of_a_batch_that_is_of_another_type_is_refused_by_its_name_and_set_aside(url, admin, place):
    store = fill(url)
    store.close()
    key = f"{mine(store)}{place}"
    admin.delete(key)
    admin.set(key, "x")
    is_refused_and_salvaged(url, f"key {key} is not of the type").close()


@pytest.mark.parametrize(
    "place", ["outcomes", "expiries", "functions", "adopted", "r:journal", "r:held:1", "r:settled:1"]
)
def test_a_key_that_is_of_another_type_while_the_router_runs_is_named(url, admin, place):
    store = fill(url)
    key = f"{mine(store)}{place[2:]}" if place.startswith("r:") else f"{prefix_of(store.url)}{place}"
    admin.delete(key)
    admin.set(key, "x")
    code = FunctionCode("d2", "3.11", b"code")
    with pytest.raises(StoreDamaged, match=f"key {key} is not of the type .*--salvage"):
        store.commit([SaveFunction(code, 1.0), append(3, "c"), RecordOutcomes([outcome_of("a", batch=1)])])
        store.commit([DropBatches([1])])
    store.close()


def test_a_payload_of_another_type_is_lost_and_comes_again_in_its_place(url, admin):
    store = fill(url)
    key = f"{mine(store)}b:{BLOB.key}"
    admin.delete(key)
    admin.set(key, "x")
    with pytest.raises(StoreDamaged, match=key):
        store.read_blob(BLOB)
    assert checked(url).kinds["payloads"].keys == [BLOB.key]
    assert store.put_blob(BLOB, PARTS)
    store.commit([])
    assert store.read_blob(BLOB) == PARTS
    store.close()


def test_a_count_of_users_that_is_none_is_counted_anew(url, admin):
    store = fill(url)
    store.close()
    users = f"{prefix_of(store.url)}users"
    admin.hset(users, "d1", "x")
    store = open_redis(url, salvage=True)
    assert any("functions were counted anew" in line for line in store.salvaged)
    assert admin.hget(users, "d1") == b"1"
    store.close()


@pytest.mark.parametrize("text", ["x", "\x1b[31m{}"])
def test_a_lock_without_an_end_is_no_router_s(url, admin, text):
    store = fill(url)
    store.close()
    lock = f"{mine(store)}lock"
    admin.set(lock, text)
    assert any("lock has no time to run out" in fault for fault in checked(url).faults)
    with pytest.raises(StoreDamaged, match=r"lock has no time to run out.*--salvage"):
        open_redis(url, lock_s=0.1)
    store = open_redis(url, lock_s=0.1, salvage=True)
    assert "no time to run out" in store.salvaged[0]
    store.close()


def test_a_note_that_a_store_moved_which_is_none_is_set_aside(url, admin):
    store = fill(url)
    store.close()
    admin.set(f"{mine(store)}moved", "garbage")
    is_refused_and_salvaged(url, "moved: no note of a store that moved").close()


def test_an_owner_that_is_changed_is_no_other_process(url, admin):
    store = fill(url)
    admin.hset(f"{mine(store)}meta", "owner", "x")
    with pytest.raises(StoreLost, match="field owner was changed, and by no router"):
        store.usage()
    store.close()


def test_many_damaged_rows_are_set_aside_while_the_lock_is_kept(url, admin, caplog, monkeypatch):
    store = fill(url)
    store.close()
    junk = {f"j{i}": b"junk" for i in range(41_000)}
    admin.hset(f"{mine(store)}journal", mapping=junk)
    store = open_redis(url, salvage=True)
    kept: list[int] = []
    calls: list[int] = []
    commands = store._link.commands
    assert store._salvage
    monkeypatch.setattr(store._salvage, "_keep", lambda: kept.append(len(calls)))
    monkeypatch.setattr(store._link, "commands", lambda some: (calls.append(1), commands(some))[1])
    store.recover()
    assert len(calls) < 41_000 / 100, "hundreds at once"
    assert max(b - a for a, b in pairwise(kept)) <= 3, "the lock is looked at all the time"
    assert "40000 of 41000 rows are set aside" in caplog.text
    assert admin.hlen(f"{mine(store)}journal:damaged") == 41_000
    store.close()
