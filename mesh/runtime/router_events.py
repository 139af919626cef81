"""What a transport brings from routers: events for the machine of a node, and news for who keeps its connections."""

from __future__ import annotations

import logging

from mesh.core.commands import SessionEnded
from mesh.core.events import Event, MessageReceived, PeerLost, RouterFound
from mesh.messages import SayHello, Welcome
from mesh.model import Peer
from mesh.net.arrivals import Arrivals
from mesh.runtime.channels import RouterChannels
from mesh.runtime.routers import Routers

log = logging.getLogger("mesh.connection")


class RouterEvents:
    """Belongs to the thread that owns the transport."""

    def __init__(self, routers: Routers, channels: RouterChannels) -> None:
        self._routers = routers
        self._channels = channels

    def take(self, arrivals: Arrivals) -> list[Event]:
        """What happened between the node and its routers, in order."""
        events: list[Event] = []
        receive = self._channels.receive
        for peer, frames, _role in arrivals.messages:
            event = receive(peer, frames)
            if event is not None:
                self._look_at(event)
                events.append(event)
        for peer in arrivals.lost:
            self._routers.lose(peer)
            self._channels.close(peer)
            events.append(PeerLost(peer))
        for peer in arrivals.connected:
            self._channels.connect(peer, self._routers.endpoint_of(peer))
            events.append(RouterFound(peer))
        for problem in arrivals.problems:
            self._routers.complain(problem)
        for forgotten in self._routers.connect_to_found():
            self._channels.forget(forgotten.peer)
            events.append(forgotten)
        return events

    def _look_at(self, event: MessageReceived) -> None:
        message = event.message
        if type(message) is Welcome:
            log.info("welcomed by %s (router %s, taskmesh %s)", message.name, message.router_id, message.version)
            self._routers.welcome(event.peer, message.routers)
        elif type(message) is SayHello:
            self._routers.unwelcome(event.peer)

    def end_session(self, command: SessionEnded) -> None:
        """The machine has given up a session whose connection lives."""
        self._routers.lose(command.peer, f"{command.reason}; looking for another, too")

    def leave(self, peer: Peer) -> None:
        """The machine wants nothing of a router any more."""
        self._routers.unwelcome(peer)
        self._channels.close(peer)
