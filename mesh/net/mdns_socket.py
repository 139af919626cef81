"""A socket that hears and says mDNS at one address of this host, and what zeroconf leaves to us of packets.

Imported only where it is needed, as zeroconf is.
"""

from __future__ import annotations

import secrets
import socket
import struct
from contextlib import suppress

from zeroconf import DNSOutgoing, DNSQuestion  # type: ignore[attr-defined]  # it has them

from mesh.net.heard import SERVICE
from mesh.net.interfaces import LanAddress
from mesh.net.mdns import MDNS_PORT

GROUP, GROUP6 = "224.0.0.251", "ff02::fb"
PACKET_BYTES_MAX = 9_000  # as mDNS has it
_PTR, _IN = 12, 1
_IP_MULTICAST_ALL, _IPV6_MULTICAST_ALL = 49, 29  # of Linux: else we would hear what other processes listen for


def new_question() -> bytes:
    """Who announces a router?"""
    asked = DNSOutgoing(0, multicast=True)
    asked.add_question(DNSQuestion(SERVICE, _PTR, _IN))
    # Receivers ignore the id of what is multicast, so it can be our mark.
    return secrets.token_bytes(2) + asked.packets()[0][2:]


def open_at(place: LanAddress) -> socket.socket:
    """A socket that hears what is said on the network of ``place``, and asks there. Raises ``OSError``."""
    index = socket.if_nametoindex(place.interface)
    six = place.address.version == 6
    opened = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if six:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            with suppress(OSError):
                opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
            opened.bind(("::", MDNS_PORT))
            group = socket.inet_pton(socket.AF_INET6, GROUP6) + struct.pack("@I", index)
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
        else:
            own = socket.inet_aton(place.text)
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
            with suppress(OSError):
                opened.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
            opened.bind(("", MDNS_PORT))
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + own)
    except OSError:
        opened.close()
        raise
    return opened


def send(sender: socket.socket, packet: bytes) -> None:
    """Say it to all on the network. Raises ``OSError``."""
    sender.sendto(packet, (GROUP6 if sender.family == socket.AF_INET6 else GROUP, MDNS_PORT))


def texts_of(text: bytes) -> dict[str, str]:
    """The properties in a TXT record: each has its length before it."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        key, _, value = text[at + 1 : at + 1 + text[at]].decode(errors="replace").partition("=")
        found.setdefault(key, value)
        at += 1 + text[at]
    return found
