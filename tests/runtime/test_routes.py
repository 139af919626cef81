"""Which addresses are tried and which ways are kept: the time and the lots are given."""

from __future__ import annotations

import random

import pytest

from mesh.core.events import RouterForgotten
from mesh.model import Peer
from mesh.net.find import Found, Source
from mesh.runtime.routes import ANNOUNCED_MAX, LOOK_AGAIN_S, TRY_S, Routes, put_last

TTL_S, SILENCE_S = 60.0, 6.0
A, B = Peer(b"a"), Peer(b"b")


def found(*endpoints: str, router_id: str | None = None, source: Source = Source.ANNOUNCED) -> Found:
    return Found(endpoints, router_id, "a test", source)


@pytest.fixture
def routes() -> Routes:
    return Routes(TTL_S, SILENCE_S, "myself", lambda ways, count: list(ways[len(ways) - count :]))


def hear(routes: Routes, now: float, *those: Found) -> list[str]:
    """Open what is planned; where that is."""
    planned = routes.plan(those, now)
    for endpoint, one in planned:
        routes.open(endpoint, Peer(endpoint.encode()), one.source, now)
    return [endpoint for endpoint, _ in planned]


def meet(routes: Routes, endpoint: str, router: Peer, now: float) -> bool:
    connection = Peer(endpoint.encode())
    routes.go_up(connection, now)
    return routes.identify(connection, router.decode(), now) == router


def test_the_places_of_those_that_did_not_prove_themselves_are_given_by_lot(routes: Routes) -> None:
    many = [found(f"tcp://{number}:1") for number in range(ANNOUNCED_MAX + 3)]
    first = [one.endpoints[0] for one in many]
    assert hear(routes, 0.0, *many) == first[:ANNOUNCED_MAX]
    assert meet(routes, first[0], A, 1.0)
    assert hear(routes, TRY_S - 0.1, *many[:-2]) == [first[-3]], "by its proof one has left its place"
    assert hear(routes, TRY_S - 0.1, *many) == [], "the others have a while left"
    assert hear(routes, TRY_S, *many) == [first[-2], first[-1]]
    assert routes.take_closed() == [Peer(b"tcp://1:1"), Peer(b"tcp://2:1")] and routes.take_closed() == []
    assert routes.unproven == 2


@pytest.mark.parametrize("seed", range(3))
def test_the_same_lots_give_the_same_turns(seed: int) -> None:
    def turns() -> list[str]:
        routes = Routes(TTL_S, SILENCE_S, None, random.Random(seed).sample)
        hear(routes, 0.0, *[found(f"tcp://old-{number}:1") for number in range(ANNOUNCED_MAX)])
        return hear(routes, TRY_S, *[found(f"tcp://new-{number}:1") for number in range(2 * ANNOUNCED_MAX)])

    assert turns() == turns() and len(turns()) == ANNOUNCED_MAX


def test_a_router_does_not_keep_a_way_to_itself(routes: Routes) -> None:
    hear(routes, 0.0, found("tcp://a:1"))
    assert not meet(routes, "tcp://a:1", Peer(b"myself"), 0.0)
    assert routes.take_closed() == [Peer(b"tcp://a:1")] and routes.all() == []
    assert hear(routes, 1.0, found("tcp://a:1"), found("tcp://b:1", router_id="myself")) == []


def test_it_is_looked_again_for_what_is_away_and_for_where_nobody_answered(routes: Routes) -> None:
    hear(routes, 0.0, found("tcp://a:1", "tcp://b:1"))
    routes.end_look(0.0)
    assert not routes.begin_look(TTL_S - 0.1) and routes.begin_look(TTL_S)
    assert not routes.begin_look(TTL_S), "one look at a time"
    assert meet(routes, "tcp://a:1", A, TTL_S) and meet(routes, "tcp://b:1", B, TTL_S)
    routes.welcome(A)
    routes.welcome(B)
    routes.end_look(TTL_S)
    later = 100 * TTL_S
    assert not routes.begin_look(later), "all answer"
    assert routes.unwelcome(A, later) and not routes.unwelcome(A, later)
    assert not routes.begin_look(later) and routes.begin_look(later + LOOK_AGAIN_S)


def test_a_router_is_forgotten_after_its_time_only_and_for_another_only(routes: Routes) -> None:
    hear(routes, 0.0, found("tcp://a:1"))
    assert meet(routes, "tcp://a:1", A, 0.0)
    routes.welcome(A)
    route = routes.at(Peer(b"tcp://a:1"))
    assert route is not None and routes.go_down(route, 1.0) == A
    routes.unwelcome(A, 1.0)
    another, due = found("tcp://b:1"), 1.0 + TTL_S
    assert routes.forget_all_but([another], due - 0.1) == []
    assert routes.forget_all_but([], due) == []
    assert routes.forget_all_but([found("tcp://b:1", source=Source.MET)], due) == []
    assert routes.forget_all_but([found("tcp://c:1", router_id="a")], due) == []
    assert routes.forget_all_but([found("tcp://a:1")], due) == []
    assert routes.forget_all_but([another], due) == [RouterForgotten(A, "tcp://a:1")]
    assert routes.take_closed() == [Peer(b"tcp://a:1")]


def test_what_is_said_again_is_not_the_next_that_is_forgotten() -> None:
    known: dict[str, str] = {}
    for key in ("a", "b", "a", "c"):
        put_last(known, key, key.upper(), most=2)
    assert known == {"a": "A", "c": "C"}


def test_an_address_where_nobody_says_who_is_there_is_dialled_anew_again_and_again(routes: Routes) -> None:
    hear(routes, 0.0, found("tcp://a:1"), found("ipc://b"))
    for endpoint in ("tcp://a:1", "ipc://b"):
        routes.go_up(Peer(endpoint.encode()), 1.0)
    assert routes.take_stale(1.0 + SILENCE_S / 2) == []
    for times in (1, 2):
        now = 1.0 + times * SILENCE_S
        assert [route.endpoint for route in routes.take_stale(now)] == ["tcp://a:1"]
        assert routes.take_stale(now) == [], "not before it has had its time"
        routes.open("tcp://a:1", Peer(b"%d" % times), Source.NAMED, now)
        routes.go_up(Peer(b"%d" % times), now)
        assert len(routes.take_closed()) == 1, "nobody was met on the earlier one"
    assert routes.identify(Peer(b"2"), "a", now) == A
    assert routes.take_stale(now + SILENCE_S) == []


def test_an_address_that_cannot_be_dialled_anew_is_tried_on_as_it_is(routes: Routes) -> None:
    hear(routes, 0.0, found("tcp://a:1"))
    routes.go_up(Peer(b"tcp://a:1"), 0.0)
    assert len(routes.take_stale(SILENCE_S)) == 1
    assert routes.is_tried("tcp://a:1") and routes.identify(Peer(b"tcp://a:1"), "a", SILENCE_S) == A
