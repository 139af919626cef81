"""Sees how many routers of the mesh answer: connects to all that are found, and asks each who it is, again and again.

It greets none, so routers do not count it among their nodes. A host that is gone ends no connection, so a router that
has not answered for a while counts as gone. Runs on a thread of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from mesh.clock import Clock, SystemClock
from mesh.core.replenishing import Replenishing
from mesh.model import Peer, Role
from mesh.net.arrivals import Arrivals
from mesh.net.dealer_transport import DealerTransport
from mesh.runtime.channels import RouterChannels, Transport
from mesh.runtime.dialing import Dialer, Dialing
from mesh.runtime.router_events import RouterEvents
from mesh.runtime.routers import Routers
from mesh.settings import Settings

ASK_S = 0.5  # between two questions to the same router
SILENT_S = 3.0  # a router that does not answer for so long is gone
SEARCH_S = 1.0  # between two searches


def open_watch(settings: Settings, given: Sequence[str], replenishing: Replenishing) -> RouterWatch:
    """The watch of this machine; ``given``: addresses of routers, where they are not to be looked for."""
    transport = DealerTransport(outbox_bytes_max=settings.outbox_bytes_max)
    dialer = Dialer(transport, settings.mesh, Role.ADMIN, given, browse=True)
    return RouterWatch(settings, transport, dialer, replenishing)


class RouterWatch:
    """Of one machine. ``dialing``: how it gets to routers."""

    def __init__(
        self,
        settings: Settings,
        transport: Transport,
        dialing: Dialing,
        replenishing: Replenishing,
        clock: Clock | None = None,
    ) -> None:
        self._transport = transport
        self._clock = clock or SystemClock()
        self._routers = Routers(settings, transport, dialing, self._clock, search_s=SEARCH_S)
        self._channels = RouterChannels(transport, lambda blob: None)
        self._from_routers = RouterEvents(self._routers, self._channels, self._clock)
        self._replenishing = replenishing
        self._heard: dict[Peer, float] = {}  # when each connection that is up was made, or answered last; monotonic
        self._ask_at = 0.0

    def start(self) -> None:
        """Begin to look for routers."""
        self._routers.start()

    @property
    def reached(self) -> int:
        """How many routers answer."""
        return self._routers.reached

    def close(self) -> None:
        """Look no more."""
        self._routers.close()
        self._transport.close(0.0)

    def run_in_background(self, start: Callable[[], None]) -> None:
        """Watch until this machine is to start a router, and ``start`` it, on the thread that watches."""
        self.start()
        threading.Thread(target=self._run, args=(start,), name="mesh-router-watch", daemon=True).start()

    def _run(self, start: Callable[[], None]) -> None:
        try:
            while True:
                now = self._clock.now().mono
                if self._replenishing.see(self.reached, now):
                    start()
                    return
                self.turn(min(ASK_S, max(0.0, self._replenishing.next_deadline() - now)))
        finally:
            self.close()

    def turn(self, pause_s: float) -> None:
        """Wait at most so long for what routers say, and ask those whose time has come."""
        self._take(self._transport.receive(pause_s))
        now = self._clock.now().mono
        if now < self._ask_at:
            return
        self._ask_at = now + ASK_S
        # One that is given up for another to the same router is not reported as lost.
        self._heard = {connection: self._heard.get(connection, now) for connection in self._routers.connections()}
        for connection, heard in self._heard.items():
            router = self._routers.router_at(connection)
            if router is not None and now - heard >= SILENT_S:
                self._routers.doubt(router)
            self._channels.ask_identity(connection)

    def _take(self, arrivals: Arrivals) -> None:
        now = self._clock.now().mono
        self._heard |= {connection: now for connection, _frames, _role in arrivals.messages}
        self._heard |= dict.fromkeys(arrivals.connected, now)
        self._from_routers.take(replace(arrivals, problems=[]))  # the nodes of this machine say what is wrong
