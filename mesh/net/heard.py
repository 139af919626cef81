"""What was heard of the routers of one mesh: candidates, of which none drives another out.

Anyone on the LAN may announce anything, in anybody's name and with anybody's goodbye. So what a packet says is added to
what others have said, and stays until its own time is over. Each host has a share of the room, by the address that its
packets come from, and its turn: one that announces a thousand routers hides none of another host.
"""

from __future__ import annotations

import ipaddress
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from mesh.messages import PROTOCOL
from mesh.net.endpoints import host_of, tcp_endpoint
from mesh.net.find import Found, Source, in_turns
from mesh.net.interfaces import LanAddress, is_for_others
from mesh.net.namesakes import Namesake

SERVICE = "_mesh-task._tcp.local."
SOURCES_MAX = 128  # a host has one for IPv4, and one or two for IPv6
SHARE_MAX = 32  # addresses of routers that are remembered of one source
ADDRESSES_MAX = 16  # of one router
NAMESAKES_MAX = 4  # that people are told of
LIVES_S_MAX = 120.0  # what is not said again is forgotten, whatever it says of itself
LEAVES_S = 5.0  # after a goodbye, which may be another's: long enough for the router to be asked, and to answer

MESH = "mesh"  # of the texts of an announcement, the one that names the mesh

_KEY_ID = re.compile(r"[0-9a-f]{8}")
_ROUTER_ID = re.compile(r"[0-9a-f]{8,64}")
_SERVICE_MARK = SERVICE.partition(".")[0].encode()


@dataclass(frozen=True, slots=True)
class Record:
    """An announcement as it was heard. ``lives_s``: for how long it is said to hold."""

    name: str
    port: int
    addresses: tuple[str, ...]
    texts: Mapping[str, str]
    lives_s: float = LIVES_S_MAX


@dataclass(slots=True)
class _Candidate:
    """One address of one router, as one source has said. ``version``: of another protocol, where it is not ours."""

    name: str
    router_id: str
    endpoint: str
    version: str
    heard_at: float
    ends_at: float


class Heard:
    """On any thread. ``clock`` gives monotonic seconds. ``mesh``: what namesakes are called."""

    def __init__(self, key_id: str, clock: Callable[[], float] = time.monotonic, mesh: str = "") -> None:
        self._key_id = key_id
        self._mesh = mesh
        self._clock = clock
        self._ours = re.compile(rf"{re.escape(key_id)}-[0-9a-f]{{8}}\.{re.escape(SERVICE)}")
        self._marks = [f"{key_id}-".encode(), *([f"{MESH}={mesh}".encode()] if mesh else [])]
        self._lock = threading.Lock()
        self._shares: dict[str, dict[tuple[str, str], _Candidate]] = {}  # by source; heard of last at the end, both
        self._namesakes: dict[Namesake, float] = {}  # until when; those beyond ``NAMESAKES_MAX`` are let be
        self._places: tuple[LanAddress, ...] = ()
        self._where = "mDNS, which has only begun to listen,"
        self._listens = False
        self._left_out = 0

    @property
    def tried(self) -> str:
        with self._lock:
            self._forget()
            others = {
                c.version for share in self._shares.values() for c in share.values() if c.version != str(PROTOCOL)
            }
            said = self._where
            if others:
                some = ", ".join(sorted(others)[:ADDRESSES_MAX])
                said += f" hears routers of protocol {some}, this is {PROTOCOL}, and"
            return said

    @property
    def left_out(self) -> int:
        """How many candidates found no room, since the start."""
        with self._lock:
            return self._left_out

    @property
    def is_silent(self) -> bool:
        """Whether it is listened, and nothing of this mesh was heard."""
        with self._lock:
            return self._listens and not self._shares

    @property
    def namesakes(self) -> list[Namesake]:
        """Other meshes of this name that are announced."""
        with self._lock:
            self._forget()
            return sorted(self._namesakes)

    def found(self) -> list[Found]:
        """All that may be there: those that were heard of last come first, and each source has its turn."""
        with self._lock:
            self._forget()
            shares = [[c for c in share.values() if c.version == str(PROTOCOL)] for share in self._shares.values()]
        turns: list[list[str]] = []
        ways: dict[str, list[list[str]]] = {}
        for share in reversed(shares):
            share.sort(key=lambda c: (-c.heard_at, *self._distance(c.endpoint)))
            by_router: dict[str, list[str]] = {}
            for candidate in share:
                by_router.setdefault(candidate.router_id, []).append(candidate.endpoint)
            turns.append(list(by_router))
            for router_id, endpoints in by_router.items():
                ways.setdefault(router_id, []).append(endpoints)
        return [
            Found(tuple(in_turns(ways[router_id])), router_id, "announced on the LAN", Source.ANNOUNCED)
            for router_id in in_turns(turns)
        ]

    def listens(self, places: Iterable[LanAddress]) -> None:
        """It is listened there from now on."""
        with self._lock:
            self._places = tuple(places)
            names = ", ".join(dict.fromkeys(place.interface for place in self._places))
            self._where = f"mDNS on {names}" if names else "mDNS, for which no interface is up,"
            self._listens = bool(names)

    def fails(self, why: str) -> None:
        with self._lock:
            self._where = f"mDNS, which fails ({why}),"
            self._listens = False

    def is_ours(self, name: str) -> bool:
        """Whether a record of this name may be of our mesh."""
        return self._ours.fullmatch(name) is not None

    def concerns(self, data: bytes) -> bool:
        """Whether a packet can say anything of a router of this mesh, or of a namesake: most need not be read."""
        return _SERVICE_MARK in data and any(mark in data for mark in self._marks)

    def put(self, record: Record, source: str) -> None:
        """Add what a packet from ``source`` says; what cannot be of our mesh is let be, but for its name."""
        self._put_namesake(record, source)
        router_id = record.texts.get("id", "")
        named = record.name.removeprefix(f"{self._key_id}-")[:8]
        if not self.is_ours(record.name) or record.texts.get("kid") != self._key_id:
            return
        if not _ROUTER_ID.fullmatch(router_id) or router_id[:8] != named or not 0 < record.port < 65_536:
            return
        now = self._clock()
        ends_at = now + min(record.lives_s, LIVES_S_MAX)
        version = record.texts.get("v", "?")[:8]
        endpoints = [tcp_endpoint(address, record.port) for address in dict.fromkeys(record.addresses)]
        endpoints = [endpoint for endpoint in endpoints if is_for_others(endpoint)]
        endpoints.sort(key=self._distance)
        if not endpoints:
            return
        with self._lock:
            share = self._shares[source] = self._shares.pop(source, {})
            for endpoint in endpoints[:ADDRESSES_MAX]:
                share.pop((router_id, endpoint), None)
                share[router_id, endpoint] = _Candidate(record.name, router_id, endpoint, version, now, ends_at)
            while len(share) > SHARE_MAX:
                del share[next(iter(share))]
                self._left_out += 1
            while len(self._shares) > SOURCES_MAX:
                self._left_out += len(self._shares.pop(next(iter(self._shares))))

    def leave(self, name: str, source: str) -> None:
        """``source`` says goodbye in this name: unless that is said anew, it is believed in a while."""
        with self._lock:
            soon = self._clock() + LEAVES_S
            namesake = Namesake(name.partition("-")[0], source)
            if namesake in self._namesakes:
                self._namesakes[namesake] = min(self._namesakes[namesake], soon)
            for candidate in self._shares.get(source, {}).values():
                if candidate.name == name:
                    candidate.ends_at = min(candidate.ends_at, soon)

    def _put_namesake(self, record: Record, source: str) -> None:
        key_id = record.texts.get("kid", "")
        if not self._mesh or record.texts.get(MESH) != self._mesh or key_id == self._key_id:
            return
        namesake = Namesake(key_id, source)
        with self._lock:
            self._forget()
            if _KEY_ID.fullmatch(key_id) and (namesake in self._namesakes or len(self._namesakes) < NAMESAKES_MAX):
                self._namesakes[namesake] = self._clock() + min(record.lives_s, LIVES_S_MAX)

    def _forget(self) -> None:
        now = self._clock()
        for namesake in [namesake for namesake, ends_at in self._namesakes.items() if ends_at <= now]:
            del self._namesakes[namesake]
        for source, share in list(self._shares.items()):
            for key in [key for key, candidate in share.items() if candidate.ends_at <= now]:
                del share[key]
            if not share:
                del self._shares[source]

    def _distance(self, endpoint: str) -> tuple[bool, bool]:
        """Those in a network that we are in come first, IPv4 before IPv6."""
        ip = ipaddress.ip_address(host_of(endpoint))
        return not any(ip in place.address.network for place in self._places), ip.version == 6
