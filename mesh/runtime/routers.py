"""Which routers a node looks for, is connected to and was welcomed by; and what to tell people when there is none."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from math import inf

from mesh.core.events import RouterForgotten
from mesh.errors import MeshError, Refused, Unavailable
from mesh.model import Peer
from mesh.net.arrivals import Problem, Trouble
from mesh.runtime.channels import Transport
from mesh.runtime.finding import Finder
from mesh.settings import Settings, command_of

POLL_S = 0.25  # how often a waiting thread looks whether there is still hope of a router
NOTES_MAX = 100  # problems that are remembered as said

log = logging.getLogger("mesh.connection")


class Routers:
    """``connect`` opens a connection to an endpoint; ``find`` gives endpoints and what was tried, on its own thread.

    A router is its endpoint: one with a store has the same socket in each of its lives, and what was given is always
    among what is found. One without a store has another in each. So a connection to one that is away is kept for
    ``router_ttl_s``, to be there at once when it is back, and longer while it is found, or nobody else is.
    """

    def __init__(
        self,
        settings: Settings,
        transport: Transport,
        connect: Callable[[str], Peer],
        find: Callable[[], tuple[Iterable[str], str]],
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._connect = connect
        self._finder = Finder(find, self._on_found)
        self._found: deque[tuple[Sequence[str], bool]] = deque()  # endpoints; whether they are all there are
        self._peers: dict[str, Peer] = {}  # by endpoint
        self._welcomed: set[Peer] = set()
        self._away: dict[Peer, float] = {}  # since when; the others are welcomed
        self._look_at = inf  # when to look whether one that is away is still to be found
        self._looking = False
        self._tried = "Still looking"
        self._noted: dict[str, None] = {}  # problems that were logged since the last welcome, oldest first
        self._started = self._lonely_since = time.monotonic()
        self._ever_welcomed = False
        self._refused: str | None = None
        self._misfits = 0  # greetings in a row that failed for the key

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
        return bool(self._found)

    def patience(self, deadline: float | None) -> float:
        """Seconds a thread may wait in one go for something that a router must do; -1 for as long as it takes."""
        remaining = -1.0 if deadline is None else max(0.0, deadline - time.monotonic())
        if self._welcomed:
            return remaining
        return POLL_S if remaining < 0 else min(POLL_S, remaining)

    def raise_if_hopeless(self) -> None:
        """Raise ``Refused`` when a router did, ``Unavailable`` when none was ever found in ``connect_timeout_s``."""
        if self._welcomed:
            return
        if self._refused is not None:
            raise Refused(self._refused)
        if not self._ever_welcomed and time.monotonic() - self._started >= self._settings.connect_timeout_s:
            raise Unavailable(self.situation())

    def situation(self) -> str:
        """Whether there is a router, and what was tried to find one; for people."""
        if self._welcomed:
            return f"connected to {len(self._welcomed)} router{'s' * (len(self._welcomed) > 1)}"
        if self._refused is not None:
            return f"the router refused this node: {self._refused}"
        what = "the connection to the router was lost" if self._ever_welcomed else "no router answered"
        waited = time.monotonic() - self._started
        mesh = self._settings.mesh
        return f"{what} (mesh {mesh!r}, after {waited:.1f} s). {self._tried}. Is `{command_of(mesh)} up` running?"

    def _on_found(self, endpoints: list[str], tried: str) -> None:
        """On the finder's thread: tell the loop."""
        if not self._welcomed:
            self._tried = f"Tried: {tried}"
        if endpoints or self._looking:
            self._found.append((endpoints, True))
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
        while self._found:
            endpoints, complete = self._found.popleft()
            if complete:
                self._end_look()
                forgotten += self._forget_all_but(endpoints)
            for endpoint in endpoints:
                if endpoint not in self._peers:
                    self._open(endpoint)
        if not self._looking and time.monotonic() >= self._look_at:
            self._looking = True
            self._finder.start()
        return forgotten

    def _end_look(self) -> None:
        self._looking = False
        self._look_at = time.monotonic() + self._settings.router_ttl_s if self._away else inf
        if self._welcomed:
            self._finder.pause()

    def endpoint_of(self, peer: Peer) -> str:
        """Where we connected to."""
        return next((endpoint for endpoint, known in self._peers.items() if known == peer), "")

    def _open(self, endpoint: str) -> None:
        try:
            peer = self._peers[endpoint] = self._connect(endpoint)
        except MeshError as error:  # no key: somebody may type `mesh join` while we wait
            self.note(str(error))
        else:
            self._miss(peer)

    def _miss(self, peer: Peer) -> None:
        now = time.monotonic()
        self._away[peer] = now
        self._look_at = min(self._look_at, now + self._settings.router_ttl_s)

    def _forget_all_but(self, endpoints: Sequence[str]) -> list[RouterForgotten]:
        """Routers come back at other addresses: do not knock at the old ones for ever."""
        forgotten: list[RouterForgotten] = []
        if not endpoints:
            return forgotten
        long_ago = time.monotonic() - self._settings.router_ttl_s
        for endpoint, peer in list(self._peers.items()):
            if endpoint not in endpoints and self._away.get(peer, inf) <= long_ago:
                del self._peers[endpoint], self._away[peer]
                self._transport.disconnect(peer)
                forgotten.append(RouterForgotten(peer, endpoint))
        return forgotten

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
        """Note what a transport says; a key that does not fit twice in a row is no accident of a router's restart."""
        self.note(problem.text)
        if problem.kind in (Trouble.WRONG_KEY, Trouble.NO_COMMON_SECURITY):
            self._misfits += 1
            if self._misfits > 1 and not self._welcomed:
                self._refused = problem.text

    def welcome(self, peer: Peer, others: Sequence[str]) -> None:
        """A router lets us in and names others."""
        self._welcomed.add(peer)
        self._away.pop(peer, None)
        self._ever_welcomed = True
        self._refused = None
        self._misfits = 0
        self._noted.clear()
        if not self._looking:
            self._finder.pause()
        if others:
            self._found.append((others, False))

    def refuse(self, reason: str) -> None:
        """A router would not have us, or something we asked for."""
        log.error("a router refuses: %s", reason)
        if not self._welcomed:
            self._refused = reason

    def unwelcome(self, peer: Peer) -> None:
        """The session is over, the connection lives."""
        if peer in self._welcomed:
            self._welcomed.remove(peer)
            self._miss(peer)
            self._lonely_since = time.monotonic()

    def lose(self, peer: Peer, why: str = "the connection to a router was lost; connecting again by itself") -> None:
        """The connection is gone, or the session in it: another router may be there."""
        if peer in self._welcomed:
            log.warning("%s", why)
        self.unwelcome(peer)
        if not self._welcomed:
            self._finder.start()
