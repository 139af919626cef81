"""Which routers a node looks for, is connected to and was welcomed by; and what to tell people when there is none."""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Sequence
from math import inf
from typing import NamedTuple, TypeVar

from mesh.core.events import RouterForgotten
from mesh.errors import ConfigError, MeshError, Refused, Unavailable
from mesh.model import Peer
from mesh.net.arrivals import Problem, Trouble
from mesh.net.find import Found, Search, Source, in_turns
from mesh.runtime.channels import Transport
from mesh.runtime.dialing import Dialing
from mesh.runtime.finding import PAUSE_S, Finder
from mesh.settings import Settings, command_of

POLL_S = 0.25  # how often a waiting thread looks whether there is still hope of a router
LOOK_AGAIN_S = 10.0  # a router that is away may be at another address by now
NOTES_MAX = 100  # problems that are remembered as said
NOTES_ANNOUNCED_MAX = 10  # after so many, those with announced addresses are not logged
ROUTES_MAX = 256  # addresses that are tried at a time
ANNOUNCED_MAX = 64  # of them, those that anybody on the LAN may have made up: more take turns
TRY_S = 3.0  # that one of those has to prove itself, where others wait
COMPLAIN_S = 60.0  # between two lines about those that did not
MET_MAX = 1_024  # addresses whose routers are remembered, and routers whose addresses are

log = logging.getLogger("mesh.connection")

V = TypeVar("V")


class Route:
    """A way to a router: one address and the connection to it. ``router``: who answered there, None: nobody yet."""

    __slots__ = ("endpoint", "is_up", "misfits", "peer", "problem", "router", "since", "source")

    def __init__(self, endpoint: str, peer: Peer, source: Source, now: float) -> None:
        self.endpoint = endpoint
        self.peer = peer
        self.source = source
        self.router: Peer | None = None
        self.is_up = False
        self.problem = ""  # nobody listens there, or nobody who lets us in
        self.since = now  # monotonic: it was opened, or went up or down
        self.misfits = 0  # greetings in a row that failed for the key


class Known(NamedTuple):
    """A router that a node was served by, or should be; ``id`` is None where nobody has said who is there.

    ``endpoint``: where it is, over TCP where it is said to be: that is short, and means something elsewhere.
    """

    id: str | None
    endpoint: str
    is_named: bool  # by whoever started this node
    is_welcome: bool  # this node is, there and now


class Routers:
    """``dialing``: how routers are looked for, on a thread of its own, and connected to.

    A router may have several addresses, and be found at others later. All are tried together; who is there says its
    id, and the first route to a router is the only one that is kept. Machines know a router by that id, so for them
    one that moved is the same. One with a store has the same id in each of its lives; one without has another. So a
    router that is away is remembered for ``router_ttl_s``, and longer while it is found, or nobody else is.
    """

    def __init__(
        self,
        settings: Settings,
        transport: Transport,
        dialing: Dialing,
        *,
        myself: str | None = None,
        search_s: float | None = None,
    ) -> None:
        """``myself``: the id of a router that looks for others. ``search_s``: look on, so often, when one is found."""
        self._settings = settings
        self._transport = transport
        self._dialing = dialing
        self._myself = Peer(myself.encode()) if myself is not None else None
        self._goes_on = search_s is not None
        self._finder = Finder(dialing.find, self._on_found, search_s or PAUSE_S, dialing.rest)
        self._news: deque[tuple[Sequence[Found], bool]] = deque()  # what was found; whether it is all there is
        self._routes: dict[Peer, Route] = {}  # by connection
        self._by_endpoint: dict[str, Route] = {}
        self._said: dict[str, Sequence[str]] = {}  # by router id: the addresses it was last found at
        self._met: dict[str, Peer] = {}  # who was last met at an address, the oldest first
        self._serving: dict[Peer, Route | None] = {}  # by router; None: it has none since another is at its address
        self._welcomed: set[Peer] = set()
        self._away: dict[Peer, float] = {}  # routers: since when; the others are welcomed
        self._look_at = inf  # when to look whether one that is away is still to be found
        self._looking = False
        self.unproven = 0
        """How many announced addresses did not prove themselves, and were given up for others."""
        self._unproven_said = 0
        self._complain_at = 0.0
        self._tried = "Still looking"
        self._noted: dict[str, None] = {}  # problems that were logged since the last welcome, oldest first
        self._started = self._lonely_since = time.monotonic()
        self._ever_welcomed = False
        self._refused: str | None = None
        self._unfit: ConfigError | None = None

    # on any thread

    @property
    def welcomed(self) -> bool:
        """Whether some router has welcomed us and was not lost since."""
        return bool(self._welcomed)

    @property
    def lonely_s(self) -> float:
        """For how long no router has welcomed us; 0 while one does."""
        return 0.0 if self._welcomed else time.monotonic() - self._lonely_since

    @property
    def has_news(self) -> bool:
        return bool(self._news)

    def known(self) -> list[Known]:
        """All routers that have said who they are, and those that are named or run here and have not said it yet.

        What others announced or told of is left out until it has proved itself: it may be a second address, or nobody.
        """
        known = {
            router.decode(): self._known(router.decode(), route, router in self._welcomed)
            for router, route in list(self._serving.items())
            if route is not None
        }
        said = {endpoint: router_id for router_id, endpoints in list(self._said.items()) for endpoint in endpoints}
        for route in list(self._routes.values()):
            if route.router is None and route.source in (Source.NAMED, Source.HERE):
                met = self._met.get(route.endpoint)
                router_id = said.get(route.endpoint) if met is None else met.decode()
                known.setdefault(router_id or route.endpoint, self._known(router_id, route, False))
        return list(known.values())

    def _known(self, router_id: str | None, route: Route, is_welcome: bool) -> Known:
        tcp = [endpoint for endpoint in self._said.get(router_id or "", ()) if endpoint.startswith("tcp://")]
        endpoint = tcp[0] if tcp and route.endpoint.startswith("ipc://") else route.endpoint
        return Known(router_id, endpoint, route.source is Source.NAMED, is_welcome)

    def patience(self, deadline: float | None) -> float:
        """Seconds a thread may wait in one go for something that a router must do; -1 for as long as it takes."""
        remaining = -1.0 if deadline is None else max(0.0, deadline - time.monotonic())
        if self._welcomed:
            return remaining
        return POLL_S if remaining < 0 else min(POLL_S, remaining)

    def raise_if_hopeless(self) -> None:
        """Raise ``Refused`` when a router did, ``Unavailable`` when none was ever found in ``connect_timeout_s``.

        In half of that where there is no address left that may still answer; that is ``ConfigError``, ``NoKey`` where
        it is for the key.
        """
        if self._welcomed:
            return
        if self._refused is not None:
            raise Refused(self._refused)
        if self._ever_welcomed:
            return
        is_shut = all(route.problem for route in list(self._routes.values()))
        if time.monotonic() - self._started >= self._settings.connect_timeout_s / (2 if is_shut else 1):
            raise self._unfit_now() or Unavailable(self.situation())

    def _unfit_now(self) -> ConfigError | None:
        """What keeps us from all routers, whatever else there is; a new one, for each who waits raises his own."""
        unfit = self._unfit
        return None if unfit is None else type(unfit)(str(unfit))

    def situation(self) -> str:
        """Whether there is a router, and what was tried to find one; for people."""
        if self._welcomed:
            return f"connected to {len(self._welcomed)} router{'s' * (len(self._welcomed) > 1)}"
        if self._refused is not None:
            return f"the router refused this node: {self._refused}"
        if self._unfit is not None:
            return str(self._unfit)
        what = "the connection to the router was lost" if self._ever_welcomed else "no router answered"
        waited = time.monotonic() - self._started
        mesh = self._settings.mesh
        named = [r.problem for r in list(self._routes.values()) if r.source is Source.NAMED and r.problem]
        tried = ". ".join(dict.fromkeys([self._tried, *named]))
        return f"{what} (mesh {mesh!r}, after {waited:.1f} s). {tried}. Is `{command_of(mesh)} up` running?"

    @property
    def is_unfit(self) -> bool:
        """Whether nothing that is found, or may be, can be used."""
        return self._unfit is not None and not self._welcomed

    def _on_found(self, search: Search) -> None:
        """On the finder's thread: tell the loop."""
        self._unfit = search.unfit
        if not self._welcomed:
            self._tried = f"Tried: {search.tried}"
        if search.found or self._looking:
            self._news.append((search.found, True))
            self._transport.wake()

    # on the connection's thread

    def start(self) -> None:
        """Begin to look for routers."""
        self._finder.start()

    def close(self) -> None:
        """Look no more."""
        self._finder.close()

    def connect_to_found(self) -> list[RouterForgotten]:
        """Connect to what was found since; the routers that are forgotten."""
        forgotten: list[RouterForgotten] = []
        while self._news:
            found, complete = self._news.popleft()
            if complete:
                self._looking = False
                forgotten += self._forget_all_but(found)
            self._open_all(found)
            if complete:
                self._end_look()
        if not self._looking and time.monotonic() >= self._look_at:
            self._looking = True
            self._finder.start()
        return forgotten

    def _end_look(self) -> None:
        """What is away, and what nobody has answered at, is looked for again: it may be to be forgotten then."""
        in_doubt = self._away or any(not route.is_up for route in self._routes.values())
        pause_s = min(LOOK_AGAIN_S, self._settings.router_ttl_s) if self._away else self._settings.router_ttl_s
        self._look_at = time.monotonic() + pause_s if in_doubt else inf
        self._pause_finder()

    def _pause_finder(self) -> None:
        if self._welcomed and not self._goes_on:
            self._finder.pause()

    def _open_all(self, found: Sequence[Found]) -> None:
        ways = []
        for one in found:
            here = [endpoint for endpoint in one.endpoints if endpoint.startswith("ipc://")]
            ways.append([(endpoint, one) for endpoint in here or one.endpoints])  # on this host no other way is as good
            if one.router_id is not None:
                put_last(self._said, one.router_id, one.endpoints, MET_MAX)
        new = [
            (endpoint, one)
            for endpoint, one in in_turns(ways)
            if endpoint not in self._by_endpoint and not self._is_reached(one, endpoint)
        ]
        for endpoint, one in new:
            if one.source is not Source.ANNOUNCED and endpoint not in self._by_endpoint:
                self._open(endpoint, one)
        announced = {endpoint: one for endpoint, one in reversed(new) if endpoint not in self._by_endpoint}
        self._try_announced([*reversed(announced.items())])

    def _try_announced(self, new: Sequence[tuple[str, Found]]) -> None:
        """Open what there is room for; for the rest, draw lots for the places of those that have not proved themselves.

        By lot, because who announces without end must not be able to say whose turn it is.
        """
        unproven = [r for r in self._routes.values() if r.source is Source.ANNOUNCED and not r.is_up]
        room = max(0, ANNOUNCED_MAX - len(unproven))
        for endpoint, one in new[:room]:
            self._open(endpoint, one)
        waiting = new[room:]
        long_ago, kept = time.monotonic() - TRY_S, list(self._serving.values())
        late = [route for route in unproven if route.since <= long_ago and route not in kept][: len(waiting)]
        for route, (endpoint, one) in zip(late, random.sample(waiting, len(late)), strict=True):
            self._close(route)
            self._open(endpoint, one)
        self._complain_of_unproven(len(late))

    def _complain_of_unproven(self, more: int) -> None:
        self.unproven += more
        now = time.monotonic()
        if self.unproven > self._unproven_said and now >= self._complain_at:
            self._complain_at = now + COMPLAIN_S
            log.warning(
                "%d addresses that are announced on the LAN did not answer with the key of this mesh within %g s; they "
                "take turns, %d at a time",
                self.unproven - self._unproven_said,
                TRY_S,
                ANNOUNCED_MAX,
            )
            self._unproven_said = self.unproven

    def _is_reached(self, found: Found, endpoint: str) -> bool:
        """Whether there is a route to the router that is said to be there, or was there last."""
        router = Peer(found.router_id.encode()) if found.router_id is not None else self._met.get(endpoint)
        if router is not None and router == self._myself:
            return True
        route = self._serving.get(router) if router is not None else None
        return route is not None and route.router == router

    def _open(self, endpoint: str, found: Found) -> None:
        if len(self._routes) >= ROUTES_MAX:
            self.note(f"addresses are left out: {ROUTES_MAX} addresses of routers are being tried already")
            return
        try:
            peer = self._dialing.connect(endpoint)
        except MeshError as error:  # no key: somebody may type `mesh join` while we wait
            self.note(str(error))
        else:
            self._routes[peer] = self._by_endpoint[endpoint] = Route(endpoint, peer, found.source, time.monotonic())
            self._look_at = min(self._look_at, time.monotonic() + self._settings.router_ttl_s)

    def _close(self, route: Route) -> None:
        del self._routes[route.peer], self._by_endpoint[route.endpoint]
        self._transport.disconnect(route.peer)

    def _miss(self, router: Peer) -> None:
        now = time.monotonic()
        self._away[router] = now
        self._look_at = min(self._look_at, now + min(LOOK_AGAIN_S, self._settings.router_ttl_s))

    def _forget_all_but(self, found: Sequence[Found]) -> list[RouterForgotten]:
        """Routers come back at other addresses: do not knock at the old ones for ever."""
        forgotten: list[RouterForgotten] = []
        found = [one for one in found if one.source is not Source.MET]  # that says nothing of today
        if not found:
            return forgotten
        endpoints = {endpoint for one in found for endpoint in one.endpoints}
        ids = {Peer(one.router_id.encode()) for one in found if one.router_id is not None}
        long_ago = time.monotonic() - self._settings.router_ttl_s
        for router, since in list(self._away.items()):
            route = self._serving.get(router)
            if since > long_ago or router in ids or (route is not None and route.endpoint in endpoints):
                continue
            self._serving.pop(router, None)
            del self._away[router]
            if route is not None:
                self._close(route)
            forgotten.append(RouterForgotten(router, route.endpoint if route is not None else ""))
        for route in [route for route in self._routes.values() if route not in self._serving.values()]:
            if not route.is_up and route.since <= long_ago and route.endpoint not in endpoints:
                self._close(route)
        return forgotten

    # routes

    @property
    def reached(self) -> int:
        """How many routers have said who they are, on connections that are up."""
        return sum(1 for route in self._routes.values() if route.router is not None)

    def connections(self) -> list[Peer]:
        """Those that are up."""
        return [route.peer for route in self._routes.values() if route.is_up]

    def router_at(self, peer: Peer) -> Peer | None:
        """The router at the other end of a connection; None where it has not said who it is."""
        route = self._routes.get(peer)
        return None if route is None else route.router

    def route_of(self, router: Peer) -> Route | None:
        """The way to a router."""
        return self._serving.get(router)

    def go_up(self, peer: Peer) -> None:
        """A connection is made: who is there is to be asked, for it may be another than before."""
        route = self._routes.get(peer)
        if route is not None:
            route.is_up, route.since, route.misfits, route.router = True, time.monotonic(), 0, None
            route.problem = ""

    def go_down(self, peer: Peer) -> Peer | None:
        """A connection is lost; the router that is lost with it."""
        route = self._routes.get(peer)
        if route is None:
            return None
        router, route.router = route.router, None
        route.is_up, route.since = False, time.monotonic()
        if router is not None:
            self.lose(router)
        elif not self._welcomed:
            self._finder.start()
        return router

    def doubt(self, router: Peer) -> Peer | None:
        """A router is silent, and its connection is not lost: it may hang, or be at another address by now.

        The connection on which to ask who is there, before it counts as a way to the router again.
        """
        route = self._serving.get(router)
        if route is None or route.router != router:
            return None
        route.router = None
        return route.peer

    def identify(self, peer: Peer, router_id: str) -> Peer | None:
        """Who is at the other end of a connection has said so; None where there is another route to that router."""
        route = self._routes.get(peer)
        if route is None or route.router is not None:
            return None
        router = Peer(router_id.encode())
        put_last(self._met, route.endpoint, router, MET_MAX)
        if router == self._myself:
            self._close(route)
            return None
        serving = self._serving.get(router)
        if serving is not None and serving is not route:
            if serving.router == router:
                self._close(route)
                return None
            if serving.router is None:  # it is not, or no longer, to be had there
                self._close(serving)
        for other, way in self._serving.items():
            if way is route and other != router:
                self._serving[other] = None
        if router not in self._serving:
            self._miss(router)
        self._serving[router] = route
        route.router = router
        for endpoint, met in self._met.items():
            if met == router and (way := self._by_endpoint.get(endpoint)) not in (None, route) and not way.is_up:
                self._close(way)
        return router

    # what people are told

    def note(self, problem: str) -> None:
        """Keep a problem for the message that people get; log it once until a router welcomes us."""
        self._tried = problem
        if problem in self._noted:
            return
        if len(self._noted) >= NOTES_MAX:
            del self._noted[next(iter(self._noted))]
        self._noted[problem] = None
        log.warning("%s", problem)

    def complain(self, problem: Problem) -> None:
        """Note what a transport says; keys that do not fit twice in a row are no accident of a router's restart."""
        route = self._routes.get(problem.peer) if problem.peer is not None else None
        if route is not None and route.source is Source.ANNOUNCED and len(self._noted) >= NOTES_ANNOUNCED_MAX:
            self._tried = problem.text  # anybody can have it said of ever new addresses
        else:
            self.note(problem.text)
        if route is None:
            return
        route.problem = problem.text
        if problem.kind not in (Trouble.WRONG_KEY, Trouble.DENIED, Trouble.NO_COMMON_SECURITY):
            return
        route.misfits += 1
        sure = [one for one in self._routes.values() if one.source in (Source.NAMED, Source.HERE)]
        if not self._welcomed and sure and all(one.misfits > 1 for one in sure):
            self._refused = problem.text

    # sessions

    def welcome(self, router: Peer, others: Sequence[str]) -> None:
        """A router lets us in and names the addresses of others."""
        route = self._serving.get(router)
        if route is not None:
            router_id = router.decode()
            said = (route.endpoint, *self._said.get(router_id, ()))
            self._dialing.remember(router_id, list(dict.fromkeys(said)))
        self._welcomed.add(router)
        self._away.pop(router, None)
        self._ever_welcomed = True
        self._refused = None
        self._noted.clear()
        if not self._looking:
            self._pause_finder()
        self.hear_of(others)

    def hear_of(self, endpoints: Sequence[str]) -> None:
        """A router names the addresses of others, again and again."""
        endpoints = [endpoint for endpoint in endpoints[:ROUTES_MAX] if endpoint not in self._by_endpoint]
        if endpoints:
            self._news.append(
                ([Found((endpoint,), None, "named by a router", Source.TOLD) for endpoint in endpoints], False)
            )

    def refuse(self, reason: str) -> None:
        """A router would not have us, or something we asked for."""
        log.error("a router refuses: %s", reason)
        if not self._welcomed:
            self._refused = reason

    def unwelcome(self, router: Peer) -> None:
        """The session is over, the connection lives."""
        if router in self._welcomed:
            self._welcomed.remove(router)
            self._miss(router)
            self._lonely_since = time.monotonic()

    def lose(self, router: Peer, why: str = "the connection to a router was lost; connecting again by itself") -> None:
        """The connection is gone, or the session in it: another router may be there."""
        if router in self._welcomed:
            route = self._serving.get(router)
            log.warning("%s (router %s at %s)", why, router.decode(), route.endpoint if route is not None else "?")
        self.unwelcome(router)
        if not self._welcomed:
            self._finder.start()


def put_last(known: dict[str, V], key: str, value: V, most: int) -> None:
    """Remember what was learnt last; beyond ``most`` the oldest is forgotten."""
    known.pop(key, None)
    known[key] = value
    if len(known) > most:
        del known[next(iter(known))]
