"""A router whose Redis lost what it had writes anew all that it has in memory, and tells nobody before that."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mesh.core.commands import AppendBatch, KeepFunctions, SaveMarks
from mesh.entries import Entry, Firing
from mesh.errors import StoreUnavailable
from mesh.messages import (
    Accepted,
    AskLease,
    Cancel,
    Declare,
    Deliver,
    Fire,
    Function,
    GetFunction,
    Outcomes,
    PutFunction,
    Settled,
    Watch,
)
from mesh.model import Ending, FunctionCode, TaskOptions
from mesh.runtime import rewriting
from mesh.runtime.adopting import Adopter
from mesh.schedules import Every, microseconds
from mesh.store.base import Recovered
from mesh.store.redis.store import RedisStore
from tests.core.make import C1, C2, W1, WALL, at, hello_client, hello_worker, settlement, submit
from tests.core.test_router_step import Process, decode, encode
from tests.redis_server import Server, open_redis

pytestmark = pytest.mark.processes

ONCE = TaskOptions("work", at_most_once=True)
CODE = FunctionCode("d1", "3.11", b"code")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path, "memory")
    yield server
    server.close()


@pytest.fixture
def router(server: Server) -> Process:
    """One that has something of each kind: finished, tried again, leased, waiting, periodic."""
    one = Process(store=open_redis(server.url))
    one.hear(C1, hello_client())
    one.hear(
        W1, hello_worker(window=3), Declare("app", 1.0, [Entry("e", Every(10.0), TaskOptions("work"))]), AskLease()
    )
    one.hear(C1, PutFunction(CODE), submit("a", "b", "c", "d"), submit("once", batch=2, options=ONCE))
    one.hear(W1, Settled(1, [settlement("a"), settlement("b", ending=Ending.RETRY)]))
    return one


def in_store(server: Server) -> tuple[Recovered, dict[int, list[str]]]:
    """What a router would begin with, and its unfinished tasks by batch."""
    store = open_redis(server.url, lock_s=0.1)
    found = store.recover()
    store.close()
    tasks = {b.seq: [spec.id for spec in decode(b.raw).tasks if spec.id not in b.settled] for b in found.batches}
    return found, tasks


def write_anew(one: Process) -> None:
    while one.store.set_back or one.step._rewriting is not None or one.step._waiting.records:  # type: ignore[attr-defined]
        one.do(wait=1.0)


@pytest.mark.parametrize("at_once", [1, 1_000_000])
def test_all_that_is_unfinished_is_there_again_and_nothing_else(
    server: Server, router: Process, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, at_once: int
) -> None:
    monkeypatch.setattr(rewriting, "BYTES_AT_ONCE", at_once)
    before = in_memory(router)
    server.admin.flushall()
    with pytest.raises(StoreUnavailable), caplog.at_level(logging.WARNING):
        router.store.usage()
    write_anew(router)
    assert in_memory(router) == before
    assert caplog.text.count("lost data: it has nothing") == 1 and "4 tasks, 1 entries" in caplog.text
    assert caplog.text.count("all that is unfinished is written anew") == 1
    router.store.close()
    found, tasks = in_store(server)
    assert tasks == {1: ["b", "c", "d"], 2: ["once"]}
    marks = {mark.id: (mark.attempt, mark.retries, mark.started) for mark in found.marks}
    assert marks == {"b": (1, 1, False), "once": (1, 0, True)}
    assert ([node.node_id for node in found.nodes], found.boot, found.next_seq) == (["worker"], 2, 3)
    assert ([entry.name for entry in found.entries], list(found.apps)) == (["e"], ["app"])
    assert [position.entry for position in found.positions] == ["e"]


def test_little_room_is_room_of_redis(router: Process) -> None:
    router.do(*router.step.look_at_room(10, 100))
    full = "10 bytes of the memory that Redis may use (maxmemory) are free, fewer than free_bytes_min = 100"
    assert router.machine.full == full
    router.store.close()


def in_memory(one: Process) -> list[object]:
    return [record for record in one.machine.contents() if not isinstance(record, (SaveMarks, KeepFunctions))]


def test_an_older_snapshot_brings_back_nothing_that_is_finished(server: Server, router: Process) -> None:
    server.admin.save()
    assert "Outcomes" in router.hear(W1, Settled(2, [settlement("c"), settlement("d")]))
    router.hear(C1, submit("late", batch=3))
    server.kill()
    server.start()
    router.do(wait=1.0)
    with pytest.raises(StoreUnavailable, match="lost data: it has commit"):
        router.store.usage()
    write_anew(router)
    assert router.store.outcomes(["a"]) and not router.store.outcomes(["c"])
    assert router.hear(C2, hello_client("other"), Watch(["c"]))[-1] == "Unknown", "it is gone, and nobody waits for it"
    router.store.close()
    _, tasks = in_store(server)
    assert tasks == {1: ["b"], 2: ["once"], 3: ["late"]}


def test_what_nobody_was_told_is_told_once_it_is_durable(server: Server, router: Process) -> None:
    server.admin.flushall()
    assert router.hear(C1, submit("new", batch=3)) == []
    assert router.hear(W1, Settled(2, [settlement("c")])) == []
    told: list[object] = []
    while "Outcomes" not in told:
        told += router.do(wait=1.0)
    assert (Accepted([3]) in [m for _, m in router.messages]) or [
        m for _, m in router.messages if isinstance(m, Outcomes) and m.accepted == [3]
    ]
    assert [o.id for o in router.store.outcomes(["c", "new"])] == ["c"]
    router.store.close()
    _, tasks = in_store(server)
    assert tasks == {1: ["b", "d"], 2: ["once"], 3: ["new"]}


def test_a_second_loss_in_the_middle_begins_it_again(
    server: Server, router: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewriting, "BYTES_AT_ONCE", 1)
    server.admin.flushall()
    router.hear(C1, submit("new", batch=3))
    for _ in range(4):
        router.do(wait=1.0)
    server.admin.flushall()
    router.hear(W1, Settled(2, [settlement("d")]))
    write_anew(router)
    router.store.close()
    found, tasks = in_store(server)
    assert tasks == {1: ["b", "c"], 2: ["once"], 3: ["new"]}
    assert [entry.name for entry in found.entries] == ["e"]


def test_what_happens_while_it_is_written_counts(
    server: Server, router: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewriting, "BYTES_AT_ONCE", 1)
    server.admin.flushall()
    router.hear(C1, submit("new", batch=3))
    while router.step._rewriting is None:
        router.do(wait=1.0)
    router.do(wait=1.0)
    router.hear(W1, Settled(2, [settlement("c")]))
    router.hear(C1, Cancel(["new"]))
    due_us = microseconds(WALL + 10)
    router.hear(W1, Fire(1, 1, [Firing("e", due_us, due_us)]))
    write_anew(router)
    positions = {p.entry: p.last_due_us for p in router.machine.periodic.firings.positions.values()}
    unfinished = {task.id for task in router.machine.table.tasks.values()}
    router.store.close()
    found, tasks = in_store(server)
    assert {task_id for ids in tasks.values() for task_id in ids} == unfinished
    assert {p.entry: p.last_due_us for p in found.positions} == positions
    assert not {"c", "new"} & unfinished


def test_a_shipped_function_that_is_gone_is_asked_for_again(server: Server, router: Process) -> None:
    assert router.machine.table.functions.kept
    server.admin.flushall()
    router.hear(C1, submit("new", batch=3))
    write_anew(router)
    assert not router.machine.table.functions.kept
    router.hear(W1, GetFunction("d1"))
    assert router.messages[-1] == (W1, Function("d1", None))
    router.hear(C1, PutFunction(CODE))
    assert router.store.function("d1") == CODE


def test_what_is_delivered_at_most_once_stays_marked(server: Server) -> None:
    one = Process(store=open_redis(server.url))
    one.hear(C1, hello_client())
    one.hear(W1, hello_worker(window=1))
    assert "Deliver" in one.hear(C1, submit("once", options=ONCE))
    server.admin.flushall()
    one.hear(C1, submit("new", batch=2))
    write_anew(one)
    one.store.close()
    found, _ = in_store(server)
    assert [(mark.id, mark.attempt, mark.started) for mark in found.marks] == [("once", 1, True)]
    assert any(isinstance(message, Deliver) for _, message in one.messages)


def test_what_was_being_adopted_is_kept_as_far_as_it_is_in_memory(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = open_redis(f"{server.url}?router=lost")
    lost.recover()
    lost.commit([AppendBatch(1, submit("x", "y"), None, WALL)])
    lost.close()
    one = Process(store=open_redis(server.url))
    store = one.store
    assert isinstance(store, RedisStore)
    adopter = Adopter(one.machine, store, decode=decode, encode=encode)
    move = store.move

    def too_late(*args: Any) -> None:
        server.admin.flushall()
        move(*args)

    monkeypatch.setattr(store, "move", too_late)
    while one.step._rewriting is None:
        one.seconds += 1.0
        one.do(*adopter.take(at(one.seconds)), *adopter.let_go_where_lost())
    write_anew(one)
    one.hear(W1, hello_worker(window=5))
    assert sorted(one.machine.table.tasks) == ["x", "y"] and not one.machine.table.limbo, "nothing waits for more of it"
    adopter.take(at(one.seconds + 10.0))
    store.close()
    _, tasks = in_store(server)
    assert tasks == {1: ["x", "y"]}
