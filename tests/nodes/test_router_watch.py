"""How many routers answer a machine that watches, on a transport and a clock that the test moves."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest

from mesh.clock import Now
from mesh.core.links import OUTSIDE
from mesh.core.replenishing import SETTLE_S, SPREAD_S, Replenishing
from mesh.messages import Identify, Identity
from mesh.model import Buffer, Peer
from mesh.net.arrivals import Arrivals
from mesh.net.find import Found, Search, Source
from mesh.runtime.routes import ANNOUNCED_MAX
from mesh.settings import Settings
from mesh.wire.codec import decode_from_node, encode
from nodes.router_watch import ASK_S, SILENT_S, RouterWatch

PATIENCE_S = 10.0  # of the test, for the thread that looks for routers


class Lan:
    """Routers by address; the transport that leads to them, how they are found, and the clock of who watches."""

    def __init__(self) -> None:
        self.routers: dict[str, str] = {}
        self.mute: set[str] = set()
        self.connected: dict[Peer, str] = {}  # where each connection leads
        self._made = 0
        self._now = 1000.0
        self._arrivals = Arrivals()
        self._found = threading.Condition()
        self._looked, self._seen = 0, 0  # how many there were at the last look, and when one was reported

    # the clock

    def now(self) -> Now:
        return Now(1e9 + self._now, self._now)

    # how routers are found, on the finder's thread

    def find(self) -> Search:
        self._looked = len(self.routers)
        found = [Found((endpoint,), f"id of {endpoint}", "a test", Source.ANNOUNCED) for endpoint in list(self.routers)]
        return Search(found, "a test")

    def rest(self) -> None:
        pass

    def remember(self, router_id: str, endpoints: Sequence[str]) -> None:
        pass

    def connect(self, endpoint: str) -> Peer:
        self._made += 1
        peer = Peer(f"{self._made}:{endpoint}".encode())
        self.connected[peer] = endpoint
        self._arrivals.connected.append(peer)
        return peer

    # the transport

    def wake(self) -> None:
        with self._found:
            self._seen = self._looked
            self._found.notify()

    def receive(self, timeout_s: float | None) -> Arrivals:
        """What came; if nothing did, the time passes at once, once all that is there was found."""
        arrivals, self._arrivals = self._arrivals, Arrivals()
        if arrivals == Arrivals():
            with self._found:
                assert self._found.wait_for(lambda: self._seen >= len(self.routers), PATIENCE_S)
            self._now += timeout_s or 0.0
        return arrivals

    def send(self, peer: Peer, frames: Sequence[Buffer]) -> bool:
        assert peer in self.connected, "nobody is asked for ever at an address that was given up"
        endpoint = self.connected[peer]
        assert isinstance(decode_from_node(frames).message, Identify)
        if endpoint not in self.mute:
            answer = encode(Identity(self.routers[endpoint]), 0, OUTSIDE)
            self._arrivals.messages.append((peer, list(answer), None))
        return True

    def disconnect(self, peer: Peer) -> None:
        del self.connected[peer]

    def close(self, linger_s: float = 0.0) -> None:
        pass


@pytest.fixture
def lan() -> Lan:
    return Lan()


@pytest.fixture
def watch(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> Iterator[RouterWatch]:
    monkeypatch.setattr("nodes.router_watch.SEARCH_S", 0.001)
    watch = RouterWatch(Settings(), lan, lan, Replenishing(1, "0" * 16), lan)
    yield watch
    watch.close()


def count_within(lan: Lan, watch: RouterWatch, within_s: float, enough: int) -> int:
    """How many routers answer, as soon as they are ``enough``, else after ``within_s`` seconds."""
    watch.start()
    deadline = lan.now().mono + within_s
    while watch.reached < enough and (left_s := deadline - lan.now().mono) > 0:
        watch.turn(min(left_s, ASK_S))
    return watch.reached


def test_a_router_that_is_silent_counts_no_more_until_it_answers_again(lan: Lan, watch: RouterWatch) -> None:
    lan.routers = {"tcp://a:1": "a", "tcp://b:1": "b"}
    assert count_within(lan, watch, 5.0, 2) == 2
    lan.mute = {"tcp://b:1"}
    assert count_within(lan, watch, SILENT_S + 1.0, 3) == 1
    lan.mute.clear()
    assert count_within(lan, watch, 1.0, 2) == 2


def test_routers_that_were_silent_take_no_room_from_one_that_is_new(lan: Lan, watch: RouterWatch) -> None:
    lan.routers = {f"tcp://{number}:1": str(number) for number in range(ANNOUNCED_MAX)}
    assert count_within(lan, watch, 5.0, ANNOUNCED_MAX) == ANNOUNCED_MAX
    lan.mute = set(lan.routers)
    assert count_within(lan, watch, SILENT_S + 1.0, 1 + ANNOUNCED_MAX) == 0
    lan.mute = set()
    assert count_within(lan, watch, 1.0, ANNOUNCED_MAX) == ANNOUNCED_MAX
    lan.routers["tcp://new:1"] = "new"
    assert count_within(lan, watch, 5.0, 1 + ANNOUNCED_MAX) == 1 + ANNOUNCED_MAX


def test_a_second_address_of_a_router_counts_no_second_time(lan: Lan, watch: RouterWatch) -> None:
    lan.routers = {"tcp://a:1": "a", "tcp://a:2": "a"}
    assert count_within(lan, watch, SILENT_S + 1.0, 2) == 1


def test_a_router_is_started_once_where_none_answers_for_a_while(lan: Lan, watch: RouterWatch) -> None:
    started = threading.Event()
    began = lan.now().mono
    watch.run_in_background(started.set)
    assert started.wait(PATIENCE_S)
    assert SETTLE_S <= lan.now().mono - began <= SETTLE_S + SPREAD_S
