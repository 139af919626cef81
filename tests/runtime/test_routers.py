"""What people are told while there is no router: everything once, and nothing for ever."""

from __future__ import annotations

import logging
import os
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mesh.clock import Now
from mesh.core.events import RouterForgotten
from mesh.errors import NoKey, Refused, Unavailable
from mesh.model import Peer, Role
from mesh.net.arrivals import Arrivals, Problem, Trouble
from mesh.net.dealer_transport import DealerTransport
from mesh.net.find import Found, Search, Source
from mesh.net.keys import key_path, new_key, save
from mesh.runtime.dialing import Dialer
from mesh.runtime.prospects import NOTES_ANNOUNCED_MAX, NOTES_MAX
from mesh.runtime.routers import Routers
from mesh.runtime.routes import ANNOUNCED_MAX, LOOK_AGAIN_S, ROUTES_MAX, TRY_S, Known
from mesh.settings import Settings
from tests.api.waiting import wait_until

ROUTER = Peer(b"r")
WRONG_KEY = Problem(Trouble.WRONG_KEY, "the router has another mesh key", ROUTER)


class ManualClock:
    """Stands still but where the test moves it."""

    def __init__(self) -> None:
        self.mono = 1000.0

    def now(self) -> Now:
        return Now(1e9 + self.mono, self.mono)


class NoTransport:
    def __init__(self) -> None:
        self.disconnected: list[Peer] = []

    def send(self, peer: Peer, frames: Sequence[Any]) -> bool:
        return True

    def receive(self, timeout_s: float | None) -> Arrivals:
        return Arrivals()

    def disconnect(self, peer: Peer) -> None:
        self.disconnected.append(peer)

    def wake(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What is logged, however others have configured logging."""
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    log, handler = logging.getLogger("mesh.connection"), Handler()
    level = log.level
    log.addHandler(handler)
    log.setLevel("INFO")
    yield lines
    log.removeHandler(handler)
    log.setLevel(level)


class Nothing:
    """Finds nothing; every address leads to one connection, or with ``error`` to none."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def find(self) -> Search:
        return Search([], "nothing")

    def rest(self) -> None:
        pass

    def connect(self, endpoint: str) -> Peer:
        if self._error is not None:
            raise self._error
        return ROUTER

    def remember(self, router_id: str, endpoints: Sequence[str]) -> None:
        pass


def routers(error: Exception | None = None) -> Routers:
    return Routers(Settings(), NoTransport(), Nothing(error), ManualClock())


def look(*endpoints: str, router_id: str | None = None) -> Search:
    """What a look finds: one router, at these addresses."""
    return Search([Found(endpoints, router_id, "a test")] if endpoints else [], "a test")


def test_a_wrong_key_is_said_once_however_often_it_is_tried_and_looked_for(said: list[str]) -> None:
    made = routers()
    made._on_found(look("tcp://r"))
    made.connect_to_found()
    for _ in range(20):
        made.prospects.complain(WRONG_KEY)
        made._on_found(look("tcp://r"))
        made.prospects.complain(Problem(Trouble.NO_ROUTER, "no router listens yet"))
    assert said == [WRONG_KEY.text, "no router listens yet"]
    assert WRONG_KEY.text in made.prospects.situation(), "what was said last is not all there is to say"
    with pytest.raises(Refused, match="another mesh key"):
        made.prospects.raise_if_hopeless()


def test_a_missing_key_is_said_once(said: list[str]) -> None:
    made = routers(NoKey("no key of this mesh"))
    for _ in range(20):
        made._on_found(look("tcp://r"))
        made.connect_to_found()
    assert said == ["no key of this mesh"]


def test_after_a_welcome_it_is_said_anew(said: list[str]) -> None:
    made = routers()
    made.prospects.complain(WRONG_KEY)
    made.welcome(ROUTER, ())
    made.prospects.complain(WRONG_KEY)
    assert said == [WRONG_KEY.text] * 2


def test_what_was_said_is_remembered_up_to_a_bound(said: list[str]) -> None:
    made = routers()
    texts = [f"no router listens at port {port} yet" for port in range(NOTES_MAX + 1)]
    for text in [*texts, texts[-1], texts[0]]:
        made.prospects.complain(Problem(Trouble.NO_ROUTER, text))
    assert said == [*texts, texts[0]], "the oldest is forgotten first"


def test_a_connection_that_is_lost_is_said_and_one_that_is_left_is_not(said: list[str]) -> None:
    made = routers()
    made.welcome(ROUTER, ())
    made.unwelcome(ROUTER)
    assert (made.welcomed, said) == (False, [])
    made.welcome(ROUTER, ())
    made.lose(ROUTER)
    made.close()
    assert (made.welcomed, len(said)) == (False, 1)


def test_which_router_was_lost_is_said(said: list[str]) -> None:
    looking = old_is_away()
    looking.routers.close()
    assert said == ["the connection to a router was lost; connecting again by itself (router r-old at ipc://old)"]


# ways to routers


OLD, NEW = Peer(b"r-old"), Peer(b"r-new")
TTL_S, TIMEOUT_S = 600.0, 10.0


class Looking:
    """Routers of a node, and who answers at each address."""

    def __init__(self) -> None:
        self.there: dict[str, Peer] = {}
        self.finds = look()
        self.looks = threading.Semaphore(0)
        self.transport = NoTransport()
        self.connected: list[str] = []
        self.remembered: dict[str, list[str]] = {}
        self.clock = ManualClock()
        settings = Settings(router_ttl_s=TTL_S, connect_timeout_s=TIMEOUT_S)
        choose = random.Random(1).sample
        self.routers = Routers(settings, self.transport, self, self.clock, choose=choose)

    def connect(self, endpoint: str) -> Peer:
        """A second connection to an address is named with a +."""
        name = endpoint + "+" * (self.connected.count(endpoint) - self.closed.count(endpoint))
        self.connected.append(endpoint)
        return Peer(name.encode())

    def find(self) -> Search:
        self.looks.release()
        return self.finds

    def rest(self) -> None:
        pass

    def remember(self, router_id: str, endpoints: Sequence[str]) -> None:
        self.remembered[router_id] = list(endpoints)

    def hear(
        self, *endpoints: str, router_id: str | None = None, source: Source = Source.NAMED
    ) -> list[RouterForgotten]:
        search = look(*endpoints, router_id=router_id)
        self.routers._on_found(Search([replace(found, source=source) for found in search.found], search.tried))
        return self.routers.connect_to_found()

    def look_on(self) -> list[RouterForgotten]:
        """It is time to look again; what is forgotten for what is found."""
        assert self.routers.connect_to_found() == []
        wait_until(lambda: self.routers.has_news)
        return self.routers.connect_to_found()

    def meet(self, endpoint: str, router: Peer) -> bool:
        """A connection is made to ``endpoint``, and ``router`` says who it is; whether it is the way to it now."""
        connection = Peer(endpoint.encode())
        self.routers.go_up(connection)
        met = self.routers.identify(connection, router.decode())
        assert met in (router, None)
        return met is not None

    def lose(self, endpoint: str) -> Peer | None:
        return self.routers.go_down(Peer(endpoint.encode()))

    @property
    def closed(self) -> list[str]:
        return [peer.decode() for peer in self.transport.disconnected]


def old_is_away(for_s: float = 0.0) -> Looking:
    """A node that knew one router, which is away."""
    looking = Looking()
    looking.hear("ipc://old")
    assert looking.meet("ipc://old", OLD)
    looking.routers.welcome(OLD, ())
    assert looking.lose("ipc://old") == OLD
    looking.clock.mono += for_s
    return looking


def test_all_addresses_of_a_router_are_tried_and_the_first_that_answers_is_kept() -> None:
    looking = Looking()
    looking.hear("tcp://a:1", "tcp://b:1", "tcp://c:1")
    assert looking.connected == ["tcp://a:1", "tcp://b:1", "tcp://c:1"]
    assert looking.meet("tcp://b:1", OLD)
    assert not looking.meet("tcp://c:1", OLD), "one router is not greeted at two addresses"
    assert looking.closed == ["tcp://c:1"]
    looking.routers.welcome(OLD, ())
    assert looking.remembered == {OLD.decode(): ["tcp://b:1"]}
    looking.hear("tcp://c:1")
    looking.hear("tcp://d:1", router_id=OLD.decode())
    assert looking.connected[3:] == [], "there is a way to it"


def test_routers_that_run_here_or_are_named_are_known_before_they_answer_and_strangers_are_not() -> None:
    looking = Looking()
    looking.hear("tcp://named:1")
    looking.hear("ipc://old", "tcp://127.0.0.1:1", router_id="r-old", source=Source.HERE)
    looking.hear("tcp://anybody:1", router_id="r-odd", source=Source.ANNOUNCED)
    looking.hear("tcp://gone:1", router_id="r-met", source=Source.MET)
    looking.routers.hear_of(["tcp://second-address:1"])
    looking.routers.connect_to_found()
    named, here = Known(None, "tcp://named:1", True, False), Known("r-old", "tcp://127.0.0.1:1", False, False)
    assert looking.routers.known() == [named, here]
    looking.meet("tcp://anybody:1", NEW)
    looking.meet("ipc://old", OLD)
    looking.routers.welcome(OLD, ())
    welcome, new = here._replace(is_welcome=True), Known("r-new", "tcp://anybody:1", False, False)
    assert looking.routers.known() == [new, welcome, named]
    looking.meet("tcp://named:1", OLD)
    assert looking.routers.known() == [new, welcome], "a second address is no second router"
    looking.lose("ipc://old")
    assert looking.routers.known() == [new, here], "it is away"


def test_a_router_of_this_user_on_this_host_has_one_way() -> None:
    looking = Looking()
    looking.hear("ipc://old", "tcp://127.0.0.1:1")
    assert looking.connected == ["ipc://old"]


def test_a_router_that_moved_is_the_same_at_its_new_address() -> None:
    looking = old_is_away()
    looking.hear("tcp://new:1", router_id=OLD.decode())
    assert looking.meet("tcp://new:1", OLD)
    assert looking.closed == ["ipc://old"], "nobody knocks there any more"
    assert looking.lose("tcp://new:1") == OLD
    looking.hear("ipc://old")
    assert looking.connected == ["ipc://old", "tcp://new:1", "ipc://old"], "while it is away, all its addresses count"


def silent_at(endpoint: str) -> Looking:
    """A node whose router says nothing, on a connection that is not lost."""
    looking = Looking()
    looking.hear(endpoint)
    assert looking.meet(endpoint, OLD)
    looking.routers.welcome(OLD, ())
    looking.routers.lose(OLD, "it was silent")
    assert looking.routers.doubt(OLD) == Peer(endpoint.encode()), "to be asked whether it hangs only"
    return looking


def test_a_silent_router_is_looked_for_elsewhere_although_its_connection_is_not_lost() -> None:
    looking = silent_at("tcp://old:1")
    looking.hear("tcp://new:1", router_id=OLD.decode())
    assert looking.connected == ["tcp://old:1", "tcp://old:1", "tcp://new:1"]
    assert looking.meet("tcp://new:1", OLD)
    assert looking.closed == ["tcp://old:1", "tcp://old:1+"]


def test_a_silent_router_is_dialled_anew_and_the_connection_that_answers_is_kept() -> None:
    looking = silent_at("tcp://old:1")
    assert looking.connected == ["tcp://old:1"] * 2
    assert looking.meet("tcp://old:1+", OLD)
    assert looking.closed == ["tcp://old:1"]
    looking.hear("tcp://old:1")
    assert len(looking.connected) == 2, "there is a way to it"
    assert looking.lose("tcp://old:1+") == OLD


def test_a_router_that_only_hung_is_kept_on_its_connection() -> None:
    looking = silent_at("tcp://old:1")
    assert looking.routers.identify(Peer(b"tcp://old:1"), OLD.decode()) == OLD
    assert looking.closed == ["tcp://old:1+"]
    assert looking.lose("tcp://old:1") == OLD
    looking.hear("tcp://old:1")
    assert len(looking.connected) == 2, "it comes back by itself"


def test_a_silent_connection_that_is_lost_leaves_its_place_to_the_one_beside_it() -> None:
    looking = silent_at("tcp://old:1")
    assert looking.lose("tcp://old:1") is None
    assert looking.closed == ["tcp://old:1"]
    route = looking.routers.route_of(OLD)
    assert route is not None and route.peer == Peer(b"tcp://old:1+")
    assert looking.meet("tcp://old:1+", NEW), "another router is there by now"
    assert looking.routers.route_of(OLD) is None


def test_a_silent_router_on_this_host_can_only_hang() -> None:
    assert silent_at("ipc://old").connected == ["ipc://old"]


def test_another_router_at_an_address_is_another() -> None:
    looking = old_is_away(TTL_S)
    assert looking.meet("ipc://old", NEW)
    assert looking.routers.router_at(Peer(b"ipc://old")) == NEW
    assert looking.routers.route_of(OLD) is None
    assert looking.hear("ipc://old") == [RouterForgotten(OLD, "")]
    assert looking.lose("ipc://old") == NEW


def test_two_addresses_of_a_router_may_be_given_without_its_id() -> None:
    looking = Looking()
    looking.hear("tcp://name:1")
    looking.hear("tcp://10.0.0.1:1")
    assert looking.meet("tcp://name:1", OLD)
    assert not looking.meet("tcp://10.0.0.1:1", OLD)
    looking.routers.welcome(OLD, ["tcp://10.0.0.1:1", "tcp://10.0.0.2:1"])
    looking.routers.connect_to_found()
    assert looking.connected == ["tcp://name:1", "tcp://10.0.0.1:1", "tcp://10.0.0.2:1"], "it is known who is there"


@pytest.mark.parametrize(
    ("at", "followed"),
    [
        ("ipc://old", ["ipc://new", "tcp://10.0.0.2:1"]),
        ("tcp://127.0.0.1:1", ["tcp://127.0.0.1:2", "tcp://10.0.0.2:1"]),
        ("tcp://10.0.0.1:1", ["tcp://10.0.0.2:1"]),
    ],
)
def test_an_address_of_the_routers_host_is_followed_by_who_is_there(at: str, followed: list[str]) -> None:
    looking = Looking()
    looking.hear(at)
    looking.meet(at, OLD)
    looking.routers.welcome(OLD, ["ipc://new", "tcp://127.0.0.1:2", "tcp://10.0.0.2:1"])
    looking.routers.connect_to_found()
    assert looking.connected == [at, *followed]


def test_only_so_many_addresses_are_tried(said: list[str]) -> None:
    looking = Looking()
    looking.hear(*[f"tcp://{number}:1" for number in range(ROUTES_MAX + 2)])
    assert len(looking.connected) == ROUTES_MAX
    assert len(said) == 1, "however many there are"


def test_however_many_are_announced_all_are_tried_in_turn_and_few_at_a_time(said: list[str]) -> None:
    looking = Looking()
    false = [f"tcp://{number}:1" for number in range(3 * ANNOUNCED_MAX)]
    looking.hear(*false, "tcp://real:1", source=Source.ANNOUNCED)
    assert looking.connected == false[:ANNOUNCED_MAX], "those that come first"
    looking.hear(*false, "tcp://real:1", source=Source.ANNOUNCED)
    assert looking.closed == [], "each has a while to answer"
    while "tcp://real:1" not in looking.connected:
        looking.clock.mono += TRY_S
        looking.hear(*false, "tcp://real:1", source=Source.ANNOUNCED)
        assert len(looking.connected) - len(looking.closed) == ANNOUNCED_MAX
    assert len(said) == 1
    assert "did not answer with the key of this mesh" in said[0]
    assert looking.meet("tcp://real:1", OLD)
    for _ in range(10):
        looking.clock.mono += TRY_S
        looking.hear(*false, source=Source.ANNOUNCED)
    assert looking.routers.router_at(Peer(b"tcp://real:1")) == OLD, "who has proved itself stays"
    assert looking.lose("tcp://real:1") == OLD
    for _ in range(10):
        looking.clock.mono += TRY_S
        looking.hear(*false, source=Source.ANNOUNCED)
    assert "tcp://real:1" not in looking.closed, "also while it is away"


def test_while_some_that_are_announced_wait_for_their_turn_there_is_hope(said: list[str]) -> None:
    looking = Looking()
    false = [f"tcp://{number}:1" for number in range(ANNOUNCED_MAX)]
    prospects = looking.routers.prospects
    half = TIMEOUT_S / 2
    looking.hear(*false, "tcp://real:1", source=Source.ANNOUNCED)
    for endpoint in false:
        prospects.complain(Problem(Trouble.NO_ROUTER, f"nobody at {endpoint}", Peer(endpoint.encode())))
    looking.clock.mono += half
    prospects.raise_if_hopeless()
    looking.clock.mono += half
    with pytest.raises(Unavailable):
        prospects.raise_if_hopeless()


def test_who_announces_ever_new_addresses_does_not_fill_the_log(said: list[str]) -> None:
    looking = Looking()
    announced = [f"tcp://{number}:1" for number in range(ANNOUNCED_MAX)]
    looking.hear(*announced, source=Source.ANNOUNCED)
    for endpoint in announced:
        looking.routers.prospects.complain(Problem(Trouble.NO_ROUTER, f"nobody at {endpoint}", Peer(endpoint.encode())))
    assert len(said) == NOTES_ANNOUNCED_MAX
    assert announced[-1] in looking.routers.prospects.situation()


def test_what_is_announced_takes_no_room_from_what_is_named_or_told(said: list[str]) -> None:
    looking = Looking()
    looking.hear(*[f"tcp://{number}:1" for number in range(2 * ROUTES_MAX)], source=Source.ANNOUNCED)
    looking.hear("tcp://named:1")
    assert looking.connected[-1] == "tcp://named:1"


def test_a_router_with_many_addresses_keeps_none_of_another_waiting() -> None:
    looking = Looking()
    many = Found(tuple(f"tcp://{number}:1" for number in range(2 * ANNOUNCED_MAX)), "f0", "a test", Source.ANNOUNCED)
    other = Found(("tcp://real:1",), "f1", "a test", Source.ANNOUNCED)
    looking.routers._on_found(Search([many, other], "a test"))
    looking.routers.connect_to_found()
    assert looking.connected[:2] == ["tcp://0:1", "tcp://real:1"]


def test_one_address_is_tried_once_however_many_routers_are_said_to_be_there(said: list[str]) -> None:
    many = [Found(("tcp://a:1",), f"f{number}", "a test", Source.ANNOUNCED) for number in range(3)]
    named = Found(("tcp://a:1",), None, "named", Source.NAMED)
    for found in (many, [*many, named], [named, *many]):
        looking = Looking()
        looking.routers._on_found(Search(found, "a test"))
        looking.routers.connect_to_found()
        assert looking.connected == ["tcp://a:1"]
        assert [known.is_named for known in looking.routers.known()] == [True] * (named in found)
        looking.clock.mono += TTL_S
        looking.hear("tcp://new:1")
        assert looking.closed == ["tcp://a:1"]


def test_a_wrong_key_at_one_of_several_addresses_is_no_end(said: list[str]) -> None:
    looking = Looking()
    looking.hear("tcp://stranger:1", "tcp://ours:1")
    stranger = Problem(Trouble.WRONG_KEY, "another mesh key", Peer(b"tcp://stranger:1"))
    for _ in range(3):
        looking.routers.prospects.complain(stranger)
    looking.routers.prospects.raise_if_hopeless()
    for _ in range(2):
        looking.routers.prospects.complain(stranger._replace(peer=Peer(b"tcp://ours:1")))
    with pytest.raises(Refused):
        looking.routers.prospects.raise_if_hopeless()


def test_a_wrong_key_where_anybody_may_be_is_no_refusal(said: list[str]) -> None:
    for source in (Source.MET, Source.ANNOUNCED):
        looking = Looking()
        looking.hear("tcp://stranger:1", source=source)
        for _ in range(3):
            looking.routers.prospects.complain(
                Problem(Trouble.WRONG_KEY, "another mesh key", Peer(b"tcp://stranger:1"))
            )
        looking.routers.prospects.raise_if_hopeless()
        assert "another mesh key" in looking.routers.prospects.situation()


def test_having_been_met_once_does_not_keep_a_router_from_being_forgotten() -> None:
    looking = old_is_away(TTL_S)
    assert looking.hear("ipc://old", source=Source.MET) == [], "nobody else is found"
    assert looking.hear("ipc://new") == [RouterForgotten(OLD, "ipc://old")]
    looking.hear("ipc://old", source=Source.MET)
    assert looking.connected[-1] == "ipc://old", "it may be back"


def test_where_nobody_is_left_who_may_answer_it_is_said_in_half_the_time() -> None:
    def waits_s(*shut: str) -> float:
        looking = Looking()
        looking.hear("tcp://a:1", "tcp://b:1")
        for endpoint in shut:
            problem = Problem(Trouble.NO_ROUTER, f"nobody at {endpoint}", Peer(endpoint.encode()))
            looking.routers.prospects.complain(problem)
        began = looking.clock.mono
        with pytest.raises(Unavailable, match="no router answered"):
            while True:
                looking.routers.prospects.raise_if_hopeless()
                looking.clock.mono += TIMEOUT_S / 4
        return looking.clock.mono - began

    assert waits_s("tcp://a:1") == TIMEOUT_S, "somebody may answer"
    assert waits_s("tcp://a:1", "tcp://b:1") == TIMEOUT_S / 2, "nobody is left"


# routers that do not come back


def test_a_router_that_is_away_too_long_and_not_among_those_found_is_forgotten() -> None:
    looking = old_is_away(TTL_S)
    assert looking.hear("ipc://new") == [RouterForgotten(OLD, "ipc://old")]
    assert looking.closed == ["ipc://old"]
    assert looking.hear("ipc://new") == [], "once"
    looking.hear("ipc://old")
    assert looking.connected == ["ipc://old", "ipc://new", "ipc://old"], "a stranger, should it come back"


def test_an_address_where_nobody_ever_answers_is_given_up_too() -> None:
    looking = Looking()
    looking.hear("tcp://nobody:1")
    looking.clock.mono += TTL_S
    looking.hear("tcp://nobody:1", "tcp://new:1")
    assert looking.closed == []
    looking.hear("tcp://new:1")
    assert looking.closed == ["tcp://nobody:1"]


def test_addresses_where_nobody_answers_are_given_up_also_while_another_router_serves() -> None:
    looking = Looking()
    looking.hear("tcp://here:1", "tcp://nobody:1")
    assert looking.meet("tcp://here:1", NEW)
    looking.finds = look("tcp://here:1")
    looking.clock.mono += TTL_S / 2
    looking.routers.welcome(NEW, ["tcp://nobody:2"])
    looking.look_on()
    assert looking.closed == []
    looking.clock.mono += TTL_S
    looking.look_on()
    assert looking.closed == ["tcp://nobody:1", "tcp://nobody:2"]
    looking.routers.close()


def test_a_router_that_comes_back_in_time_is_the_same() -> None:
    looking = old_is_away()
    assert looking.hear("ipc://new") == []
    assert looking.meet("ipc://new", NEW)
    looking.routers.welcome(NEW, ())
    assert looking.closed == [], "nobody looks for it now; the transport sees it"
    assert looking.hear("ipc://new", "ipc://old") == []
    assert looking.connected == ["ipc://old", "ipc://new"]


def test_a_router_is_not_forgotten_while_it_is_found_or_nobody_is_or_it_is_here() -> None:
    looking = old_is_away(TTL_S)
    assert looking.hear("ipc://old", "ipc://new") == []
    assert looking.meet("ipc://new", NEW)
    looking.routers.welcome(NEW, ())
    looking.clock.mono += LOOK_AGAIN_S
    assert looking.look_on() == [], "it is looked, and nobody found"
    looking.routers.close()
    assert looking.meet("ipc://old", OLD)
    looking.routers.welcome(OLD, ())
    assert looking.hear("ipc://new") == []


def test_with_a_router_at_hand_it_is_looked_once_whether_another_is_gone_for_good() -> None:
    looking = old_is_away(TTL_S)
    looking.hear("ipc://old", "ipc://new")
    assert looking.meet("ipc://new", NEW)
    looking.routers.welcome(NEW, ())
    looking.finds = look("ipc://new")
    looking.clock.mono += LOOK_AGAIN_S
    assert looking.look_on() == [RouterForgotten(OLD, "ipc://old")]
    looking.routers.close()
    assert looking.looks.acquire(blocking=False)


def test_that_nobody_is_where_a_router_was_met_some_time_ago_is_no_news(said: list[str]) -> None:
    looking = Looking()
    looking.hear("tcp://old:1", source=Source.MET)
    looking.routers.prospects.complain(Problem(Trouble.NO_ROUTER, "nobody is there", Peer(b"tcp://old:1")))
    assert said == []
    assert looking.meet("tcp://old:1", OLD)
    looking.lose("tcp://old:1")
    looking.routers.prospects.complain(Problem(Trouble.NO_ROUTER, "nobody is there", Peer(b"tcp://old:1")))
    assert said == ["nobody is there"]


def test_of_an_address_that_says_nothing_it_is_not_asked_whether_a_mesh_is_up() -> None:
    for source in (Source.NAMED, Source.ANNOUNCED):
        looking = Looking()
        looking.hear("tcp://h:1", source=source)
        said = looking.routers.prospects.situation()
        assert "tcp://h:1 answers nothing" in said and "`mesh doctor` looks" in said and "up` running?" not in said
        looking.routers.prospects.complain(Problem(Trouble.NO_ROUTER, "nobody is there", Peer(b"tcp://h:1")))
        assert looking.routers.prospects.situation().endswith("Is `mesh up` running?")


def test_who_lost_its_router_says_how_long_ago_and_not_how_old_it_is() -> None:
    looking = Looking()
    looking.hear("tcp://h:1")
    assert looking.meet("tcp://h:1", OLD)
    looking.routers.welcome(OLD, ())
    looking.clock.mono += 77.5
    looking.lose("tcp://h:1")
    looking.clock.mono += 5.0
    assert "was lost (mesh 'default', 5.0 s ago)" in looking.routers.prospects.situation()


def test_who_was_started_beside_its_router_is_not_asked_whether_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("MESH_RUNTIME_DIR", str(tmp_path / "run"))
    transport = DealerTransport(outbox_bytes_max=1)
    try:
        unfit = Dialer(transport, "t", Role.WORKER, advice="it waits.").find().unfit
    finally:
        transport.close()
    assert str(unfit) == "no router of mesh 't' runs on this machine: it waits."
    made = Routers(Settings(), NoTransport(), Nothing(), ManualClock(), advice="It waits.")
    assert made.prospects.situation().endswith(". It waits.")


def test_that_no_router_has_a_name_that_is_known_is_no_matter_of_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    save(key_path("t", os.environ), new_key())

    def second_look(*routers: str) -> Search:
        transport = DealerTransport(outbox_bytes_max=1)
        try:
            dialer = Dialer(transport, "t", Role.WORKER, routers)
            dialer.find()
            return dialer.find()
        finally:
            transport.close()

    unknown = "name not known: tcp://no..such.host:6374 ("
    assert second_look("no..such.host:6374").mistaken.startswith(unknown)
    both = second_look("no..such.host:6374", "127.0.0.1:1")
    assert unknown in both.tried and both.mistaken == ""


def test_that_another_mesh_of_the_name_is_there_is_said_in_place_of_asking_whether_ours_runs() -> None:
    class Mistaken(Nothing):
        def find(self) -> Search:
            return Search([], "nothing", mistaken="a mesh named 'default' is announced")

    found = Routers(Settings(), NoTransport(), Mistaken(), ManualClock())
    found.start()
    try:
        wait_until(lambda: found.prospects.is_unfit)
        assert found.prospects.situation().endswith("Tried: nothing. But a mesh named 'default' is announced")
    finally:
        found.close()
