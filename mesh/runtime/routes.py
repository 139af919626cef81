"""Which addresses are tried, which way to each router is kept, and which routers are forgotten.

Decides only: what was found, what became of connections, the time and the lots come in. ``plan`` says which connections
to make, ``take_closed`` which to end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import NamedTuple, TypeVar

from mesh.core.events import RouterForgotten
from mesh.model import Peer
from mesh.net.find import Found, Source, in_turns

LOOK_AGAIN_S = 10.0  # a router that is away may be at another address by now
ROUTES_MAX = 256  # addresses that are tried at a time
ANNOUNCED_MAX = 64  # of them, those that anybody on the LAN may have made up: more take turns
TRY_S = 3.0  # that one of those has to prove itself, where others wait
MET_MAX = 1_024  # addresses whose routers are remembered, and routers whose addresses are

V = TypeVar("V")
Way = tuple[str, Found]
"""An address and who is said to be there."""


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

    @property
    def is_silent(self) -> bool:
        """Whether nothing was heard from where others said that a router is."""
        said = self.source in (Source.NAMED, Source.ANNOUNCED, Source.TOLD)
        return said and not self.is_up and not self.problem and self.router is None


class Known(NamedTuple):
    """A router that a node was served by, or should be; ``id`` is None where nobody has said who is there.

    ``endpoint``: where it is, over TCP where it is said to be: that is short, and means something elsewhere.
    """

    id: str | None
    endpoint: str
    is_named: bool  # by whoever started this node
    is_welcome: bool  # this node is, there and now


class Routes:
    """Of one node. ``myself``: the id of a router that looks for others; ``choose``: draws so many of them by lot.

    A router may have several addresses, and be found at others later. All are tried together; who is there says its
    id, and the first route to a router is the only one that is kept. Machines know a router by that id, so for them
    one that moved is the same. One with a store has the same id in each of its lives; one without has another. So a
    router that is away is remembered for ``ttl_s``, and longer while it is found, or nobody else is.

    A connection on which nobody has said for ``silence_s`` who is there may lead nowhere without a word: its address
    is dialled anew beside it. It is kept where a router was met on it, for that may only hang; the first that answers
    stays.

    All times are monotonic seconds. ``all``, ``known`` and ``welcomed`` may be asked on any thread.
    """

    def __init__(
        self, ttl_s: float, silence_s: float, myself: str | None, choose: Callable[[Sequence[Way], int], list[Way]]
    ) -> None:
        self._ttl_s = ttl_s
        self._silence_s = silence_s
        self._myself = Peer(myself.encode()) if myself is not None else None
        self._choose = choose
        self._routes: dict[Peer, Route] = {}  # by connection
        self._by_endpoint: dict[str, Route] = {}
        self._closed: list[Peer] = []
        self._said: dict[str, Sequence[str]] = {}  # by router id: the addresses it was last found at
        self._met: dict[str, Peer] = {}  # who was last met at an address, the oldest first
        self._serving: dict[Peer, Route | None] = {}  # by router; None: it has none since another is at its address
        self.welcomed: set[Peer] = set()
        self._away: dict[Peer, float] = {}  # routers: since when; the others are welcomed
        self._look_at = inf  # when to look whether one that is away is still to be found
        self.looking = False
        self._stale_at = inf  # when to look where nobody has said who is there
        self.unproven = 0
        """How many announced addresses did not prove themselves, and were given up for others."""
        self.wait = False
        """Whether some have not had their turn."""

    # what there is

    def all(self) -> list[Route]:
        """All ways that are tried."""
        return list(self._routes.values())

    def known(self) -> list[Known]:
        """All routers that have said who they are, and those that are named or run here and have not said it yet.

        What others announced or told of is left out until it has proved itself: it may be a second address, or nobody.
        """
        known = {
            router.decode(): self._known(router.decode(), route, router in self.welcomed)
            for router, route in list(self._serving.items())
            if route is not None
        }
        said = {endpoint: router_id for router_id, endpoints in list(self._said.items()) for endpoint in endpoints}
        for route in self.all():
            if route.router is None and route.source in (Source.NAMED, Source.HERE):
                met = self._met.get(route.endpoint)
                router_id = said.get(route.endpoint) if met is None else met.decode()
                known.setdefault(router_id or route.endpoint, self._known(router_id, route, False))
        return list(known.values())

    def _known(self, router_id: str | None, route: Route, is_welcome: bool) -> Known:
        tcp = [endpoint for endpoint in self._said.get(router_id or "", ()) if endpoint.startswith("tcp://")]
        endpoint = tcp[0] if tcp and route.endpoint.startswith("ipc://") else route.endpoint
        return Known(router_id, endpoint, route.source is Source.NAMED, is_welcome)

    def has_served(self, route: Route) -> bool:
        """Whether it was the way to a router, and may be again."""
        return route in self._serving.values()

    def at(self, connection: Peer) -> Route | None:
        """The way that a connection is."""
        return self._routes.get(connection)

    def to(self, router: Peer) -> Route | None:
        """The way to a router."""
        return self._serving.get(router)

    def addresses_of(self, router: Peer, route: Route) -> list[str]:
        """All that a router was last found at, that of ``route`` first."""
        return list(dict.fromkeys((route.endpoint, *self._said.get(router.decode(), ()))))

    def is_tried(self, endpoint: str) -> bool:
        """Whether there is a connection to this address, or one is being made."""
        return endpoint in self._by_endpoint

    # what is tried

    def plan(self, found: Sequence[Found], now: float) -> list[Way]:
        """Which connections are to be made, in this order."""
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
        certain: dict[str, Found] = {}
        announced: dict[str, Found] = {}
        for endpoint, one in new:
            (announced if one.source is Source.ANNOUNCED else certain).setdefault(endpoint, one)
        hearsay = [(endpoint, one) for endpoint, one in announced.items() if endpoint not in certain]
        return [*certain.items(), *self._take_turns(hearsay, now)]

    def _take_turns(self, new: Sequence[Way], now: float) -> list[Way]:
        """What there is room for; for the rest, draw lots for the places of those that have not proved themselves.

        By lot, because who announces without end must not be able to say whose turn it is.
        """
        unproven = [r for r in self._routes.values() if r.source is Source.ANNOUNCED and not r.is_up]
        room = max(0, ANNOUNCED_MAX - len(unproven))
        waiting = new[room:]
        long_ago, kept = now - TRY_S, list(self._serving.values())
        late = [route for route in unproven if route.since <= long_ago and route not in kept][: len(waiting)]
        for route in late:
            self._close(route)
        self.unproven += len(late)
        self.wait = bool(waiting)
        return [*new[:room], *self._choose(waiting, len(late))]

    def _is_reached(self, found: Found, endpoint: str) -> bool:
        """Whether there is a route to the router that is said to be there, or was there last."""
        router = Peer(found.router_id.encode()) if found.router_id is not None else self._met.get(endpoint)
        if router is not None and router == self._myself:
            return True
        route = self._serving.get(router) if router is not None else None
        return route is not None and route.router == router

    @property
    def is_full(self) -> bool:
        """Whether no more may be opened."""
        return len(self._routes) >= ROUTES_MAX

    def open(self, endpoint: str, connection: Peer, source: Source, now: float) -> None:
        """A connection is being made."""
        earlier = self._by_endpoint.get(endpoint)
        self._routes[connection] = self._by_endpoint[endpoint] = Route(endpoint, connection, source, now)
        if earlier is not None and earlier not in self._serving.values():
            self._close(earlier)
        self._look_at = min(self._look_at, now + self._ttl_s)

    def take_stale(self, now: float) -> list[Route]:
        """Those whose addresses are to be dialled anew; on this host a router can only hang."""
        if now < self._stale_at:
            return []
        stale: list[Route] = []
        self._stale_at = inf
        for route in self._by_endpoint.values():
            if route.is_up and route.router is None and not route.endpoint.startswith("ipc://"):
                if now >= route.since + self._silence_s:
                    route.since = now
                    stale.append(route)
                self._stale_at = min(self._stale_at, route.since + self._silence_s)
        return stale

    def _keep(self, route: Route) -> None:
        """Of the connections to one address."""
        self._by_endpoint[route.endpoint] = route
        for other in [one for one in self._routes.values() if one.endpoint == route.endpoint and one is not route]:
            for router, way in self._serving.items():
                if way is other:
                    self._serving[router] = route
            self._close(other)

    def _close(self, route: Route) -> None:
        del self._routes[route.peer]
        if self._by_endpoint.get(route.endpoint) is route:
            del self._by_endpoint[route.endpoint]
        self._closed.append(route.peer)

    def take_closed(self) -> list[Peer]:
        """Connections that are to be ended."""
        closed, self._closed = self._closed, []
        return closed

    # what is looked for, and forgotten

    def begin_look(self, now: float) -> bool:
        """Whether to look now for what is away, and for what nobody has answered at."""
        if self.looking or now < self._look_at:
            return False
        self.looking = True
        return True

    def end_look(self, now: float) -> None:
        """What is away, and what nobody has answered at, is looked for again: it may be to be forgotten then."""
        self.looking = False
        in_doubt = self._away or any(not route.is_up for route in self._routes.values())
        pause_s = min(LOOK_AGAIN_S, self._ttl_s) if self._away else self._ttl_s
        self._look_at = now + pause_s if in_doubt else inf

    def _miss(self, router: Peer, now: float) -> None:
        self._away[router] = now
        self._look_at = min(self._look_at, now + min(LOOK_AGAIN_S, self._ttl_s))

    def forget_all_but(self, found: Sequence[Found], now: float) -> list[RouterForgotten]:
        """Routers come back at other addresses: do not knock at the old ones for ever."""
        forgotten: list[RouterForgotten] = []
        found = [one for one in found if one.source is not Source.MET]  # that says nothing of today
        if not found:
            return forgotten
        endpoints = {endpoint for one in found for endpoint in one.endpoints}
        ids = {Peer(one.router_id.encode()) for one in found if one.router_id is not None}
        long_ago = now - self._ttl_s
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

    # what becomes of connections

    def go_up(self, connection: Peer, now: float) -> None:
        """A connection is made: who is there is to be asked, for it may be another than before."""
        route = self._routes.get(connection)
        if route is not None:
            route.is_up, route.since, route.misfits, route.router = True, now, 0, None
            route.problem = ""
            self._stale_at = min(self._stale_at, now + self._silence_s)

    def go_down(self, route: Route, now: float) -> Peer | None:
        """A connection is lost; the router that is lost with it."""
        router, route.router = route.router, None
        route.is_up, route.since = False, now
        newest = self._by_endpoint.get(route.endpoint)
        if newest is not None and newest is not route:
            self._keep(newest)
        return router

    def doubt(self, router: Peer) -> Peer | None:
        """A router is silent, and its connection is not lost: it may hang, or that lead nowhere by now.

        The connection on which to ask who is there, before it counts as a way to the router again.
        """
        route = self._serving.get(router)
        if route is None or route.router != router:
            return None
        route.router = None
        route.since = self._stale_at = -inf
        return route.peer

    def identify(self, connection: Peer, router_id: str, now: float) -> Peer | None:
        """Who is at the other end of a connection has said so; None where there is another route to that router."""
        route = self._routes.get(connection)
        if route is None or route.router is not None:
            return None
        self._keep(route)
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
            self._miss(router, now)
        self._serving[router] = route
        route.router = router
        for endpoint, met in self._met.items():
            if met == router and (way := self._by_endpoint.get(endpoint)) not in (None, route) and not way.is_up:
                self._close(way)
        return router

    def welcome(self, router: Peer) -> None:
        """A router lets us in."""
        self.welcomed.add(router)
        self._away.pop(router, None)

    def unwelcome(self, router: Peer, now: float) -> bool:
        """The session with a router is over; whether there was one."""
        if router not in self.welcomed:
            return False
        self.welcomed.remove(router)
        self._miss(router, now)
        return True


def put_last(known: dict[str, V], key: str, value: V, most: int) -> None:
    """Remember what was learnt last; beyond ``most`` the oldest is forgotten."""
    known.pop(key, None)
    known[key] = value
    if len(known) > most:
        del known[next(iter(known))]
