"""What was seen, before anybody judges it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from mesh.net.find import Source


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """``place``: where the key is or would be. ``problem``: why there is none that can be used."""

    place: str
    is_file: bool = True
    key_id: str = ""
    role: str = ""  # of a role key; empty for the whole key
    public: str = ""  # what a router lists of a node with a role key of its own
    problem: str = ""


@dataclass(frozen=True, slots=True)
class HostFacts:
    """This side of all comparisons."""

    name: str
    version: str
    python: str
    protocol: int


class Reach(enum.Enum):
    """What came of an attempt to connect to a TCP port."""

    OPEN = "open"
    CLOSED = "closed"  # somebody said that nobody listens
    SILENT = "silent"  # nothing came back
    UNREACHABLE = "unreachable"  # said by this host, or by one on the way
    UNNAMED = "unnamed"  # there is no such host name


class Greeting(enum.Enum):
    """What came of a handshake with the key."""

    DONE = "done"
    WRONG_KEY = "wrong_key"
    DENIED = "denied"  # it knows no node with this key, or no more
    NO_ROUTER = "no_router"  # something else listens there
    NONE = "none"  # not in time


@dataclass(frozen=True, slots=True)
class AddressFacts:
    """One address of a router. ``reach`` None: a socket of this host."""

    endpoint: str
    reach: Reach | None = None
    greeting: Greeting = Greeting.NONE
    problem: str = ""


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    name: str
    version: str
    python: str


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """``free_bytes`` None: no disk, or the router does not say. ``given_up``: things its start did not save."""

    level: str
    full: bool
    free_bytes: int | None = None
    free_bytes_min: int = 0  # with less it accepts nothing
    given_up: int = 0


@dataclass(frozen=True, slots=True)
class StatusFacts:
    """What a router says of itself. ``ahead_s``: its clock before ours, known to ``ahead_error_s`` either way."""

    name: str
    version: str
    store: StoreFacts
    ahead_s: float
    ahead_error_s: float
    workers: tuple[WorkerFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class RouterFacts:
    """One router that may be there. ``refused``: why it will have no session with this host."""

    how: str
    source: Source
    addresses: tuple[AddressFacts, ...]
    router_id: str | None = None
    used: str = ""  # the address of what was measured
    round_trips_s: tuple[float, ...] = ()
    sent_bytes: int = 0  # of those the router has told that it has them
    sent_in_s: float = 0.0
    refused: str = ""
    status: StatusFacts | None = None
    key_id: str | None = None  # as its record on this host says
    told: tuple[str, ...] = ()  # addresses of other routers, by its word

    @property
    def named(self) -> str:
        """For people: what it calls itself, else where it is."""
        if self.status is not None:
            return self.status.name
        return self.used or (self.addresses[0].endpoint if self.addresses else "nowhere")


@dataclass(frozen=True, slots=True)
class Announced:
    """A router that somebody announces: its mesh's key id, who has said so, and what the mesh is called, if known."""

    key_id: str
    source: str
    mesh: str = ""


@dataclass(frozen=True, slots=True)
class MulticastFacts:
    """What came of asking by multicast from one address of this host."""

    interface: str
    address: str
    own_heard: bool = False  # our own question came back to us
    announced: tuple[Announced, ...] = ()
    problem: str = ""


class FirewallKind(enum.StrEnum):
    FIREWALLD = "firewalld"
    UFW = "ufw"
    IPTABLES = "iptables"  # before the next: its rules are shown by that, too, and are not opened by its commands
    NFTABLES = "nftables"


@dataclass(frozen=True, slots=True)
class FirewallFacts:
    """The firewalls that are installed; whether each is active, None where only root could tell.

    ``chains``: those of nftables that what comes in has to pass, each with its family and table.
    """

    active: Mapping[FirewallKind, bool | None] = field(default_factory=dict)
    chains: tuple[str, ...] = ()
