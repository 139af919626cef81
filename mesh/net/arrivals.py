"""What a transport hands over: messages, peers that came and went, and what went wrong, in words for people."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NamedTuple

from mesh.model import Buffer, Peer, Role

Arrived = tuple[Peer, list[Buffer], Role | None]
"""Who sent it, its frames, and what the sender's key allows (None: same user on the same host, may be anything).

The first frame of a message is always ``bytes``; a large later one is a view of ZeroMQ's own memory.
"""


class Trouble(enum.StrEnum):
    """What kind of problem it is, for code; the text is for people."""

    WRONG_KEY = "wrong_key"
    DENIED = "denied"  # a node's own key, which the router does not let in
    NO_COMMON_SECURITY = "no_common_security"  # one side uses a mesh key, the other does not
    GREETING = "greeting"  # a connection failed before its first message
    NO_ROUTER = "no_router"
    TOO_MANY_FRAMES = "too_many_frames"
    OUTBOX_FULL = "outbox_full"
    FLOOD = "flood"  # a connection sends more than is taken of it
    GARBLED = "garbled"  # a connection sends what the protocol forbids again and again
    PEER_CONFLICT = "peer_conflict"


MISFITS = frozenset({Trouble.WRONG_KEY, Trouble.DENIED, Trouble.NO_COMMON_SECURITY})
"""That a router does not take the key that we have, or has none of its mesh."""


class Problem(NamedTuple):
    """Something a person may have to know; ``peer`` where it concerns one."""

    kind: Trouble
    text: str
    peer: Peer | None = None


@dataclass(slots=True)
class Arrivals:
    """All that one ``receive`` found.

    Read ``messages``, then ``heard``, ``lost`` and ``connected``: that is how it happened.
    """

    messages: list[Arrived] = field(default_factory=list)
    heard: list[Peer] = field(default_factory=list)  # those whose message has come in part, and none whole of late
    lost: list[Peer] = field(default_factory=list)
    connected: list[Peer] = field(default_factory=list)
    readable: list[int] = field(default_factory=list)  # watched file descriptors
    writable: list[int] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


@dataclass(slots=True)
class Counters:
    """What a transport has done since it was made."""

    received: int = 0
    sent: int = 0
    delayed: int = 0  # messages that had to wait in an outbox
    cut: int = 0  # peers whose outbox was full
    flooding: int = 0  # connections ended because they sent more than was taken of them
    garbled: int = 0  # connections ended because they sent what the protocol forbids again and again
    lost: int = 0  # peers reported as lost
    dropped: int = 0  # messages with too many frames, of a peer in conflict, or of one that was cut off
    revoked: int = 0  # connections cut because their node is enrolled no more
    probes_sent: int = 0
    probes_received: int = 0
    greetings_failed: int = 0  # those of which libzmq tells; it says nothing of a frame that is too large, say
    other_keys: int = 0  # of them, those that had another mesh key, or none that is let in
    mute: int = 0  # connections that ended before their first message, with no greeting that failed
    keys_accepted: int = 0
    keys_denied: int = 0
