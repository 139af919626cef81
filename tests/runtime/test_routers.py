"""What people are told while there is no router: everything once, and nothing for ever."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from mesh.core.events import RouterForgotten
from mesh.errors import NoKey, Refused
from mesh.model import Peer
from mesh.net.arrivals import Arrivals, Problem, Trouble
from mesh.runtime.routers import NOTES_MAX, Routers
from mesh.settings import Settings
from tests.api.waiting import wait_until

ROUTER = Peer(b"r")
WRONG_KEY = Problem(Trouble.WRONG_KEY, "the router has another mesh key")


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


def no_key(endpoint: str) -> Peer:
    raise NoKey("no key of this mesh")


def routers(connect: Any = lambda endpoint: ROUTER) -> Routers:
    return Routers(Settings(), NoTransport(), connect, lambda: ((), "nothing"))


def test_a_wrong_key_is_said_once_however_often_it_is_tried_and_looked_for(said: list[str]) -> None:
    made = routers()
    for _ in range(20):
        made.complain(WRONG_KEY)
        made._on_found(["tcp://r"], "tcp://r")
        made.complain(Problem(Trouble.NO_ROUTER, "no router listens yet"))
    assert said == [WRONG_KEY.text, "no router listens yet"]
    assert WRONG_KEY.text in made.situation(), "what was said last is not all there is to say"
    with pytest.raises(Refused, match="another mesh key"):
        made.raise_if_hopeless()


def test_a_missing_key_is_said_once(said: list[str]) -> None:
    made = routers(no_key)
    for _ in range(20):
        made._on_found(["tcp://r"], "tcp://r")
        made.connect_to_found()
    assert said == ["no key of this mesh"]


def test_after_a_welcome_it_is_said_anew(said: list[str]) -> None:
    made = routers()
    made.complain(WRONG_KEY)
    made.welcome(ROUTER, ())
    made.complain(WRONG_KEY)
    assert said == [WRONG_KEY.text] * 2


def test_what_was_said_is_remembered_up_to_a_bound(said: list[str]) -> None:
    made = routers()
    texts = [f"no router listens at port {port} yet" for port in range(NOTES_MAX + 1)]
    for text in [*texts, texts[-1], texts[0]]:
        made.complain(Problem(Trouble.NO_ROUTER, text))
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


# routers that do not come back


OLD, NEW = Peer(b"ipc://old"), Peer(b"ipc://new")
AT_ONCE = 1e-9


class Looking:
    """Routers of a node that knew one at ipc://old, which is away; ``found`` is what a look finds."""

    def __init__(self, ttl_s: float) -> None:
        self.found: list[str] = []
        self.looks = threading.Semaphore(0)
        self.transport = NoTransport()
        self.connected: list[str] = []
        self.routers = Routers(Settings(router_ttl_s=ttl_s), self.transport, self.connect, self.find)
        self.hear("ipc://old")
        self.routers.welcome(OLD, ())
        self.routers.unwelcome(OLD)

    def connect(self, endpoint: str) -> Peer:
        self.connected.append(endpoint)
        return Peer(endpoint.encode())

    def find(self) -> tuple[list[str], str]:
        self.looks.release()
        return self.found, ""

    def hear(self, *endpoints: str) -> list[RouterForgotten]:
        self.routers._on_found(list(endpoints), "")
        return self.routers.connect_to_found()


def test_a_router_that_is_away_too_long_and_not_among_those_found_is_forgotten() -> None:
    looking = Looking(AT_ONCE)
    assert looking.hear("ipc://new") == [RouterForgotten(OLD, "ipc://old")]
    assert looking.transport.disconnected == [OLD]
    assert looking.hear("ipc://new") == [], "once"
    looking.hear("ipc://old")
    assert looking.connected == ["ipc://old", "ipc://new", "ipc://old"], "a stranger, should it come back"


def test_a_router_that_comes_back_in_time_is_the_same() -> None:
    looking = Looking(600.0)
    assert looking.hear("ipc://new") == []
    looking.routers.welcome(NEW, ())
    assert looking.transport.disconnected == [], "nobody looks for it now; the transport sees it"
    assert looking.hear("ipc://new", "ipc://old") == []
    assert looking.connected == ["ipc://old", "ipc://new"]


def test_a_router_is_not_forgotten_while_it_is_found_or_nobody_is_or_it_is_here() -> None:
    looking = Looking(AT_ONCE)
    assert looking.hear("ipc://old", "ipc://new") == []
    looking.routers.welcome(NEW, ())
    assert looking.routers.connect_to_found() == [], "it is looked, and nobody found"
    wait_until(lambda: looking.routers.has_news)
    assert looking.routers.connect_to_found() == []
    looking.routers.close()
    looking.routers.welcome(OLD, ())
    assert looking.hear("ipc://new") == []


def test_with_a_router_at_hand_it_is_looked_once_whether_another_is_gone_for_good() -> None:
    looking = Looking(AT_ONCE)
    looking.hear("ipc://old", "ipc://new")
    looking.routers.welcome(NEW, ())
    looking.found = ["ipc://new"]
    forgotten: list[RouterForgotten] = []
    wait_until(lambda: forgotten.extend(looking.routers.connect_to_found()) or forgotten)
    looking.routers.close()
    assert forgotten == [RouterForgotten(OLD, "ipc://old")]
    assert looking.looks.acquire(blocking=False)
