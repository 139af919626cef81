"""Talks to one router: is let in, measures the way there, and asks how it is. Each wait has a bound."""

from __future__ import annotations

import json
import platform
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from statistics import median
from typing import Any, TypeVar

from msgspec import ValidationError, convert

from mesh.core.links import OUTSIDE, NodeLinks
from mesh.core.status import StoreStatus
from mesh.errors import MeshError, ProtocolError
from mesh.messages import Bye, Hello, Identify, Identity, Message, Query, Refuse, Reply, Welcome
from mesh.model import Peer, Role
from mesh.net.arrivals import Problem, Trouble
from mesh.net.dealer_transport import DealerTransport
from mesh.net.endpoints import is_tcp
from mesh.net.find import Found
from mesh.net.keys import AnyKey, MeshKey
from mesh.wire.codec import decode_from_router, encode
from nodes.doctor.facts import (
    AddressFacts,
    Greeting,
    HostFacts,
    Reach,
    RouterFacts,
    StatusFacts,
    StoreFacts,
    WorkerFacts,
)
from nodes.doctor.reach import reach, resolve

RESOLVE_S = 1.0
REACH_S = 1.5
GREET_S = 2.0
ANSWER_S = 1.0  # for what is small
FILL_S = 1.0  # for all that is large
ADDRESSES_MAX = 8  # of one router
ROUND_TRIPS = 21
PADDING_BYTES, PADDINGS = 256 << 10, 16  # 4 MiB

M = TypeVar("M", bound=Message)

_GREETINGS = {
    Trouble.WRONG_KEY: Greeting.WRONG_KEY,
    Trouble.DENIED: Greeting.DENIED,
    Trouble.NO_COMMON_SECURITY: Greeting.WRONG_KEY,
    Trouble.GREETING: Greeting.NO_ROUTER,
}


def talk(found: Found, key: AnyKey | None, host: HostFacts) -> RouterFacts:
    """All that is to be known of one router."""
    talker = _Talker(key, host)
    try:
        addresses = resolve([AddressFacts(endpoint) for endpoint in found.endpoints[:ADDRESSES_MAX]], RESOLVE_S)
        addresses = talker.greet(addresses)
        # Who connects and says nothing is a stranger to a router: only where it is not known otherwise.
        addresses = reach(addresses, REACH_S)
        facts = RouterFacts(found.how, found.source, tuple(addresses), found.router_id)
        used = next((a.endpoint for a in addresses if a.greeting is Greeting.DONE), None)
        return facts if used is None else talker.measure(replace(facts, used=used))
    finally:
        talker.close()


class _Talker:
    def __init__(self, key: AnyKey | None, host: HostFacts) -> None:
        self._key = key
        self._role = Role.CLIENT if key is None or isinstance(key, MeshKey) else key.role
        self._host = host
        self._transport = DealerTransport(outbox_bytes_max=2 * PADDINGS * PADDING_BYTES)
        self._links = NodeLinks()
        self._peers: dict[str, Peer] = {}
        self._inbox: list[tuple[Peer, Message]] = []
        self._problems: list[Problem] = []
        self._broken = ""  # what cannot be read

    def greet(self, addresses: Sequence[AddressFacts]) -> list[AddressFacts]:
        """Be let in at each address that is one."""
        greeted = [self._begin(address) for address in addresses]
        deadline = time.monotonic() + GREET_S
        while not all(self._is_decided(address) for address in greeted) and (left := deadline - time.monotonic()) > 0:
            self._receive(left)
        return [self._greeted(address) for address in greeted]

    def measure(self, facts: RouterFacts) -> RouterFacts:
        """Round trips and bandwidth, then what the router says of itself."""
        peer = self._peers[facts.used]
        trips = self._round_trips(peer)
        facts = replace(facts, round_trips_s=tuple(trips))
        if not trips:
            return replace(facts, refused=self._broken)
        sent, took = self._fill(peer, median(trips))
        facts = replace(facts, sent_bytes=sent, sent_in_s=took)
        return facts if self._role is not Role.CLIENT else self._ask(facts, peer)

    def close(self) -> None:
        self._transport.close(0.1)

    def _begin(self, address: AddressFacts) -> AddressFacts:
        if address.reach is not None:
            return address
        try:
            self._peers[address.endpoint] = self._transport.connect(address.endpoint, self._key, self._role)
        except MeshError as error:
            return replace(address, problem=str(error))
        return address

    def _is_decided(self, address: AddressFacts) -> bool:
        peer = self._peers.get(address.endpoint)
        return peer is None or self._transport.is_connected(peer) or self._problem_of(peer) is not None

    def _greeted(self, address: AddressFacts) -> AddressFacts:
        peer = self._peers.get(address.endpoint)
        if peer is None:
            return address
        is_open = Reach.OPEN if is_tcp(address.endpoint) else None
        if self._transport.is_connected(peer):
            return replace(address, reach=is_open, greeting=Greeting.DONE)
        problem = self._problem_of(peer)
        if problem is None:
            return address
        return replace(address, reach=is_open, greeting=_GREETINGS[problem.kind], problem=problem.text)

    def _problem_of(self, peer: Peer) -> Problem | None:
        return next((p for p in self._problems if p.peer == peer and p.kind in _GREETINGS), None)

    def _round_trips(self, peer: Peer) -> list[float]:
        trips: list[float] = []
        deadline = time.monotonic() + ANSWER_S
        while len(trips) < ROUND_TRIPS and (left := deadline - time.monotonic()) > 0:
            began = time.perf_counter()
            if not self._send_outside(peer, b"") or self._wait(peer, Identity, left) is None:
                break
            trips.append(time.perf_counter() - began)
        return trips

    def _fill(self, peer: Peer, round_trip_s: float) -> tuple[int, float]:
        """How many bytes have arrived there in how many seconds."""
        padding = secrets.token_bytes(PADDING_BYTES)  # what a clever link makes no shorter
        began = last = time.perf_counter()
        sent = sum(self._send_outside(peer, padding) for _ in range(PADDINGS))
        told = 0
        while told < sent and (left := began + FILL_S - time.perf_counter()) > 0:
            if self._wait(peer, Identity, left) is None:
                break
            told += 1
            last = time.perf_counter()
        return told * PADDING_BYTES, max(last - began - round_trip_s, 1e-6)

    def _ask(self, facts: RouterFacts, peer: Peer) -> RouterFacts:
        host = self._host
        name = f"doctor@{host.name}"
        self._send(peer, Hello(Role.CLIENT, secrets.token_hex(8), name, host.python, host.version))
        answer = self._wait(peer, Message, ANSWER_S, lambda m: isinstance(m, Welcome | Refuse))
        if not isinstance(answer, Welcome):
            return replace(facts, refused=answer.reason if isinstance(answer, Refuse) else self._broken)
        began, wall = time.perf_counter(), time.time()
        self._send(peer, Query(1, "status"))
        reply = self._wait(peer, Reply, ANSWER_S)
        took = time.perf_counter() - began
        self._send(peer, Bye("it has seen enough"))
        status = None if reply is None else _status(reply.body, wall + took / 2, took / 2)
        return replace(facts, router_id=answer.router_id, status=status, told=tuple(answer.routers))

    def _send_outside(self, peer: Peer, padding: bytes) -> bool:
        return self._transport.send(peer, encode(Identify(padding), 0, OUTSIDE))

    def _send(self, peer: Peer, message: Message) -> None:
        stamp = self._links.stamp(peer, message)
        if stamp is not None:
            self._transport.send(peer, encode(message, *stamp))

    def _wait(
        self, peer: Peer, kind: type[M], within_s: float, wanted: Callable[[Message], bool] = lambda message: True
    ) -> M | None:
        """The next message of a kind from ``peer``; others are forgotten."""
        deadline = time.monotonic() + within_s
        while True:
            while self._inbox:
                sender, message = self._inbox.pop(0)
                if sender == peer and isinstance(message, kind) and wanted(message):
                    return message
            left = deadline - time.monotonic()
            if left <= 0 or self._broken:
                return None
            self._receive(left)

    def _receive(self, within_s: float) -> None:
        arrivals = self._transport.receive(within_s)
        self._problems += arrivals.problems
        for peer, frames, _ in arrivals.messages:
            try:
                incoming = decode_from_router(frames)
            except ProtocolError as error:
                self._broken = str(error)
                continue
            message = incoming.message
            if not isinstance(message, Identity):
                event = self._links.take(peer, incoming.session, incoming.number, message)
                if event is None:
                    continue
                message = event.message
            self._inbox.append((peer, message))


def _status(body: bytes, at: float, error_s: float) -> StatusFacts | None:
    """What a router said when it was ``at`` here; None for what cannot be understood: it is of another version."""
    with suppress(ValueError, KeyError, TypeError, ValidationError):
        said: dict[str, Any] = json.loads(body)
        router = said["router"]
        store = convert(router.get("store", {}), StoreStatus)  # an older router says less
        return StatusFacts(
            name=router["name"],
            version=router["version"],
            store=StoreFacts(
                router["durability"],
                router["store_full"],
                store.free_bytes,
                store.free_bytes_min,
                store.given_up,
            ),
            ahead_s=router["at"] - at,
            ahead_error_s=error_s,
            workers=tuple(WorkerFacts(w["name"], w["version"], w["python"]) for w in said["workers"]),
        )
    return None


def this_host(version: str, protocol: int) -> HostFacts:
    """This side of all comparisons."""
    return HostFacts(platform.node(), version, platform.python_version(), protocol)
