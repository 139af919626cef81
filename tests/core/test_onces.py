"""What is due only once goes by itself, some time after it was."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from mesh.core.events import GossipHeard
from mesh.entries import Entry, firing_id
from mesh.messages import AskLease, Entries, Gossip, Settled
from mesh.model import TaskOptions
from mesh.schedules import Once
from mesh.settings import Settings
from tests.core.make import W1, WALL, Driven, hello_worker, sent, settlement
from tests.core.periodic import Periodic, ask, due, one


def once(name: str = "o", seconds: float = 10.0, **fields: Any) -> Entry:
    return Entry(name, Once(WALL + seconds), TaskOptions("work"), **fields)


def once_fired(*code: Entry, done_s: float = 100.0) -> Periodic:
    """A mesh in which what is due once at 10 s was fired, and runs."""
    mesh = Periodic(*code, settings=Settings(heartbeat_s=1e6, schedule_lease_ttl_s=1e6, schedule_done_s=done_s))
    mesh.hear(W1, hello_worker("one", window=5))
    mesh.hear(W1, AskLease())
    ask(mesh, "add", entries=[once()])
    mesh.do(wait=10.0)
    mesh.fire(due(10.0), name="o")
    return mesh


def test_what_was_due_once_is_there_for_a_time_after_it_was_fired_and_then_goes() -> None:
    mesh = once_fired(once("code"))
    mesh.hear(W1, Settled(1, [settlement(firing_id("o", due(10.0)))]))
    mesh.do(wait=99.0)
    assert mesh.position("o").last_state == "succeeded"
    told = one(sent(mesh.do(wait=1.0), W1), Entries)
    assert set(mesh.machine.periodic.book.entries) == {"code"} and told.gone == ["o"]
    assert ask(mesh, "add", entries=[once(seconds=500.0)]) == {"done": ["o"]}


def test_what_was_due_once_does_not_go_while_its_task_runs() -> None:
    mesh = once_fired()
    mesh.do(wait=150.0)
    assert "o" in mesh.machine.periodic.book.entries
    mesh.hear(W1, Settled(1, [settlement(firing_id("o", due(10.0)))]))
    mesh.do(wait=100.0)
    assert not mesh.machine.periodic.book.entries


def test_what_was_due_once_goes_with_its_task_where_it_is_to_go_at_once() -> None:
    mesh = once_fired(done_s=0.0)
    mesh.do(wait=4_000.0)
    assert "o" in mesh.machine.periodic.book.entries
    mesh.hear(W1, Settled(1, [settlement(firing_id("o", due(10.0)))]))
    assert not mesh.machine.periodic.book.entries


def test_what_was_due_once_and_missed_goes_when_it_cannot_be_made_good_and_is_counted() -> None:
    mesh = Periodic(settings=Settings(heartbeat_s=1e6, schedule_done_s=100.0))
    ask(mesh, "add", entries=[once(catchup_window_s=1_000.0), once("held", paused=True)])
    mesh.do(wait=1_000.0)
    assert set(mesh.machine.periodic.book.entries) == {"o", "held"}
    mesh.do(wait=110.0)
    assert set(mesh.machine.periodic.book.entries) == {"held"} and mesh.machine.counters["firings_skipped"] == 1
    ask(mesh, "resume", "held")
    mesh.do(wait=1.0)
    assert not mesh.machine.periodic.book.entries


def test_what_is_due_once_goes_by_when_it_is_due_now_and_after_a_restart_too() -> None:
    mesh = once_fired()
    mesh.hear(W1, Settled(1, [settlement(firing_id("o", due(10.0)))]))
    ask(mesh, "update", entries=[once(seconds=300.0)])
    mesh.do(wait=200.0)
    assert "o" in mesh.machine.periodic.book.entries
    ask(mesh, "update", entries=[once(seconds=220.0)])
    again = Driven(Settings(schedule_done_s=100.0), boot=2)
    again.seconds = 215.0
    again.machine.restore(
        [], [], [], entries=mesh.machine.periodic.book.entries.values(), positions=[mesh.position("o")]
    )
    again.do()
    assert "o" in again.machine.periodic.book.entries
    again.do(wait=4_000.0)
    assert "o" not in again.machine.periodic.book.entries


def test_what_is_due_once_and_became_the_codes_by_another_routers_word_stays() -> None:
    mesh = Periodic(settings=Settings(heartbeat_s=1e6, schedule_done_s=100.0))
    ask(mesh, "add", entries=[once(catchup_window_s=1.0)])
    known = mesh.machine.periodic.book.entries["o"]
    mesh.do(GossipHeard("other", Gossip([replace(known, app="app", written_at=known.written_at + 5.0)])))
    mesh.do(wait=1_000.0)
    assert mesh.machine.periodic.book.entries["o"].app == "app"
