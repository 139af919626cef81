"""Who may fire: of the workers that would, one at a time."""

from __future__ import annotations

import pytest

from mesh.core.events import PeerLost
from mesh.messages import AskLease, Bye, Entries, Leased
from mesh.settings import Settings
from tests.core.make import C1, W1, W2, WALL, Driven, hello_client, hello_worker, sent
from tests.core.periodic import TTL, Periodic, declare, due, entry, one


def test_the_first_who_asks_leads_and_is_told_all_entries() -> None:
    mesh = Driven()
    mesh.hear(W1, hello_worker("one"))
    mesh.hear(W1, declare("app", 1.0, [entry()]))
    told = sent(mesh.hear(W1, AskLease(), wait=1.0), W1)
    leased, entries = one(told, Leased), one(told, Entries)
    assert (leased.ttl_s, leased.at, leased.holder) == (TTL, WALL + 1.0, "one")
    assert leased.term > 0 and (entries.term, entries.first, entries.gone) == (leased.term, True, [])
    assert [(e.name, after) for e, after in entries.entries] == [("e", due(0.0))]


def test_others_wait_and_the_next_is_told_when_the_leader_lets_go_leaves_or_is_lost() -> None:
    for end in (AskLease(keep=False), Bye(), None):
        mesh = Driven()
        mesh.hear(W1, hello_worker("one"))
        mesh.hear(W2, hello_worker("two"))
        first = one(sent(mesh.hear(W1, AskLease()), W1), Leased).term
        waits = one(sent(mesh.hear(W2, AskLease()), W2), Leased)
        assert (waits.term, waits.holder) == (0, "one")
        commands = mesh.do(PeerLost(W1)) if end is None else mesh.hear(W1, end)
        assert one(sent(commands, W2), Leased).term == first + 1


def test_a_silent_leader_is_one_until_its_time_is_over() -> None:
    mesh = Driven(Settings(heartbeat_s=20.0))
    mesh.hear(W1, hello_worker("one"))
    mesh.hear(W2, hello_worker("two"))
    mesh.hear(W1, AskLease())
    mesh.hear(W2, AskLease(), wait=5.0)
    mesh.hear(W2, AskLease(), wait=4.9)
    assert mesh.machine.periodic.lease.holder == W1
    assert mesh.machine.next_deadline() == pytest.approx(1_000.0 + TTL)
    assert one(sent(mesh.do(wait=0.1), W2), Leased).term


def test_a_leader_that_says_hello_anew_leads_no_more_for_it_knows_nothing() -> None:
    mesh = Periodic(entry())
    before = mesh.term
    mesh.hear(W1, hello_worker("one", window=0))
    assert mesh.machine.periodic.lease.holder is None
    told = sent(mesh.hear(W1, AskLease()), W1)
    assert one(told, Leased).term == before + 1 and one(told, Entries).first


def test_terms_grow_across_starts() -> None:
    first, second = Periodic(entry()), Periodic(entry(), boot=2)
    assert second.term > first.term + 1_000_000


def test_a_clients_key_leads_nothing() -> None:
    mesh = Driven()
    mesh.hear(C1, hello_client())
    mesh.hear(C1, AskLease())
    assert mesh.machine.periodic.lease.holder is None and mesh.machine.counters["refused"] == 1
