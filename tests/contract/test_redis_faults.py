"""A real Redis that is killed, full, slow, a replica, or written to by others: what its store says then."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from mesh.core.commands import (
    DropBatches,
    DropOutcomes,
    DueSpan,
    RecordOutcomes,
    SaveEntry,
    SaveFunction,
    SaveMarks,
    SaveNode,
    SavePositions,
)
from mesh.entries import Entry, Position
from mesh.errors import (
    ConfigError,
    RowDamaged,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreLost,
    StoreUnavailable,
)
from mesh.model import FunctionCode, NodeInfo, TaskMark, TaskOptions
from mesh.schedules import Every
from mesh.store.check import check
from mesh.store.redis import holder
from mesh.store.redis.address import parse_address
from mesh.store.redis.link import LOGIN_PAUSE_MAX_S, PAUSE_S, Link
from mesh.store.redis.reader import RedisReader
from mesh.store.redis.rights import NEEDED, USEFUL
from mesh.store.redis.scripts import COMMIT
from mesh.store.redis.sealing import StoreKeys
from mesh.store.redis.store import RedisStore
from mesh.store.shared import Handover
from tests.contract.stores import BLOB, PARTS, append, outcome_of, submit_of
from tests.redis_server import KEYS, Server, mine, open_redis, prefix_of

pytestmark = pytest.mark.processes


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path, "disk")
    yield server
    server.close()


class Clock:
    """Time for a store that is not to wait."""

    now = 0.0


def on_clock(store: RedisStore) -> Clock:
    clock = Clock()
    store._link._clock = lambda: clock.now
    return clock


def seqs(store: RedisStore) -> list[int]:
    return [batch.seq for batch in store.recover().batches]


# killed, slow, full, a replica


def test_what_was_committed_is_there_after_the_server_was_killed(server: Server) -> None:
    store = open_redis(server.url)
    store.recover()
    assert store.level == "disk"
    store.commit([append(1, "a"), append(2, "b")])
    server.kill()
    clock = on_clock(store)
    late = [append(3, "c"), RecordOutcomes([outcome_of("a", batch=1)])]
    for _ in range(3):
        clock.now += 2 * PAUSE_S
        with pytest.raises(StoreUnavailable) as error:
            store.commit(late)
        assert not isinstance(error.value, StoreFull)
    for read in (lambda: store.outcomes(["a"]), lambda: store.function("d"), lambda: store.read_blob(BLOB)):
        with pytest.raises(StoreUnavailable):
            read()
    server.start()
    clock.now += 2 * PAUSE_S
    store.commit(late)
    store.close()
    store = open_redis(server.url)
    assert [(b.seq, b.settled) for b in store.recover().batches] == [(1, {"a"}), (2, set()), (3, set())]
    store.close()


def test_a_start_that_fails_once_it_has_the_journal_lets_go_of_it(
    url: str, admin: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = Link.command

    def failing(link: Link, *args: Any) -> Any:
        if args[0] == "GET" and str(args[1]).endswith(":moved"):
            raise StoreUnavailable("the server was busy")
        return command(link, *args)

    with monkeypatch.context() as patch, pytest.raises(StoreUnavailable):
        patch.setattr(Link, "command", failing)
        open_redis(url)
    assert [key for key in admin.scan_iter(f"{prefix_of(url)}*lock")] == []


def test_a_commit_whose_answer_was_lost_reads_its_outcomes_by_hundreds(
    url: str, admin: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_redis(url)) as store:
        store.recover()
        record = RecordOutcomes([outcome_of(f"t{number}") for number in range(500)])
        script = Link.script

        def deaf(link: Link, text: str, keys: Any, args: Any) -> Any:
            script(link, text, keys, args)
            raise StoreUnavailable("no answer came")

        with monkeypatch.context() as patch:
            patch.setattr(Link, "script", deaf)
            with pytest.raises(StoreUnavailable):
                store.commit([record])
        admin.hset(f"{prefix_of(url)}outcomes", "t250", b"junk" * 20)
        before = admin.info("commandstats")["cmdstat_hmget"]["calls"]
        assert store.commit([record]) == []
        assert admin.info("commandstats")["cmdstat_hmget"]["calls"] - before < 300


def test_a_commit_whose_answer_was_lost_is_done_once(url: str, admin: redis.Redis) -> None:
    store = open_redis(url, timeout_s=0.1)
    store.recover()
    clock = on_clock(store)
    records = [append(1, "a"), RecordOutcomes([outcome_of("b")])]
    store.commit([SaveMarks([])])
    admin.client_pause(300, all=True)
    with pytest.raises(StoreUnavailable, match=r"[Tt]imeout"):
        store.commit(records)
    clock.now += 10
    while True:
        try:
            store.commit(records)
            break
        except StoreUnavailable:
            clock.now += 10
    store.commit([append(2, "c")])
    assert seqs(store) == [1, 2]
    assert admin.hget(f"{mine(store)}meta", "commits") == b"3"
    store.close()


class Deaf:
    """A connection whose answers do not come, although all is done."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def execute_command(self, *args: Any) -> Any:
        self._client.execute_command(*args)
        raise redis.TimeoutError("Timeout reading from socket")


@pytest.mark.parametrize("same", [True, False])
def test_a_commit_that_was_done_unheard_is_not_done_again(url: str, same: bool) -> None:
    store = open_redis(url)
    store.recover()
    clock = on_clock(store)
    store.put_blob(BLOB, PARTS)
    first = [append(1, "a"), RecordOutcomes([outcome_of("x", payload=BLOB)]), DropOutcomes(["y"])]
    client = store._link._client
    store._link._client = Deaf(client)
    for _ in range(2):
        clock.now += 10
        with pytest.raises(StoreUnavailable):
            store.commit(first)
    store._link._client = client
    clock.now += 10
    if same:
        store.commit(first)
    store.commit([append(2, "b"), RecordOutcomes([outcome_of("y")])])
    assert (seqs(store), store.usage().batches) == ([1, 2], 2)
    assert store.outcomes(["x", "y"]) == [outcome_of("x", payload=BLOB), outcome_of("y")]
    assert store.read_blob(BLOB) == PARTS
    store.close()


def test_a_commit_that_was_given_up_and_comes_late_takes_no_others_place(url: str, admin: redis.Redis) -> None:
    store = open_redis(url)
    store.recover()
    clock = on_clock(store)
    client = store._link._client
    late: list[tuple[Any, ...]] = []

    class Slow:
        errors = iter([redis.TimeoutError("Timeout"), redis.exceptions.OutOfMemoryError("command not allowed")])

        def execute_command(self, *args: Any) -> Any:
            late.append(args)
            raise next(self.errors)

    store._link._client = Slow()  # type: ignore[assignment]
    records = [RecordOutcomes([outcome_of("x")])]
    with pytest.raises(StoreUnavailable):
        store.commit(records)
    clock.now += 10
    with pytest.raises(StoreFull):
        store.commit(records)
    store._link._client = client
    admin.execute_command("EVAL", COMMIT, *late[0][2:])
    store.commit([append(1, "a")])
    assert (seqs(store), store.outcomes(["x"])) == ([1], [outcome_of("x")])
    store.close()


def test_after_a_failure_nothing_waits_again_at_once(url: str, admin: redis.Redis) -> None:
    store = open_redis(url, timeout_s=0.05)
    clock = on_clock(store)
    admin.client_pause(500, all=True)
    with pytest.raises(StoreUnavailable):
        store.usage()
    client, store._link._client = store._link._client, None  # type: ignore[assignment]
    with pytest.raises(StoreUnavailable, match="asked again soon"):
        store.usage()
    store._link._client = client
    clock.now += 2 * PAUSE_S
    admin.ping()
    assert store.usage().batches == 0
    store.close()


def test_a_full_server_says_so_and_deleting_still_works(server: Server) -> None:
    store = open_redis(server.url)
    store.recover()
    store.commit([append(1, "a"), RecordOutcomes([outcome_of("old", expires_at=1.0), outcome_of("x")])])
    server.admin.config_set("maxmemory", "1mb")
    for _ in range(2):
        with pytest.raises(StoreFull, match="OOM"):
            store.commit([append(2, "b"), DropBatches([1])])
    with pytest.raises(StoreFull):
        store.put_blob(BLOB, PARTS)
    assert store.usage().free_bytes == 0
    store.commit([DropBatches([1]), DropOutcomes(["x"])])
    assert store.prune(100.0, 10) == 1
    server.admin.config_set("maxmemory", "0")
    store.commit([append(2, "b")])
    assert seqs(store) == [2]
    store.close()


def test_a_server_that_became_a_replica_writes_nothing_until_it_is_none(server: Server) -> None:
    store = open_redis(server.url)
    store.recover()
    clock = on_clock(store)
    server.admin.execute_command("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(StoreUnavailable, match=r"(?i)read only replica|READONLY|MASTERDOWN"):
        store.commit([append(1, "a")])
    server.admin.execute_command("REPLICAOF", "NO", "ONE")
    clock.now += 10
    store.commit([append(1, "a")])
    assert seqs(store) == [1]
    store.close()


def set_back(server: Server, how: str, store: RedisStore) -> None:
    """Make the server forget all of it, or what is committed by this."""
    if how == "nothing":
        store.commit([append(2, "b")])
        server.admin.flushall()
    else:
        server.admin.save()
        store.commit([append(2, "b"), RecordOutcomes([outcome_of("a", batch=1)]), DropBatches([1])])
        server.kill()
        server.start()


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[Server]:
    """A server that has, when it was killed, what it was last told to save."""
    server = Server(tmp_path, "memory")
    yield server
    server.close()


@pytest.mark.parametrize("noticed_by", ["commit", "usage"])
@pytest.mark.parametrize("has", ["nothing", "commit 1"])
def test_a_server_that_lost_commits_takes_nothing_until_all_is_written_anew(
    forgetful: Server, has: str, noticed_by: str
) -> None:
    store = open_redis(forgetful.url)
    assert (store.level, "appendonly no" in store.durability.promise) == ("process", True)
    store.recover()
    store.commit([append(1, "a"), SavePositions([Position("e", 5)]), SaveMarks([TaskMark("a", 1, 1, 0, 0)])])
    assert store.set_back == ""
    set_back(forgetful, has, store)
    with pytest.raises(StoreUnavailable, match=rf"lost data: it has {has} .*acknowledged commit 2 .*appendonly no"):
        store.usage() if noticed_by == "usage" else store.commit([append(3, "c")])
    with pytest.raises(StoreUnavailable, match="lost data"):
        store.commit([append(3, "c")])
    for _ in range(2):
        assert store.begin_anew(2, ["d"]) == []
    assert store.set_back == ""
    store.commit([append(2, "b")])
    store.commit([append(3, "c"), RecordOutcomes([outcome_of("b", batch=2)])])
    assert store.usage().batches == 2
    store.close()
    store = open_redis(forgetful.url)
    left = store.recover()
    assert [(b.seq, b.settled) for b in left.batches] == [(2, {"b"}), (3, set())]
    assert (left.boot, left.next_seq, left.marks, left.positions) == (2, 4, [], [])
    store.close()


def test_a_snapshot_of_an_earlier_start_is_gone_on_with(forgetful: Server) -> None:
    store = open_redis(forgetful.url)
    store.recover()
    store.commit([append(1, "a"), append(2, "b")])
    forgetful.admin.save()
    store.close()
    store = open_redis(forgetful.url)
    assert seqs(store) == [1, 2]
    store.commit([DropBatches([1])])
    forgetful.kill()
    forgetful.start()
    with pytest.raises(StoreUnavailable, match="nothing of the present start"):
        store.keep()
    store.begin_anew(2, [])
    store.commit([append(2, "b")])
    store.close()
    store = open_redis(forgetful.url)
    left = store.recover()
    assert ([batch.seq for batch in left.batches], left.boot) == ([2], 3)
    store.close()


def test_a_router_whose_server_lost_its_data_is_there_again_for_others_to_adopt(server: Server) -> None:
    store = open_redis(server.url)
    store.recover()
    other = open_redis(f"{server.url}?router=other")
    server.admin.flushall()
    for one in (store, other):
        with pytest.raises(StoreUnavailable):
            one.usage()
        one.begin_anew(0, [])
    store.commit([append(1, "a"), SaveFunction(FunctionCode("d1", "3.11", b"code"), 1.0)])
    assert store.begin_anew(1, ["d1", "d2"]) == ["d1"], "functions are kept where they are"
    store.commit([append(1, "a")])
    store.close()
    assert list(other.keep()) == [store.router_id]
    other.close()


def test_a_server_that_was_emptied_and_begun_anew_by_another_router_is_gone_on_with(server: Server) -> None:
    store = open_redis(server.url)
    store.recover()
    store.commit([append(1, "a")])
    server.admin.flushall()
    other = open_redis(f"{server.url}?router=other")
    with pytest.raises(StoreUnavailable, match="has nothing"):
        store.commit([append(2, "b")])
    store.begin_anew(2, [])
    store.commit([append(1, "a"), append(2, "b"), RecordOutcomes([outcome_of("x")])])
    assert seqs(store) == [1, 2]
    assert other.outcomes(["x"]) == [outcome_of("x")], "both sign with one key"
    store.close()
    other.close()


def test_a_journal_that_another_router_has_taken_meanwhile_is_not_written_anew(server: Server) -> None:
    store = open_redis(server.url)
    store.recover()
    server.admin.flushall()
    with pytest.raises(StoreUnavailable):
        store.usage()
    other = open_redis(server.url)
    server.admin.hincrby(f"taskmesh:{{m}}:r:{store.router_id}:meta", "epoch", 1)
    with pytest.raises(StoreLost, match="in use by"):
        store.begin_anew(1, [])
    store.close()
    other.close()


def test_the_level_is_what_the_server_promises(server: Server) -> None:
    def open_and_close() -> RedisStore:
        store = open_redis(server.url)
        store.close()
        return store

    def promise() -> tuple[str, str]:
        store = open_and_close()
        return store.level, store.durability.promise.partition(":")[0]

    assert promise() == ("disk", "appendfsync always")
    assert open_and_close().durability.warning == ""
    server.admin.config_set("appendonly", "no")
    warning = open_and_close().durability.warning
    assert 'save is "": a restart of the server loses all' in warning
    with closing(RedisReader(parse_address(server.url), "m", KEYS, 2.0)) as reader:
        assert reader.facts().warning == warning
    server.admin.config_set("save", "3600 1")
    assert promise() == ("process", "appendonly no")
    assert open_and_close().durability.warning == ""
    server.admin.config_set("save", "")
    server.admin.config_set("appendonly", "yes")
    server.admin.config_set("appendfsync", "everysec")
    assert promise() == ("process", "appendfsync everysec")
    server.admin.config_set("maxmemory", "100mb")
    server.admin.config_set("maxmemory-policy", "allkeys-lru")
    store = open_redis(server.url)
    assert "noeviction" in store.durability.warning
    store.close()
    server.admin.execute_command("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-config")
    store = open_redis(server.url.replace("//", "//u:p@"))
    assert (store.level, store.durability.promise[:7]) == ("process", "unknown")
    assert ":p@" not in store.url
    store.close()


def test_a_user_who_may_not_ask_for_connections_takes_nobody_s_journal_for_that(
    url: str, admin: redis.Redis, request: pytest.FixtureRequest
) -> None:
    admin.execute_command("ACL", "SETUSER", "noclient", "on", ">p", "~*", "+@all", "-client")
    request.addfinalizer(lambda: admin.execute_command("ACL", "DELUSER", "noclient"))
    first = open_redis(url)
    first.commit([append(1, "a")])
    other = open_redis(f"{url.replace('//', '//noclient:p@')}&router=other")
    number = msgspec.json.decode(admin.get(f"{mine(first)}lock"))["connection"]  # type: ignore[arg-type]
    assert admin.client_kill_filter(_id=number) == 1
    admin.pexpire(f"{mine(first)}lock", 4000)
    assert other.keep() == {first.router_id: pytest.approx(4.0, abs=1.0)}
    admin.delete(f"{mine(first)}lock")
    assert other.claim(str(first.router_id)) is not None


def test_a_wrong_password_is_no_store(server: Server) -> None:
    with pytest.raises(StoreError, match=r"login refused: WRONGPASS invalid.*--store") as error:
        open_redis(server.url.replace("//", "//u:s3cret@"))
    assert "s3cret" not in str(error.value)
    assert not isinstance(error.value, StoreUnavailable), "waiting mends nothing"


def documented_user() -> list[str]:
    page = (Path(__file__).parents[2] / "docs" / "OPERATING.md").read_text()
    (line,) = re.findall(r"^ACL SETUSER mesh (.*)$", page, re.MULTILINE)
    return str(line).split()


def use(store: RedisStore, other: RedisStore) -> None:
    """All that a router does with its store."""
    store.recover()
    store.put_blob(BLOB, PARTS)
    function = SaveFunction(FunctionCode("d1", "3.11", b"code"), 1.0)
    done = RecordOutcomes([outcome_of("x"), outcome_of("b", batch=2), outcome_of("y", payload=BLOB)])
    store.commit([append(1, "a"), append(2, "b"), SaveMarks([TaskMark("a", 1, 1, 0, 0)]), function, done])
    store.commit([DropBatches([2]), DropOutcomes(["x"]), SavePositions([Position("e", 1, "t", "")])])
    assert store.function("d1") and store.outcomes(["y"]) and store.read_blob(BLOB)
    store.keep()
    store.usage()
    store.prune(1e12, 10)
    store.close()
    journal = other.claim(str(store.router_id))
    assert journal is not None
    assert len(other.read_claimed(journal, journal.seqs)) == 1
    other.find(journal, ["a"])
    other.move(journal, [Handover(1, 5, msgspec.msgpack.encode(submit_of("a")), 1.0, ["a"])])
    assert other.elsewhere(["a"]) == []
    other.read_schedules(journal)
    other.leave(journal)
    assert other.grant_dues(1, [DueSpan("e", 1, 1)])[0].is_granted
    other.note_move(None)
    other.begin_anew(5, [])
    other.close()


def test_a_user_with_the_rights_of_the_docs_can_do_all_that_a_router_does(server: Server) -> None:
    rules = [rule for rule in documented_user() if not rule.startswith((">", "~"))]
    server.admin.execute_command("ACL", "SETUSER", "u", *rules, ">p", "~taskmesh:*")
    url = server.url.replace("//", "//u:p@")
    use(open_redis(url), open_redis(f"{url}?router=other"))
    open_redis(url, salvage=True).recover()
    with closing(RedisReader(parse_address(f"{url}?router=other"), "m", KEYS, 2.0)) as reader:
        assert check(reader).is_whole
        assert reader.facts().size is not None
    asked = [dict(zip(entry[::2], entry[1::2]))[b"object"] for entry in server.admin.execute_command("ACL", "LOG")]
    assert set(asked) <= {b"client|setinfo"}, "nothing was asked that is not in the docs"


def test_each_right_that_is_missing_is_named_at_the_start(server: Server) -> None:
    rules = [rule for rule in documented_user() if not rule.startswith((">", "~"))]
    assert {rule[1:].upper() for rule in rules if rule[0] == "+"} == {*NEEDED, *USEFUL, "SELECT"}
    url = server.url.replace("//", "//u:p@")
    for missing in NEEDED:
        server.admin.execute_command("ACL", "SETUSER", "u", "reset", *rules, ">p", "~taskmesh:*", f"-{missing.lower()}")
        with pytest.raises(StoreError, match=rf"(?i)\b{missing}\b") as error:
            open_redis(url)
        assert not isinstance(error.value, StoreUnavailable)
    server.admin.execute_command("ACL", "SETUSER", "u", "reset", *rules, ">p", "~other:*")
    with pytest.raises(StoreError, match=r"keys that begin with taskmesh:\{m\}:|access"):
        open_redis(url)
    server.admin.execute_command("ACL", "SETUSER", "u", "reset", "on", ">p", "~*", "+@all", "-@dangerous")
    with pytest.raises(StoreError, match="info"):
        open_redis(url)
    assert server.admin.keys("*") == []


@pytest.mark.parametrize("change", [("resetpass", ">new"), ("-@scripting",), ("off",), ("-info",)])
def test_a_login_that_worked_and_is_refused_is_waited_for(server: Server, change: tuple[str, ...]) -> None:
    def user(*rules: str) -> None:
        server.admin.execute_command("ACL", "SETUSER", "u", *rules)
        server.admin.client_kill_filter(_type="normal", skipme=True)

    user("on", ">old", "~*", "+@all")
    store = open_redis(server.url.replace("//", "//u:old@"))
    store.recover()
    clock = on_clock(store)
    for _ in range(2):  # a wait that ended well counts for nothing in the next
        user(*change)
        for _ in range(11):
            with pytest.raises(StoreUnavailable, match=r"login refused: .*(new ones|asked again soon)"):
                store.usage()
            clock.now += LOGIN_PAUSE_MAX_S
        user("reset", "on", ">old", "~*", "+@all")
        store.usage()
        store.commit([append(1, "a"), DropBatches([1])])
        clock.now += 4 * LOGIN_PAUSE_MAX_S
    user(*change)
    ended = clock.now + 60.0
    while clock.now < ended:
        with pytest.raises(StoreUnavailable, match="login refused"):
            store.usage()
        clock.now += LOGIN_PAUSE_MAX_S
    with pytest.raises(StoreError, match="login refused") as error:
        store.usage()
    assert not isinstance(error.value, StoreUnavailable), "the router ends, and says why"
    assert "old" not in str(error.value)
    store.close()


def test_a_user_who_may_not_ask_for_connections_is_let_in_all_the_same(server: Server) -> None:
    server.admin.execute_command("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-client")
    store = open_redis(server.url.replace("//", "//u:p@"))
    store.recover()
    for _ in range(2):
        assert store.keep() == {}
        store.usage()
    store.close()


# who has the journal


def test_one_router_has_a_journal_at_a_time(url: str) -> None:
    store = open_redis(url)
    with pytest.raises(StoreLocked, match=rf"pid {os.getpid()} on .*router=NAME"):
        open_redis(url, lock_s=0.2)
    store.commit([append(1, "a")])
    other = open_redis(f"{url}&router=other")
    assert other.router_id != store.router_id
    other.commit([append(1, "b"), RecordOutcomes([outcome_of("c")])])
    assert (seqs(store), store.outcomes(["c"]), seqs(other)) == ([1], [outcome_of("c")], [1])
    store.close()
    other.close()
    open_redis(url).close()


def test_the_journal_of_a_process_that_is_gone_is_free_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = open_redis(url, lock_s=1000.0)
    gone.commit([append(1, "a")])
    monkeypatch.setattr(holder, "_started", lambda pid: "another time")
    store = open_redis(url, lock_s=1000.0)
    assert seqs(store) == [1]
    with pytest.raises(StoreLost, match="in use by pid"):
        gone.commit([append(2, "b")])
    with pytest.raises(StoreLost):
        gone.usage()
    assert seqs(store) == [1]
    store.close()


def test_a_router_that_said_nothing_for_long_goes_on_unless_another_took_over(url: str, admin: redis.Redis) -> None:
    store = open_redis(url)
    admin.delete(f"{mine(store)}lock")
    store.commit([append(1, "a")])
    assert admin.pttl(f"{mine(store)}lock") > 0
    admin.delete(f"{mine(store)}lock")
    store.usage()
    admin.delete(f"{mine(store)}lock")
    other = open_redis(url)
    with pytest.raises(StoreLost):
        store.commit([append(2, "b")])
    assert seqs(other) == [1]
    store.close()
    assert admin.exists(f"{mine(other)}lock"), "who lost it lets go of nothing"
    other.close()


def test_a_journal_of_another_format_is_refused(url: str, admin: redis.Redis) -> None:
    store = open_redis(url)
    store.close()
    admin.hset(f"{mine(store)}meta", "format", "3")
    with pytest.raises(ConfigError, match="has format 3"):
        open_redis(url)


# written to by others


def fill(url: str) -> RedisStore:
    store = open_redis(url)
    store.recover()
    store.put_blob(BLOB, PARTS)
    store.commit(
        [
            append(1, "a"),
            append(2, "b"),
            SaveMarks([TaskMark("a", 1, 1, 0, 0), TaskMark("b", 2, 1, 0, 0)]),
            SaveNode(NodeInfo("n1", "one")),
            SaveFunction(FunctionCode("d1", "3.11", b"code"), 1.0),
            RecordOutcomes([outcome_of("x"), outcome_of("y", payload=BLOB), outcome_of("z")]),
        ]
    )
    return store


FORGED = [secrets.token_bytes(80), b"", b"\x00" * 200]


@pytest.mark.parametrize("value", FORGED, ids=["noise", "empty", "zeros"])
@pytest.mark.parametrize(
    ("place", "field"),
    [
        ("journal", "1"),
        ("marks", "a"),
        ("nodes", "n1"),
        ("journal", "7"),
        ("schedules", "e"),
        ("positions", "e"),
        ("apps", "a"),
    ],
)
def test_a_row_that_no_router_wrote_is_refused_by_its_name_and_can_be_set_aside(url, admin, place, field, value):
    store = fill(url)
    key = f"{mine(store)}{place}"
    admin.hset(key, field, value)
    with pytest.raises(StoreDamaged, match=rf"{place}: .* not what a router wrote: {field} .*--salvage"):
        store.recover()
    store.close()
    store = open_redis(url, salvage=True)
    left = store.recover()
    assert store.salvaged
    assert [b.seq for b in left.batches] == ([2] if field == "1" else [1, 2])
    assert admin.hget(f"{key}:damaged", field) == value
    store.close()
    store = open_redis(url)
    store.recover()
    store.close()


def test_a_task_that_somebody_calls_finished_is_not_and_what_a_router_finished_stays_so(url, admin):
    store = open_redis(url)
    store.recover()
    store.commit([append(1, "a", "b"), append(2, "a", "c"), RecordOutcomes([outcome_of("a", batch=1)])])
    store.commit([DropOutcomes(["a"])])
    (row,) = admin.smembers(f"{mine(store)}settled:1")
    assert store.recover().batches[0].settled == {"a"}, "also where nobody wants its outcome any more"
    for forged in (b"b", b"\x1b[31m", row[:16] + row[16:].replace(b"a", b"b"), secrets.token_bytes(40)):
        admin.sadd(f"{mine(store)}settled:1", forged)
    admin.sadd(f"{mine(store)}settled:2", row)
    with closing(RedisReader(parse_address(url), "m", KEYS, 2.0)) as reader:
        assert [batch.settled for _, batch in reader.batches([1, 2]) if batch] == [{"a"}, set()]
        assert any("no router wrote down, in batches: 1, 2 " in line for line in reader.loose_ends())
    with pytest.raises(StoreDamaged, match=r"settled:1: .*not what a router wrote: 4; .*--salvage"):
        store.recover()
    store.close()
    store = open_redis(url, salvage=True)
    assert [batch.settled for batch in store.recover().batches] == [{"a"}, set()]
    assert admin.scard(f"{mine(store)}settled:1:damaged") == 4
    store.close()
    store = open_redis(url)
    store.recover()
    store.close()


def test_a_row_that_a_router_wrote_and_none_can_read_is_refused_by_its_name_and_can_be_set_aside(url, admin):
    store = fill(url)
    store.commit(
        [SaveEntry(Entry("e", Every(5.0), TaskOptions("work"))), SavePositions([Position("e", 1, fired=2**63)])]
    )
    with pytest.raises(StoreDamaged, match=r"positions: .* not what a router wrote: e .*--salvage"):
        store.recover()
    store.close()
    store = open_redis(url, salvage=True)
    assert store.recover().positions == [] and store.salvaged
    store.close()


def test_a_row_counts_only_in_its_place(url, admin):
    store = fill(url)
    admin.hset(f"{mine(store)}journal", "9", admin.hget(f"{mine(store)}journal", "1"))
    with pytest.raises(StoreDamaged, match=r"journal: .*: 9 "):
        store.recover()
    outcomes = f"{prefix_of(url)}outcomes"
    admin.hset(outcomes, "other", admin.hget(outcomes, "x"))
    with pytest.raises(RowDamaged, match="task other"):
        store.outcomes(["other"])
    store.close()


def test_a_journal_that_lost_rows_is_refused(url, admin):
    store = fill(url)
    admin.hdel(f"{mine(store)}journal", "2")
    with pytest.raises(StoreDamaged, match="1 whole batches where 2 were written"):
        store.recover()
    store.close()


def test_a_forged_result_is_one_damaged_row(url, admin):
    store = fill(url)
    admin.hset(f"{prefix_of(url)}outcomes", "x", secrets.token_bytes(100))
    with pytest.raises(RowDamaged, match=r"task x: .*outcomes is not what a router wrote"):
        store.outcomes(["x", "z"])
    assert store.outcomes(["z"]) == [outcome_of("z")]
    store.close()


def test_a_forged_function_is_refused_and_saving_it_again_mends_it(url, admin):
    store = fill(url)
    admin.hset(f"{prefix_of(url)}functions", "d1", b"x" * 60)
    with pytest.raises(RowDamaged, match="function d1"):
        store.function("d1")
    code = FunctionCode("d1", "3.11", b"code")
    store.commit([SaveFunction(code, 2.0)])
    assert store.function("d1") == code
    store.close()


@pytest.mark.parametrize("field", ["h", "0", "1"])
def test_a_forged_payload_is_refused(url, admin, field):
    store = fill(url)
    key = f"{mine(store)}b:{BLOB.key}"
    value = bytearray(admin.hget(key, field))
    value[len(value) // 2] ^= 1
    admin.hset(key, field, bytes(value))
    with pytest.raises(StoreDamaged, match="b:t1:result is not what was written"):
        store.read_blob(BLOB)
    store.close()


def test_a_store_of_another_key_is_refused(url, admin):
    fill(url).close()
    with pytest.raises(ConfigError, match=r"another key of mesh .*of k1, here: k2"):
        open_redis(url, keys=[("k2", b"another")])
    admin.delete(f"{prefix_of(url)}keys")
    for name in ("", "&router=other"):
        with pytest.raises(ConfigError, match=r"keys is gone, while .*put it back from"):
            open_redis(url + name)
        with pytest.raises(StoreError, match="keys is gone, while"):
            RedisReader(parse_address(url + name), "m", KEYS, 2.0)
    assert not admin.exists(f"{prefix_of(url)}keys")


def test_a_name_that_stands_for_no_router_is_refused(url, admin):
    store = fill(url)
    store.close()
    admin.hset(f"{prefix_of(url)}names", store.router_id, b"\x1b[31mevil\n")
    for look in (lambda: open_redis(url), lambda: RedisReader(parse_address(url), "m", KEYS, 2.0)):
        with pytest.raises(StoreDamaged, match=rf"names: what {store.router_id} stands for is no router's id") as error:
            look()
        assert "evil" not in str(error.value)


@pytest.mark.parametrize("instead", [None, {"k1": b"junk"}, b"a string"])
def test_a_running_router_puts_the_key_of_the_rows_back(url, admin, caplog, instead):
    store = fill(url)
    keys = f"{prefix_of(url)}keys"
    admin.delete(keys)
    if isinstance(instead, dict):
        admin.hset(keys, mapping=instead)
    elif instead is not None:
        admin.set(keys, instead)
    with pytest.raises((ConfigError, StoreDamaged)):
        open_redis(f"{url}&router=other")
    for _ in range(2):
        store.usage()
    assert caplog.text.count("is put back") == 1
    other = open_redis(f"{url}&router=other")
    assert other.outcomes(["x"]) == [outcome_of("x")], "both sign with one key"
    other.close()
    store.close()


def test_a_router_that_missed_a_rotation_lets_its_key_in_no_more(url, admin):
    store = fill(url)
    open_redis(f"{url}&router=other", keys=[("k2", b"another"), *KEYS]).close()
    open_redis(f"{url}&router=other", keys=[("k2", b"another")]).close()
    store.usage()
    assert admin.hkeys(f"{prefix_of(url)}keys") == [b"k2"]
    store.close()


def test_a_full_server_takes_the_key_of_the_rows_back_when_there_is_room(server: Server) -> None:
    store = open_redis(server.url)
    store.recover()
    server.admin.config_set("maxmemory", "1mb")
    server.admin.delete("taskmesh:{m}:keys")
    assert store.usage().free_bytes == 0
    server.admin.config_set("maxmemory", "0")
    store.usage()
    assert server.admin.hkeys("taskmesh:{m}:keys") == [b"k1"]
    store.close()


def test_a_new_mesh_key_takes_over_while_the_old_one_counts(url):
    fill(url).close()
    both = [("k2", b"another"), *KEYS]
    store = open_redis(url, keys=both)
    store.close()
    store = open_redis(url, keys=both[:1])
    assert seqs(store) == [1, 2]
    assert store.outcomes(["y"]) == [outcome_of("y", payload=BLOB)]
    store.close()
    with pytest.raises(ConfigError):
        open_redis(url)


def test_a_mesh_key_that_cannot_be_read_any_more_ends_no_router(url, caplog):
    store = fill(url)

    def gone() -> StoreKeys:
        raise ConfigError("the key is gone")

    store._keys = gone
    for _ in range(2):
        assert store.usage().batches == 2
    assert caplog.text.count("the key is gone") == 1
    store.close()


def test_a_running_router_lets_a_new_mesh_key_in(url):
    store = fill(url)
    store._keys = lambda: [("k2", b"another"), *KEYS]
    store.usage()
    store.close()
    open_redis(url, keys=[("k2", b"another")]).close()
