"""What a router answers to the question why a task is not finished."""

from __future__ import annotations

import msgspec
import pytest

from mesh.core.events import PeerLost, StoreFilled
from mesh.core.story import COUNTED_MAX, STORIES_MAX
from mesh.messages import Cancel, Credit, PutFunction, Query, Reply, Settled
from mesh.model import Ending, FunctionCode, NodeInfo, Retrying, TaskOptions
from mesh.settings import Settings
from tests.core.make import C1, W1, W2, WALL, Driven, hello_client, hello_worker, sent, settlement, submit


@pytest.fixture
def mesh() -> Driven:
    driven = Driven(Settings(heartbeat_s=1_000.0))
    driven.hear(C1, hello_client())
    return driven


def stories(mesh: Driven, *ids: str) -> dict[str, str]:
    [reply] = sent(mesh.hear(C1, Query(7, "story", list(ids))), C1)
    assert isinstance(reply, Reply) and reply.request == 7
    found: dict[str, str] = msgspec.json.decode(reply.body)["stories"]
    return found


def story(mesh: Driven, task_id: str = "a") -> str:
    return stories(mesh, task_id)[task_id]


def test_a_task_of_a_mesh_without_workers_waits_for_one(mesh: Driven) -> None:
    mesh.hear(C1, submit("a"))
    assert story(mesh) == "it waits: no worker is connected (start one)"


def test_a_task_that_nobody_knows_says_how_to_start_a_worker_that_does(mesh: Driven) -> None:
    mesh.hear(W1, hello_worker(window=5))
    mesh.hear(C1, submit("a", options=TaskOptions("tasks.add")))
    assert story(mesh) == (
        "it waits: no worker of queue 'default' knows task 'tasks.add' "
        "(start one with -A and the module that defines it, or restart it, if the module has changed since)"
    )


def test_a_task_of_a_queue_that_nobody_serves_says_which(mesh: Driven) -> None:
    mesh.hear(W1, hello_worker(window=5))
    mesh.hear(C1, submit("a", options=TaskOptions("work", "images")))
    assert story(mesh) == "it waits: no worker serves queue 'images' (start one with -Q images)"


def test_a_shipped_function_says_which_python_it_needs(mesh: Driven) -> None:
    mesh.hear(W1, hello_worker(window=5))
    mesh.hear(C1, PutFunction(FunctionCode("digest", "3.12", b"code")))
    mesh.hear(C1, submit("a", options=TaskOptions("f", function="digest", python="3.12")))
    assert story(mesh) == (
        "it waits: no worker of queue 'default' has Python 3.12, which the shipped 'f' needs (start one with it)"
    )


def test_a_task_that_waits_for_its_time_says_when_that_is(mesh: Driven) -> None:
    mesh.hear(C1, submit("a", eta=WALL + 5.0))
    mesh.hear(C1, submit("b", batch=2, eta=WALL + 86_400.0))
    mesh.hear(C1, submit("c", batch=3, eta=1e12))
    assert story(mesh, "a") == "it waits for its time, 08:00:05 UTC, in 5 s"
    assert story(mesh, "b") == "it waits for its time, 2027-01-16 08:00:00 UTC, in 86,400 s"
    assert story(mesh, "c") == "it waits for its time, in 998,200,000,000 s"


def test_a_task_that_is_to_be_tried_again_says_so(mesh: Driven) -> None:
    mesh.hear(W1, hello_worker(window=5))
    mesh.hear(C1, submit("a"))
    mesh.hear(W1, Settled(1, [settlement("a", ending=Ending.RETRY, retry=Retrying(WALL + 180.0))]))
    assert story(mesh) == "it waits for its retry 1, 08:03:00 UTC, in 180 s"


def test_a_task_that_a_worker_has_names_the_worker_and_the_attempt(mesh: Driven) -> None:
    mesh.hear(W1, hello_worker("one", window=2))
    mesh.hear(C1, submit("a"))
    mesh.hear(W2, hello_worker("two", window=2))
    assert story(mesh) == "it runs on worker one (attempt 1)"
    mesh.hear(C1, submit("b", "c", batch=2))
    assert story(mesh, "c") == "it runs on worker two (attempt 1)"
    assert story(mesh, "a") == "worker one has it (attempt 1), with 1 more, for 1 executor"


def test_what_was_lost_with_a_task_is_told(mesh: Driven) -> None:
    mesh.hear(W1, hello_worker("one"))
    mesh.hear(C1, submit("a"))
    mesh.hear(W2, hello_worker("two"))
    mesh.do(PeerLost(W1))
    assert story(mesh) == "it runs on worker two (attempt 2); lost before: worker one: connection lost"
    mesh.hear(C1, Cancel(["a"]))
    assert story(mesh).endswith("; it is asked to end")


def test_a_task_that_waits_for_a_free_worker_counts_those_before_it(mesh: Driven) -> None:
    mesh.hear(W1, hello_worker(window=1, queues=("default", "other")))
    mesh.hear(C1, submit("running", "b", "c", "d"))
    mesh.hear(C1, submit("e", batch=2, options=TaskOptions("work", priority=3)))
    mesh.hear(C1, submit("f", batch=3, options=TaskOptions("work", "other")))
    mesh.hear(C1, submit("g", batch=4, options=TaskOptions("nobody", priority=9)))
    assert stories(mesh, "b", "d", "e", "f") == {
        "b": "it waits for a free worker (1 can run it); 1 task is before it",
        "d": "it waits for a free worker (1 can run it); 3 tasks are before it",
        "e": "it waits for a free worker (1 can run it); 0 tasks are before it",
        "f": "it waits for a free worker (1 can run it); 0 tasks are before it",
    }


def test_no_more_are_counted_than_is_cheap(mesh: Driven) -> None:
    mesh.hear(W1, hello_worker(window=0))
    mesh.hear(C1, submit(*(f"t{n}" for n in range(COUNTED_MAX + 2))))
    assert story(mesh, f"t{COUNTED_MAX + 1}").endswith(f"; more than {COUNTED_MAX:,} tasks are in its queue")


def test_a_full_store_that_starts_nothing_is_named(mesh: Driven) -> None:
    mesh.hear(W1, hello_worker(window=0))
    mesh.hear(C1, submit("a"))
    mesh.do(StoreFilled("the store is full: no room", halt=True))
    mesh.hear(W1, Credit(5))
    assert story(mesh) == (
        "it waits: the router starts nothing; nothing that ends is told meanwhile, and nothing started: "
        "the store is full: no room"
    )


def test_after_a_restart_a_task_waits_for_the_workers_that_may_run_it() -> None:
    mesh = Driven(Settings(heartbeat_s=1_000.0))
    mesh.machine.restore([(1, WALL - 60, submit("a"), set())], [], [NodeInfo("worker", "worker")])
    mesh.hear(C1, hello_client())
    assert story(mesh) == "the router was restarted and waits for its workers to say what they still run"


def test_of_what_is_not_there_nothing_is_told_and_no_more_is_answered_than_the_limit(mesh: Driven) -> None:
    ids = [f"t{n}" for n in range(STORIES_MAX + 5)]
    mesh.hear(C1, submit(*ids))
    assert stories(mesh, "nobody") == {}
    assert list(stories(mesh, *ids)) == ids[:STORIES_MAX]
