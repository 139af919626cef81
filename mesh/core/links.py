"""Numbers the messages between two nodes, so that a lost, doubled or reordered one is noticed.

ZeroMQ keeps order and loses nothing while a connection lives, and says nothing about what it lost when one dies.
So every message of a session carries a number. HELLO opens a session with number 0; a doubled message is dropped;
a gap ends the session, and the HELLO that follows settles what each side holds. With that, no message needs a
timer of its own: a loss shows at the next message, at the latest at the next heartbeat.

Both the real driver and the simulated network use this file; role machines never see a number.
"""

from __future__ import annotations

import enum

from mesh.model import Peer


class Verdict(enum.Enum):
    """What to do with a message that came."""

    GOOD = "good"
    OPENING = "opening"  # HELLO or WELCOME: a session begins
    STALE = "stale"  # doubled, or of an earlier session: drop it
    BROKEN = "broken"  # no such session, or a gap: it must be opened anew


class Link:
    """One session: its number, and the last message number sent and received."""

    __slots__ = ("received", "sent", "session")

    def __init__(self, session: int) -> None:
        self.session = session
        self.sent = -1
        self.received = 0


class Links:
    """The sessions of one node, by peer."""

    def __init__(self) -> None:
        self._links: dict[Peer, Link] = {}

    def __contains__(self, peer: Peer) -> bool:
        return peer in self._links

    def open(self, peer: Peer, session: int) -> None:
        """Begin a session with ``peer``; the next message sent is number 0."""
        self._links[peer] = Link(session)

    def close(self, peer: Peer) -> None:
        self._links.pop(peer, None)

    def stamp(self, peer: Peer) -> tuple[int, int] | None:
        """(session, number) for the next message to ``peer``; None without a session: it would be lost, drop it."""
        link = self._links.get(peer)
        if link is None:
            return None
        link.sent += 1
        return link.session, link.sent

    def judge(self, peer: Peer, session: int, number: int) -> Verdict:
        """What to do with message ``number`` of ``session``; counts it where it is good."""
        link = self._links.get(peer)
        if number == 0:
            if link is not None and session == link.session and link.received > 0:
                return Verdict.STALE
            return Verdict.OPENING
        if link is None:
            return Verdict.BROKEN
        if session != link.session:
            return Verdict.STALE
        if number <= link.received:
            return Verdict.STALE
        if number != link.received + 1:
            self.close(peer)
            return Verdict.BROKEN
        link.received = number
        return Verdict.GOOD
