"""Where a router listens on the LAN: at each address that others may reach, all with one port.

Not at the wildcard address: that would be every container bridge and tunnel, too. So addresses that come later must be
noticed, and ``look`` does. One that goes is told to nobody from then on, and stays bound for a while: its connections
may outlive a short absence of it, and libzmq would cut them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mesh.errors import ConfigError
from mesh.net.adapters import local_adapters
from mesh.net.endpoints import PORT, tcp_endpoint
from mesh.net.interfaces import Adapter, lan_addresses, parse_address
from mesh.net.sockets import AddressTaken

PORTS = range(PORT, 6379)
"""Nobody is known to use them, and 6379 is Redis. A host's routers take them in turn, so
that a firewall needs one rule."""

ADDRESSES_MAX = 32  # a host has a few; temporary ones of IPv6 come and go
GONE_S = 60.0  # that an address stays bound which this host has no more

log = logging.getLogger("mesh.lan")


@dataclass(frozen=True, slots=True, kw_only=True)
class LanOptions:
    """``port`` None: the first of ``PORTS`` that is free. ``advertise``: what others are told instead of our own."""

    port: int | None = None
    interfaces: tuple[str, ...] = ()
    advertise: tuple[str, ...] = ()


class Listening(Protocol):
    """The part of a router's transport that is needed here."""

    def listen(self, tcp: str) -> str: ...

    def unlisten(self, bound: str) -> None: ...


class LanPlaces:
    """Where one router listens on the LAN; ``ports`` are tried instead of those that ``options`` say.

    Raises ``ConfigError`` for options that cannot be.
    """

    def __init__(
        self,
        transport: Listening,
        options: LanOptions,
        adapters: Callable[[], list[Adapter]] = local_adapters,
        clock: Callable[[], float] = time.monotonic,
        *,
        ports: Sequence[int] = (),
    ) -> None:
        self._transport = transport
        self._adapters = adapters
        self._clock = clock
        self._interfaces = options.interfaces
        self._advertise = tuple(str(parse_address(text)) for text in options.advertise)
        self._ports = ports or (PORTS if options.port is None else (options.port,))
        self._bound: dict[str, str] = {}  # what we listen at, by address; the oldest first
        self._there: dict[str, float] = {}  # when each of those was an address of this host last
        self._complained: set[str] = set()
        self.port: int | None = None
        self.addresses: tuple[str, ...] = ()
        lan_addresses(adapters(), options.interfaces)
        self.look()

    @property
    def told(self) -> tuple[str, ...]:
        """The addresses that others are to be told."""
        return () if self.port is None else self._advertise or self.addresses

    @property
    def endpoints(self) -> tuple[str, ...]:
        """What others may connect to."""
        return tuple(tcp_endpoint(address, self.port) for address in self.told if self.port is not None)

    def look(self) -> bool:
        """Look at the interfaces and listen at addresses that are new; whether ``addresses`` changed.

        Raises ``ConfigError`` the first time there is an address and no port is free on it.
        """
        wanted = self._wanted()
        for address in wanted:
            self._bound[address] = self._bound.pop(address, "")  # those that are gone longest come first
        if self.port is None:
            self._choose_port(wanted)
        else:
            for address in wanted:
                if not self._bound[address]:
                    self._try(address)
        now = self._clock()
        self._there |= dict.fromkeys(wanted, now)
        for address in list(self._bound):
            if now - self._there[address] >= GONE_S or len(self._bound) > ADDRESSES_MAX:
                self._leave(address)
        before, self.addresses = self.addresses, tuple(address for address in wanted if self._bound.get(address))
        return self.addresses != before

    def _leave(self, address: str) -> None:
        del self._there[address]
        self._complained.discard(address)
        bound = self._bound.pop(address)
        if bound:
            self._transport.unlisten(bound)

    def _wanted(self) -> list[str]:
        adapters = self._adapters()
        there = {adapter.name for adapter in adapters}
        named = [name for name in self._interfaces if name in there]
        chosen = [] if self._interfaces and not named else [a.text for a in lan_addresses(adapters, named)]
        own = {str(address.ip) for adapter in adapters for address in adapter.addresses}
        return list(dict.fromkeys(chosen + [a for a in self._advertise if a in own]))[:ADDRESSES_MAX]

    def _choose_port(self, addresses: Sequence[str]) -> None:
        """The first port that nobody else has on any of our addresses."""
        taken: AddressTaken | None = None
        for port in self._ports:
            try:
                for address in addresses:
                    self._listen(address, port)
            except AddressTaken as error:
                taken = error
                for address, bound in self._bound.items():
                    if bound:
                        self._transport.unlisten(bound)
                        self._bound[address] = ""
                continue
            if any(self._bound.values()):
                self.port = port
            return
        raise ConfigError(f"{taken}: choose another port with --port")

    def _try(self, address: str) -> None:
        assert self.port is not None
        try:
            self._listen(address, self.port)
        except AddressTaken as error:
            if address not in self._complained:
                self._complained.add(address)
                log.warning("%s; other addresses of this router are not affected", error)

    def _listen(self, address: str, port: int) -> None:
        try:
            self._bound[address] = self._transport.listen(tcp_endpoint(address, port))
        except AddressTaken:
            raise
        except ConfigError as error:  # gone again, or not usable yet as IPv6 is at first: the next look tries anew
            log.debug("%s", error)
