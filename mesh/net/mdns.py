"""Routers announce themselves on the LAN, and nodes hear of them: suggestions where to knock, and no more than that.

Anyone on the LAN may announce anything, and one that was killed stays announced for two minutes. So what is heard here
is never believed: a router is who proves that it holds the key, and it is gone when its connection is.

Both ends have a thread of their own, and only there zeroconf is imported: a mesh on one machine never needs it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from queue import SimpleQueue

from mesh.messages import PROTOCOL
from mesh.net.find import Found
from mesh.net.heard import ADDRESSES_MAX, MESH, SERVICE, Heard
from mesh.net.namesakes import mistaken

MDNS_PORT = 5353  # UDP
CLOSE_S = 2.0  # saying goodbye takes 0.4 s

log = logging.getLogger("mesh.mdns")


@dataclass(frozen=True, slots=True)
class About:
    """The router that is announced."""

    key_id: str
    router_id: str
    mesh: str = ""

    @property
    def name(self) -> str:
        return f"{self.key_id}-{self.router_id[:8]}.{SERVICE}"

    @property
    def texts(self) -> dict[str, str]:
        return {"v": str(PROTOCOL), "kid": self.key_id, "id": self.router_id, MESH: self.mesh}


@dataclass(frozen=True, slots=True)
class Shown:
    """Where the router can be reached, and the addresses of this host through which that is said."""

    port: int
    addresses: tuple[str, ...]
    through: tuple[str, ...]


class Announcement:
    """Announces one router, from the first ``show`` on. Never waits, but for ``close``; what fails is logged once."""

    def __init__(self, about: About) -> None:
        self._shown: SimpleQueue[Shown | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(about,), name="mesh-announcement", daemon=True)

    def show(self, port: int, addresses: Sequence[str], through: Sequence[str]) -> None:
        """Announce these addresses from now on, instead of any before; none: announce nothing.

        As many as fit into one packet, for who hears a part of it cannot know what it is.
        """
        self._shown.put(Shown(port, tuple(addresses)[:ADDRESSES_MAX], tuple(through)))
        if self._thread.ident is None:
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
        try:
            speak: Callable[[About, SimpleQueue[Shown | None]], None] = import_module("mesh.net.mdns_wire").speak
            speak(about, self._shown)
        except Exception:  # else nobody would hear of it: the thread has no other end that is told
            log.exception("this router is announced on the LAN no more: nodes find it by its address only")


class Browser:
    """Hears of the routers of one mesh, from now on; on ``interfaces``, where they are named.

    ``mesh``: what other meshes must be called to be its namesakes.
    """

    def __init__(self, key_id: str, interfaces: Sequence[str] = (), mesh: str = "") -> None:
        self._heard = Heard(key_id, mesh=mesh)
        self._key_id, self._mesh = key_id, mesh
        self._closing = Closing()
        threading.Thread(target=self._run, args=(tuple(interfaces),), name="mesh-browser", daemon=True).start()

    @property
    def tried(self) -> str:
        """Where it looks, for an error message."""
        return self._heard.tried

    @property
    def left_out(self) -> int:
        """How many announced addresses found no room."""
        return self._heard.left_out

    @property
    def is_silent(self) -> bool:
        """Whether it listens, and has heard of nobody."""
        return self._heard.is_silent

    @property
    def mistaken(self) -> str:
        """Which other meshes of this name are announced, and what to do about it; empty where none is."""
        return mistaken(self._mesh, self._key_id, self._heard.namesakes)

    def found(self) -> list[Found]:
        """What is announced just now; on any thread, and at once."""
        return self._heard.found()

    def close(self) -> None:
        """Hear no more; the thread is not waited for."""
        self._closing.close()

    def _run(self, interfaces: Sequence[str]) -> None:
        try:
            listen: Callable[[Heard, Sequence[str], Closing], None] = import_module("mesh.net.mdns_wire").listen
            listen(self._heard, interfaces, self._closing)
        except Exception as error:  # else it would seem to listen for ever
            self._heard.fails(f"{type(error).__name__}: {error}")
            log.exception("routers on the LAN are heard no more")


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
