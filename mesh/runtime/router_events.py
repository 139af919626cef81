"""What a transport brings from routers: events for the machine of a node, and news for who keeps its connections.

Connections come and go; the machine knows routers. So a connection that is made is first asked who is there.
"""

from __future__ import annotations

import logging

from mesh.clock import Clock
from mesh.core.commands import SessionEnded
from mesh.core.events import Event, MessageReceived, PeerHeard, PeerLost, RouterFound
from mesh.messages import Heartbeat, SayHello, Welcome
from mesh.model import Peer
from mesh.net.arrivals import Arrivals
from mesh.runtime.channels import RouterChannels
from mesh.runtime.routers import Routers

SKEW_S = 2.0  # clocks may differ so much; more is said
_SAME_S = 0.1  # what two heartbeats in a row may differ by

log = logging.getLogger("mesh.connection")


class RouterEvents:
    """Belongs to the thread that owns the transport."""

    def __init__(self, routers: Routers, channels: RouterChannels, clock: Clock) -> None:
        self._routers = routers
        self._channels = channels
        self._clock = clock
        self._behind = 0.0  # our clock, what the last heartbeat said
        self._skew_said = False

    def take(self, arrivals: Arrivals) -> list[Event]:
        """What happened between the node and its routers, in order."""
        events: list[Event] = []
        receive, router_at = self._channels.receive, self._routers.router_at
        for connection, frames, _role in arrivals.messages:
            router = router_at(connection)
            if router is None:
                router_id = self._channels.receive_identity(frames)
                if router_id is not None:
                    events += self._meet(connection, router_id)
                continue
            event = receive(router, frames)
            if event is not None:
                self._look_at(event)
                events.append(event)
        events += [PeerHeard(router) for router in map(router_at, arrivals.heard) if router is not None]
        for connection in arrivals.lost:
            router = self._routers.go_down(connection)
            if router is not None:
                self._channels.close(router)
                events.append(PeerLost(router))
        for connection in arrivals.connected:
            self._routers.go_up(connection)
            self._channels.ask_identity(connection)
        for problem in arrivals.problems:
            self._routers.prospects.complain(problem)
        for forgotten in self._routers.connect_to_found():
            self._channels.forget(forgotten.peer)
            events.append(forgotten)
        return events

    def _meet(self, connection: Peer, router_id: str) -> list[Event]:
        router = self._routers.identify(connection, router_id)
        route = self._routers.route_of(router) if router is not None else None
        if router is None or route is None:
            return []
        self._channels.connect(router, connection, route.endpoint)
        return [RouterFound(router, is_here=route.endpoint.startswith("ipc://"))]

    def _look_at(self, event: MessageReceived) -> None:
        message = event.message
        if type(message) is Welcome:
            log.info("welcomed by %s (router %s, taskmesh %s)", message.name, message.router_id, message.version)
            self._routers.welcome(event.peer, message.routers)
        elif type(message) is Heartbeat:
            self._routers.hear_of(message.routers, event.peer)
            self._compare_clocks(message.at)
        elif type(message) is SayHello:
            self._routers.unwelcome(event.peer)

    def _compare_clocks(self, theirs: float) -> None:
        """Say once that a router's clock differs, by as much in two heartbeats: of those that waited, each did less."""
        behind = self._clock.now().wall - theirs if theirs > 0.0 else 0.0
        differs = abs(behind) > SKEW_S and abs(behind - self._behind) < _SAME_S
        self._behind = behind
        if differs and not self._skew_said:
            self._skew_said = True
            log.warning(
                "this machine's clock is %.0f s %s its router's: an eta or expiry given as a date means another moment "
                "there; `mesh doctor` says more",
                abs(behind),
                "ahead of" if behind > 0 else "behind",
            )

    def end_session(self, command: SessionEnded) -> None:
        """The machine has given up a session whose connection lives."""
        self._routers.lose(command.peer, f"{command.reason}; trying it anew, and looking for another")
        connection = self._routers.doubt(command.peer) if command.silent else None
        if connection is not None:
            self._channels.close(command.peer)
            self._channels.ask_identity(connection)

    def leave(self, router: Peer) -> None:
        """The machine wants nothing of a router any more."""
        self._routers.unwelcome(router)
        self._channels.close(router)
