"""Where a router listens, and with which mesh key: a socket has one, so each key that counts has places of its own.

The key that has been there longest stays where it was told to listen; the one that a rotation brings takes the next
ports. When the old one goes, the new one listens where that did, too. Only a rotation changes keys while a router runs:
a file that was replaced in any other way counts from the next start on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mesh.errors import ConfigError
from mesh.net.adapters import local_adapters
from mesh.net.interfaces import Adapter
from mesh.net.keys import MeshKey
from mesh.net.lan import LanOptions, LanPlaces
from mesh.net.mdns import Announcement
from mesh.net.router_transport import RouterTransport
from mesh.net.sockets import AddressTaken

PORTS_TRIED = 8  # after the one that was asked for
PORT_MAX = 65_535

log = logging.getLogger("mesh.router")


@dataclass(frozen=True, slots=True)
class Door:
    """The transport as ``LanPlaces`` needs it, for one key."""

    transport: RouterTransport
    key: MeshKey

    def listen(self, tcp: str) -> str:
        return self.transport.listen(tcp, self.key)

    def unlisten(self, bound: str) -> None:
        self.transport.unlisten(bound)


class Doors:
    """``keys`` count, newest first; ``read_keys`` gives those that do now. Raises ``ConfigError``.

    Each key is announced by itself; ``new_announcement`` makes what does that, for a key's id.
    """

    def __init__(
        self,
        transport: RouterTransport,
        tcp: str | None,
        lan: LanOptions | None,
        keys: Sequence[MeshKey],
        read_keys: Callable[[], Sequence[MeshKey]],
        new_announcement: Callable[[str], Announcement],
        adapters: Callable[[], list[Adapter]] = local_adapters,
    ) -> None:
        self._transport = transport
        self._tcp = tcp
        self._lan = lan
        self._read_keys = read_keys
        self._new_announcement = new_announcement
        self._adapters = adapters
        self._announcements: dict[MeshKey, Announcement] = {}
        self._shown: dict[MeshKey, tuple[int, tuple[str, ...], tuple[str, ...]]] = {}
        self._complained = ""
        self.keys = list(keys)
        self._bound: dict[tuple[MeshKey, bool], str] = {}
        self._places: dict[tuple[MeshKey, bool], LanPlaces] = {}
        for key, is_first in self._wanted():
            self._open(key, is_first)

    @property
    def tcp(self) -> str | None:
        """Where this host's nodes come in with the newest key."""
        return next((bound for (key, _), bound in self._bound.items() if key == self.keys[0]), None)

    @property
    def lan(self) -> tuple[str, ...]:
        """Where nodes of other hosts come in with the newest key."""
        return tuple(at for (key, _), places in self._places.items() if key == self.keys[0] for at in places.endpoints)

    def announce(self) -> None:
        """Tell other hosts where it listens to them now: with each key at one port, that from the start if it may."""
        for key in self.keys:
            found = [self._places.get((key, True)), self._places.get((key, False))]
            places = next((p for p in found if p is not None and p.port is not None), None)
            if places is None or places.port is None:
                continue
            shown = (places.port, places.told, places.addresses)
            if self._shown.get(key) == shown:
                continue  # to say it anew would begin with a goodbye
            self._shown[key] = shown
            if key not in self._announcements:
                self._announcements[key] = self._new_announcement(key.key_id)
            self._announcements[key].show(places.port, places.told, through=places.addresses)
        for key in set(self._announcements) - set(self.keys):
            self._announcements.pop(key).end()

    def fall_silent(self) -> None:
        """Begin to say goodbye."""
        for announcement in self._announcements.values():
            announcement.end()

    def close(self) -> None:
        """Say goodbye; may wait a moment for each key."""
        for announcement in self._announcements.values():
            announcement.close()

    def look(self) -> bool:
        """Follow a rotation, and the addresses of this host; whether a place is new or gone."""
        before = self.keys
        self._follow()
        if set(before) - set(self.keys):
            return True  # where the old key was asked for there is room at the next look
        changed = before != self.keys
        for key, is_first in self._wanted():
            try:
                if self._open(key, is_first):
                    log.info("mesh key %s is asked for at %s", key.key_id, self._where(key))
                    changed = True
            except ConfigError as error:
                self._complain(str(error))
        return any([places.look() for places in self._places.values()]) or changed

    def _follow(self) -> None:
        try:
            keys = list(self._read_keys())
        except ConfigError as error:
            self._complain(f"{error}; the keys from before count")
            return
        if not set(keys) & set(self.keys):
            self._complain(
                f"the key was replaced by {keys[0].key_id}, not rotated: that counts after a restart, or once the key "
                "from before is in its .old file, too, as `mesh key rotate` says"
            )
            return
        for key in set(self.keys) - set(keys):
            log.info("mesh key %s counts no more; connections cut: %d", key.key_id, self._transport.forget_key(key))
            self._bound = {place: bound for place, bound in self._bound.items() if place[0] != key}
            self._places = {place: places for place, places in self._places.items() if place[0] != key}
        self.keys = keys

    def _wanted(self) -> list[tuple[MeshKey, bool]]:
        """Each key, and whether it is to listen where this router was told to, or beside that."""
        return [(self.keys[-1], True), *((key, False) for key in self.keys[:-1])]

    def _open(self, key: MeshKey, is_first: bool) -> bool:
        """Listen where it does not yet; whether there was anything to do. Raises ``ConfigError``."""
        place = (key, is_first)
        new = False
        if self._tcp is not None and place not in self._bound:
            self._bound[place] = self._listen(key, self._tcp, is_first)
            new = True
        if self._lan is not None and place not in self._places:
            self._places[place] = self._listen_on_lan(key, self._lan, is_first)
            new = True
        return new

    def _listen(self, key: MeshKey, tcp: str, is_first: bool) -> str:
        host, _, port = tcp.rpartition(":")
        if is_first or port == "*":
            return self._transport.listen(tcp, key)
        taken: AddressTaken | None = None
        for beside in _ports_after(int(port)):
            try:
                return self._transport.listen(f"{host}:{beside}", key)
            except AddressTaken as error:
                taken = error
        raise ConfigError(f"{taken}: listen at another port with --listen")

    def _listen_on_lan(self, key: MeshKey, lan: LanOptions, is_first: bool) -> LanPlaces:
        ports = () if lan.port is None or is_first else _ports_after(lan.port)
        return LanPlaces(Door(self._transport, key), lan, self._adapters, ports=ports)

    def _where(self, key: MeshKey) -> str:
        at = [bound for (known, _), bound in self._bound.items() if known == key]
        at += [endpoint for (known, _), places in self._places.items() if known == key for endpoint in places.endpoints]
        return ", ".join(at)

    def _complain(self, text: str) -> None:
        if text != self._complained:
            log.warning("%s", text)
        self._complained = text


def _ports_after(port: int) -> Sequence[int]:
    """The places of a key that a rotation brings. Raises ``ConfigError`` where there are none."""
    after = range(port + 1, min(port + PORTS_TRIED, PORT_MAX) + 1)
    if not after:
        raise ConfigError(f"no port follows {port} for the key that a rotation brings: choose a lower one")
    return after
