"""What a router's log says of who takes part, who leads, and of its store."""

from __future__ import annotations

from mesh.core.events import PeerLost, StoreFilled, StoreFreed
from mesh.core.status import STORE_AWAY
from mesh.messages import AskLease
from nodes.router_news import RouterNews
from tests.core.make import W1, W2, Driven, hello_worker


def test_who_comes_leads_and_goes_is_said_once() -> None:
    mesh = Driven()
    news = RouterNews(mesh.machine)
    mesh.hear(W1, hello_worker("a"), AskLease())
    said = "worker a leads (term 1.1): it says what periodic tasks are due"
    assert [one.text for one in news.look(0.0)] == ["worker a takes part; 1 worker", said]
    mesh.hear(W2, hello_worker("b"), AskLease())
    assert [one.text for one in news.look(1.0)] == ["worker b takes part; 2 workers"]
    mesh.do(PeerLost(W1))
    assert [(one.text, one.is_wrong) for one in news.look(2.0)] == [
        ("worker a takes part no more; 1 worker", False),
        ("worker a leads no more (term 1.1)", False),
        ("worker b leads (term 1.2): it says what periodic tasks are due", False),
    ]
    assert not list(news.look(3.0))


def test_a_store_that_is_full_is_said_when_it_fills_and_when_it_has_room() -> None:
    mesh = Driven()
    news = RouterNews(mesh.machine)
    mesh.do(StoreFilled("the store is full: OOM", halt=False))
    assert [one.text for one in news.look(5.0)] == ["nothing new is accepted: the store is full: OOM"]
    mesh.do(StoreFilled(f"{STORE_AWAY}: gone", halt=True), wait=2.0)
    assert not list(news.look(7.0)), "that is said where the store is looked at"
    mesh.do(StoreFreed())
    assert [one.text for one in news.look(12.5)] == [
        "the store has room again, what is new is accepted: it had none for 7.5 s"
    ]
    assert not list(news.look(13.0))
