"""How a node gets to the routers of its mesh: finds them, and connects to each with what its key allows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from mesh.errors import ConfigError, NoKey
from mesh.model import Peer, Role
from mesh.net.dealer_transport import DealerTransport
from mesh.net.find import Found, Search, find_routers, named_routers, routers_here
from mesh.net.interfaces import is_for_others
from mesh.net.keys import load
from mesh.net.known import KnownRouter, remember
from mesh.net.mdns import Browser
from mesh.net.names import unnamed
from mesh.settings import command_of

NAMES_EVERY = 10  # looks, between two at names of routers
NAMES_S = 2.0  # for that


class Dialing(Protocol):
    """What a node does to get to routers. ``find`` and ``rest`` are called on one thread of their own."""

    def find(self) -> Search:
        """The routers that may be there, and what was tried. Raises ``MeshError``."""
        ...

    def rest(self) -> None:
        """Enough was found, for now or for good."""
        ...

    def connect(self, endpoint: str) -> Peer:
        """Begin to connect. Raises ``MeshError``."""
        ...

    def remember(self, router_id: str, endpoints: Sequence[str]) -> None:
        """A router at one of these addresses has welcomed the node."""
        ...


def _needs_no_key(found: Found) -> bool:
    """Who may open a socket file of this user on this machine needs none."""
    return any(endpoint.startswith("ipc://") for endpoint in found.endpoints)


class Dialer:
    """Of one node. ``given``: addresses of routers, where they are not to be looked for.

    The LAN is listened to while no router of this user runs on this host, or with ``browse`` always. ``here``: only
    this user's routers on this host are looked for. ``advice``: what to do where none runs here; empty: to ask whether
    one does.
    """

    def __init__(
        self,
        transport: DealerTransport,
        mesh: str,
        role: Role,
        given: Sequence[str] = (),
        *,
        browse: bool = False,
        here: bool = False,
        advice: str = "",
    ) -> None:
        self._transport = transport
        self._mesh = mesh
        self._role = role
        self._given = given
        self._browse = browse
        self._here = here
        self._advice = advice
        self._browser: Browser | None = None
        self._looks = 0  # since it rested
        self._unnamed = ""
        self._none_named = False

    @property
    def left_out(self) -> int:
        """How many announced addresses found no room, since it has been listened."""
        browser = self._browser
        return 0 if browser is None else browser.left_out

    def find(self) -> Search:
        """The routers that may be there. Raises ``ConfigError``."""
        if self._here:
            local = filter(_needs_no_key, routers_here(self._mesh, os.environ))
            return Search(list(local), "this user's, on this machine")
        self._looks += 1
        unfit = None
        try:
            key = load(self._mesh, os.environ)
            key.entry(self._role, command_of(self._mesh))
        except ConfigError as error:  # somebody may type `mesh join` while we wait
            unfit = error
        else:
            if self._browser is None and self._should_listen():
                self._browser = Browser(key.key_id, mesh=self._mesh)
        search = find_routers(self._mesh, self._given, os.environ, self._browser)
        # Not at the first look: what is named mostly answers before there is another, and a name service may be slow.
        if self._looks % NAMES_EVERY == 2 and named_routers(self._given, os.environ) is not None:
            endpoints = {endpoint for found in search.found for endpoint in found.endpoints}
            problems = unnamed(endpoints, NAMES_S)
            self._unnamed = "; ".join(f"name not known: {at} ({problem.why})" for at, problem in problems.items())
            self._none_named = endpoints == problems.keys()
        if self._unnamed and self._none_named:
            search = replace(search, mistaken=self._unnamed)
        elif self._unnamed:
            search = replace(search, tried=f"{search.tried}; {self._unnamed}")
        if unfit is None or any(map(_needs_no_key, search.found)):
            return search
        if not search.found:
            advice = self._advice or f"is `{command_of(self._mesh)} up` running?"
            here = f"no router of mesh {self._mesh!r} runs on this machine: {advice}"
            is_awaited = bool(self._advice) and isinstance(unfit, NoKey)  # the first router makes one
            elsewhere = "" if is_awaited else f" Those of other machines are not looked for: {unfit}"
            unfit = type(unfit)(f"{here}{elsewhere}")
        return replace(search, unfit=unfit)

    def _should_listen(self) -> bool:
        """What is here, or was met before, mostly answers at once, and then nothing need be heard."""
        if named_routers(self._given, os.environ) is not None:
            return False
        return self._browse or (self._looks > 1 and not routers_here(self._mesh, os.environ))

    def rest(self) -> None:
        """Listen no more until routers are looked for again."""
        self._looks = 0
        if self._browser is not None:
            self._browser.close()
            self._browser = None

    def connect(self, endpoint: str) -> Peer:
        """Connect to a router. Raises ``NoKey``, ``ConfigError``."""
        # Who may open a socket file of this user on this machine needs no key.
        key = None if endpoint.startswith("ipc://") else partial(load, self._mesh, os.environ)
        return self._transport.connect(endpoint, key, self._role, command_of(self._mesh))

    def remember(self, router_id: str, endpoints: Sequence[str]) -> None:
        """Keep where a router was met, for the next start of any node of this user."""
        if any(map(is_for_others, endpoints)):
            remember(self._mesh, os.environ, [KnownRouter(router_id, tuple(endpoints))])
