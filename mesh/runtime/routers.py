"""The routers of a node: looked for on a thread of its own, connected to, and known by what becomes of that.

What is tried and what is forgotten is decided in ``mesh.runtime.routes``, what people are told in
``mesh.runtime.prospects``.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable, Sequence

from mesh.clock import Clock
from mesh.core.events import RouterForgotten
from mesh.errors import MeshError
from mesh.model import Peer
from mesh.net.find import Found, Search, Source
from mesh.net.interfaces import leads_on
from mesh.runtime.channels import Transport
from mesh.runtime.dialing import Dialing
from mesh.runtime.finding import PAUSE_S, Finder
from mesh.runtime.prospects import Prospects
from mesh.runtime.routes import ROUTES_MAX, Known, Route, Routes, Way
from mesh.settings import Settings

log = logging.getLogger("mesh.connection")


class Routers:
    """``dialing``: how routers are looked for, on a thread of its own, and connected to."""

    def __init__(
        self,
        settings: Settings,
        transport: Transport,
        dialing: Dialing,
        clock: Clock,
        *,
        myself: str | None = None,
        search_s: float | None = None,
        choose: Callable[[Sequence[Way], int], list[Way]] = random.sample,
        advice: str = "",
    ) -> None:
        """``myself``: the id of a router that looks for others. ``search_s``: look on, so often, when one is found.

        ``advice``: see ``Prospects``.
        """
        self._transport = transport
        self._dialing = dialing
        self._clock = clock
        self._goes_on = search_s is not None
        self._finder = Finder(dialing.find, self._on_found, search_s or PAUSE_S, dialing.rest)
        self._news: deque[tuple[Sequence[Found], bool]] = deque()  # what was found; whether it is all there is
        self._routes = Routes(settings.router_ttl_s, settings.heartbeat_s * settings.liveness, myself, choose)
        self.prospects = Prospects(settings, clock, self._routes, advice)

    # on any thread

    @property
    def welcomed(self) -> bool:
        """Whether some router has welcomed us and was not lost since."""
        return bool(self._routes.welcomed)

    @property
    def has_news(self) -> bool:
        return bool(self._news)

    def known(self) -> list[Known]:
        """See ``Routes.known``."""
        return self._routes.known()

    def _on_found(self, search: Search) -> None:
        """On the finder's thread: tell the loop."""
        self.prospects.searched(search)
        if search.found or self._routes.looking:
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
        now = self._now()
        while self._news:
            found, complete = self._news.popleft()
            if complete:
                forgotten += self._routes.forget_all_but(found, now)
            ways = self._routes.plan(found, now)
            self._end_closed()
            for endpoint, one in ways:
                self._open(endpoint, one.source)
            self.prospects.complain_of_unproven()
            if complete:
                self._routes.end_look(now)
                self._pause_finder()
        if self._routes.begin_look(now):
            self._finder.start()
        self._dial_anew(now)
        return forgotten

    def _now(self) -> float:
        return self._clock.now().mono

    def _pause_finder(self) -> None:
        if self.welcomed and not self._goes_on:
            self._finder.pause()

    def _open(self, endpoint: str, source: Source) -> None:
        if self._routes.is_full:
            self.prospects.note(f"addresses are left out: {ROUTES_MAX} addresses of routers are being tried already")
            return
        try:
            connection = self._dialing.connect(endpoint)
        except MeshError as error:  # no key: somebody may type `mesh join` while we wait
            self.prospects.note(str(error))
        else:
            self._routes.open(endpoint, connection, source, self._now())

    def _dial_anew(self, now: float) -> None:
        for stale in self._routes.take_stale(now):
            self._open(stale.endpoint, stale.source)
        self._end_closed()

    def _end_closed(self) -> None:
        for connection in self._routes.take_closed():
            self._transport.disconnect(connection)

    # routes

    @property
    def unproven(self) -> int:
        """See ``Routes.unproven``."""
        return self._routes.unproven

    @property
    def reached(self) -> int:
        """How many routers have said who they are, on connections that are up."""
        return sum(1 for route in self._routes.all() if route.router is not None)

    def connections(self) -> list[Peer]:
        """Those that are up."""
        return [route.peer for route in self._routes.all() if route.is_up]

    def router_at(self, connection: Peer) -> Peer | None:
        """The router at the other end of a connection; None where it has not said who it is."""
        route = self._routes.at(connection)
        return None if route is None else route.router

    def route_of(self, router: Peer) -> Route | None:
        """The way to a router."""
        return self._routes.to(router)

    def go_up(self, connection: Peer) -> None:
        """A connection is made: who is there is to be asked, for it may be another than before."""
        self._routes.go_up(connection, self._now())

    def go_down(self, connection: Peer) -> Peer | None:
        """A connection is lost; the router that is lost with it."""
        route = self._routes.at(connection)
        if route is None:
            return None
        router = self._routes.go_down(route, self._now())
        self._end_closed()
        if router is not None:
            self.lose(router)
        elif not self.welcomed:
            self._finder.start()
        return router

    def doubt(self, router: Peer) -> Peer | None:
        """See ``Routes.doubt``. The address is dialled anew at once."""
        connection = self._routes.doubt(router)
        self._dial_anew(self._now())
        return connection

    def identify(self, connection: Peer, router_id: str) -> Peer | None:
        """Who is at the other end of a connection has said so; None where there is another route to that router."""
        router = self._routes.identify(connection, router_id, self._now())
        self._end_closed()
        return router

    # sessions

    def welcome(self, router: Peer, others: Sequence[str]) -> None:
        """A router lets us in and names the addresses of others."""
        route = self._routes.to(router)
        if route is not None:
            self._dialing.remember(router.decode(), self._routes.addresses_of(router, route))
        self._routes.welcome(router)
        self.prospects.brighten()
        if not self._routes.looking:
            self._pause_finder()
        self.hear_of(others, router)

    def hear_of(self, endpoints: Sequence[str], router: Peer | None = None) -> None:
        """A router names the addresses of others, again and again; those of its host only where that is ours, too."""
        route = self._routes.to(router) if router is not None else None
        at = route.endpoint if route is not None else ""
        endpoints = [endpoint for endpoint in endpoints[:ROUTES_MAX] if leads_on(at, endpoint)]
        endpoints = [endpoint for endpoint in endpoints if not self._routes.is_tried(endpoint)]
        if endpoints:
            self._news.append(
                ([Found((endpoint,), None, "named by a router", Source.TOLD) for endpoint in endpoints], False)
            )

    def addresses_of(self, router: Peer) -> list[str]:
        """All that a router was last found at, the address of the way to it first; none where there is no way."""
        route = self._routes.to(router)
        return [] if route is None else self._routes.addresses_of(router, route)

    def unwelcome(self, router: Peer) -> None:
        """The session is over, the connection lives."""
        if self._routes.unwelcome(router, self._now()):
            self.prospects.darken()

    def lose(self, router: Peer, why: str = "the connection to a router was lost; connecting again by itself") -> None:
        """The connection is gone, or the session in it: another router may be there."""
        if router in self._routes.welcomed:
            route = self._routes.to(router)
            log.warning("%s (router %s at %s)", why, router.decode(), route.endpoint if route is not None else "?")
        self.unwelcome(router)
        if not self.welcomed:
            self._finder.start()
