"""Routers announce themselves on the LAN, and nodes hear of them: suggestions where to knock, and no more than that.

Anyone on the LAN may announce anything, and one that was killed stays announced for an hour. So what is heard here is
never believed: a router is who proves that it holds the key, and it is gone when its connection is.

Both ends have a thread of their own, and only there zeroconf is imported: a mesh on one machine never needs it.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from queue import SimpleQueue

from mesh.messages import PROTOCOL
from mesh.net.find import Found, Source
from mesh.net.interfaces import LanAddress, is_for_others, tcp_endpoint

SERVICE = "_mesh-task._tcp.local."
ROUTERS_MAX = 64  # heard of at once
ADDRESSES_MAX = 16  # of one router
CLOSE_S = 2.0  # saying goodbye takes 0.4 s

_ROUTER_ID = re.compile(r"[0-9a-f]{8,64}")

log = logging.getLogger("mesh.mdns")


@dataclass(frozen=True, slots=True)
class About:
    """The router that is announced. ``incarnation`` grows with each of its starts."""

    key_id: str
    router_id: str
    incarnation: int

    @property
    def name(self) -> str:
        return f"{self.key_id}-{self.router_id[:8]}.{SERVICE}"

    @property
    def texts(self) -> dict[str, str]:
        return {"v": str(PROTOCOL), "kid": self.key_id, "id": self.router_id, "inc": str(self.incarnation)}


@dataclass(frozen=True, slots=True)
class Shown:
    """Where the router can be reached, and the addresses of this host through which that is said."""

    port: int
    addresses: tuple[str, ...]
    through: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """An announcement as it was heard."""

    name: str
    port: int
    addresses: tuple[str, ...]
    texts: Mapping[str, str]


class Announcement:
    """Announces one router, from the first ``show`` on. Never waits, but for ``close``; what fails is logged once."""

    def __init__(self, about: About) -> None:
        self._shown: SimpleQueue[Shown | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(about,), name="mesh-announcement", daemon=True)

    def show(self, port: int, addresses: Sequence[str], through: Sequence[str]) -> None:
        """Announce these addresses from now on, instead of any before; none: announce nothing."""
        self._shown.put(Shown(port, tuple(addresses), tuple(through)))
        if not self._thread.is_alive():
            self._thread.start()

    def end(self) -> None:
        """Begin to say goodbye."""
        self._shown.put(None)

    def close(self) -> None:
        """Say goodbye, for at most ``CLOSE_S``."""
        self.end()
        if self._thread.is_alive():
            self._thread.join(CLOSE_S)

    def _run(self, about: About) -> None:
        speak: Callable[[About, SimpleQueue[Shown | None]], None] = import_module("mesh.net.mdns_wire").speak
        speak(about, self._shown)


class Browser:
    """Hears of the routers of one mesh, from now on; on ``interfaces``, where they are named."""

    def __init__(self, key_id: str, interfaces: Sequence[str] = ()) -> None:
        self._heard = Heard(key_id)
        self._closing = Closing()
        threading.Thread(target=self._run, args=(tuple(interfaces),), name="mesh-browser", daemon=True).start()

    @property
    def tried(self) -> str:
        """Where it looks, for an error message."""
        return self._heard.tried

    def found(self) -> list[Found]:
        """What is announced just now; on any thread, and at once."""
        return self._heard.found()

    def close(self) -> None:
        """Hear no more; the thread is not waited for."""
        self._closing.close()

    def _run(self, interfaces: Sequence[str]) -> None:
        listen: Callable[[Heard, Sequence[str], Closing], None] = import_module("mesh.net.mdns_wire").listen
        listen(self._heard, interfaces, self._closing)


class Closing:
    """Tells one who waits somewhere else that it is over, be it before or while it waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._tell: Callable[[], object] | None = None

    def close(self) -> None:
        with self._lock:
            if not self._closed and self._tell is not None:
                self._tell()
            self._closed = True

    def watch(self, tell: Callable[[], object] | None) -> None:
        """Have ``tell`` called once it is over, now if it is; None: no more."""
        with self._lock:
            self._tell = tell
            if self._closed and tell is not None:
                tell()


class Heard:
    """What was heard of the routers of one mesh; on any thread."""

    def __init__(self, key_id: str) -> None:
        self._key_id = key_id
        self._ours = re.compile(rf"{re.escape(key_id)}-[0-9a-f]{{8}}\.{re.escape(SERVICE)}")
        self._lock = threading.Lock()
        self._found: dict[str, Found] = {}
        self._versions: dict[str, str] = {}  # of those that speak another protocol
        self._places: tuple[LanAddress, ...] = ()
        self._where = "mDNS, which has only begun to listen,"

    @property
    def tried(self) -> str:
        with self._lock:
            other = ", ".join(sorted(set(self._versions.values())))
            return self._where + (f" hears routers of protocol {other}, this is {PROTOCOL}, and" if other else "")

    def found(self) -> list[Found]:
        with self._lock:
            return list(self._found.values())

    def listens(self, places: Iterable[LanAddress]) -> None:
        """It is listened there from now on; what was heard elsewhere counts no more."""
        with self._lock:
            self._places = tuple(places)
            names = ", ".join(dict.fromkeys(place.interface for place in self._places))
            self._where = f"mDNS on {names}" if names else "mDNS, for which no interface is up,"
            self._found.clear()
            self._versions.clear()

    def fails(self, why: str) -> None:
        with self._lock:
            self._where = f"mDNS, which fails ({why}),"

    def is_ours(self, name: str) -> bool:
        """Whether a record of this name may be of our mesh."""
        return self._ours.fullmatch(name) is not None

    def put(self, record: Record) -> None:
        """Take in a record, in place of what was known by its name; one that is not of our mesh is let be."""
        if not self.is_ours(record.name) or record.texts.get("kid") != self._key_id:
            return
        version = record.texts.get("v", "?")[:8]
        found = None if version != str(PROTOCOL) else self._read(record)
        with self._lock:
            self._found.pop(record.name, None)
            self._versions.pop(record.name, None)
            if found is not None and len(self._found) < ROUTERS_MAX:
                self._found[record.name] = found
            elif version != str(PROTOCOL) and len(self._versions) < ROUTERS_MAX:
                self._versions[record.name] = version

    def remove(self, name: str) -> None:
        """It says goodbye, or was silent for an hour."""
        with self._lock:
            self._found.pop(name, None)
            self._versions.pop(name, None)

    def _read(self, record: Record) -> Found | None:
        router_id = record.texts.get("id", "")
        named = record.name.removeprefix(f"{self._key_id}-")[:8]
        if not _ROUTER_ID.fullmatch(router_id) or router_id[:8] != named or not 0 < record.port < 65_536:
            return None
        addresses = sorted(dict.fromkeys(record.addresses), key=self._distance)
        endpoints = [tcp_endpoint(address, record.port) for address in addresses]
        endpoints = [endpoint for endpoint in endpoints if is_for_others(endpoint)][:ADDRESSES_MAX]
        return Found(tuple(endpoints), router_id, "announced on the LAN", Source.ANNOUNCED) if endpoints else None

    def _distance(self, address: str) -> tuple[bool, bool]:
        """Those in a network that we are in come first, IPv4 before IPv6."""
        ip = ipaddress.ip_address(address)
        return not any(ip in place.address.network for place in self._places), ip.version == 6
