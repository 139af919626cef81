"""Numbers the messages between two nodes, so that a lost, doubled or reordered one is noticed.

ZeroMQ keeps order and loses nothing while a connection lives, and says nothing about what it lost when one dies.
So every message of a session carries the session and a number. A node opens a session at a router with HELLO; the
router answers WELCOME; both are number 0 and the rest counts up from 1 each way. A doubled message is dropped; a gap
ends the session, and the HELLO of the next one settles what each side holds. With that, no message needs a timer of
its own: a loss shows at the next message, at the latest at the next heartbeat.

REFUSE and SAY_HELLO may also be number 0, outside the count: they answer what belongs to no session. So may
IDENTIFY and IDENTITY, which come before a session.

Both the real drivers and the simulated network use this file; role machines never see a number.
"""

from __future__ import annotations

from mesh.core.events import MessageReceived
from mesh.messages import Hello, Identify, Identity, Message, Refuse, SayHello, Welcome
from mesh.model import Peer, Role

OUTSIDE = 0
"""The number of messages that open a session or belong to none."""

Stamp = tuple[int, int]
"""(session, number)"""


class Link:
    """One session: its number, and the last message numbers sent and received."""

    __slots__ = ("received", "sent", "session", "welcomed")

    def __init__(self, session: int) -> None:
        self.session = session
        self.sent = -1
        self.received = 0
        self.welcomed = False

    def stamp(self) -> Stamp:
        self.sent += 1
        return self.session, self.sent


class _Links:
    """What both ends have in common."""

    def __init__(self) -> None:
        self._links: dict[Peer, Link] = {}

    def session(self, peer: Peer) -> int | None:
        """The number of the session with ``peer``; None without one."""
        link = self._links.get(peer)
        return None if link is None else link.session

    def close(self, peer: Peer) -> None:
        """End the session with ``peer``."""
        self._links.pop(peer, None)

    def _in_order(self, link: Link | None, session: int, number: int) -> bool | None:
        """True: take it. False: drop it, it is old. None: something is missing, the session is over."""
        if link is None or session > link.session:
            return None
        if session < link.session or number <= link.received:
            return False
        if number != link.received + 1:
            return None
        link.received = number
        return True


class RouterLinks(_Links):
    """The sessions of the router ``router_id`` with the nodes that said HELLO to it."""

    def __init__(self, router_id: str) -> None:
        super().__init__()
        self._identity = Identity(router_id)

    def stamp(self, peer: Peer) -> Stamp | None:
        """For the next message to ``peer``; None without a session: it is lost, and the next HELLO makes it good."""
        link = self._links.get(peer)
        return None if link is None else link.stamp()

    def take(
        self, peer: Peer, session: int, number: int, message: Message, raw: bytes | None, role: Role | None
    ) -> MessageReceived | Identity | SayHello | None:
        """What a message means: an event for the machine, an answer for the peer (outside the count), or nothing."""
        if type(message) is Identify:
            return self._identity
        link = self._links.get(peer)
        if type(message) is Hello:
            if link is not None and session <= link.session:
                return None
            self._links[peer] = Link(session)
            return MessageReceived(peer, message, raw, role)
        verdict = self._in_order(link, session, number)
        if verdict is None:
            self.close(peer)
            return SayHello()
        return MessageReceived(peer, message, raw, role) if verdict else None


class NodeLinks(_Links):
    """A worker's or client's sessions with routers."""

    def __init__(self) -> None:
        super().__init__()
        self._session = 0

    def stamp(self, peer: Peer, message: Message) -> Stamp | None:
        """For the next message to ``peer``: HELLO opens a new session; None where there is none."""
        if type(message) is Hello:
            self._session += 1
            self._links[peer] = Link(self._session)
        link = self._links.get(peer)
        return None if link is None else link.stamp()

    def take(self, peer: Peer, session: int, number: int, message: Message) -> MessageReceived | None:
        """What a message means: an event for the machine, or nothing."""
        link = self._links.get(peer)
        if number == OUTSIDE:
            if link is None or session != link.session or (type(message) is Welcome and link.welcomed):
                return None
            if type(message) is Welcome:
                link.welcomed = True
            elif type(message) not in (Refuse, SayHello):
                return None
            return MessageReceived(peer, message)
        if link is None:
            return None
        verdict = self._in_order(link, session, number)
        if verdict is None or (verdict and not link.welcomed):  # what came before WELCOME overtook it
            self.close(peer)
            return MessageReceived(peer, SayHello())
        return MessageReceived(peer, message) if verdict else None
