"""Asks by multicast who announces a router, from each address of this host: does it go out, and does anything come in?

For one look, and for people: what routers are used is ``mesh.net.mdns``'s. Imported only where it is needed.
"""

from __future__ import annotations

import secrets
import select
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from zeroconf import DNSIncoming, DNSOutgoing, DNSPointer, DNSQuestion, DNSText  # type: ignore[attr-defined]  # it has them

from mesh.net.heard import SERVICE
from mesh.net.interfaces import LanAddress
from mesh.net.keys import MESH_NAME
from mesh.net.mdns import MESH

PORT = 5353
GROUP, GROUP6 = "224.0.0.251", "ff02::fb"
PACKET_BYTES_MAX = 9_000  # as mDNS has it
ASK_EVERY_S = 0.6
ANNOUNCED_MAX = 64  # remembered of one probe
_PTR, _IN = 12, 1
_IP_MULTICAST_ALL, _IPV6_MULTICAST_ALL = 49, 29  # of Linux: else we would hear what other processes listen for


@dataclass(slots=True)
class Probe:
    """What came of one address. ``announced``: key ids of meshes, and the addresses from which they were said.

    ``names``: those of the meshes, by key id.
    """

    place: LanAddress
    own_heard: bool = False
    announced: set[tuple[str, str]] = field(default_factory=set)
    names: dict[str, str] = field(default_factory=dict)
    problem: str = ""


def ask(places: Sequence[LanAddress], within_s: float) -> list[Probe]:
    """Ask from each of ``places``, and listen for that long; at once where there are none."""
    probes = [Probe(place) for place in places]
    sockets: dict[socket.socket, Probe] = {}
    question = new_question()
    try:
        for probe in probes:
            try:
                sockets[open_at(probe.place)] = probe
            except OSError as error:
                probe.problem = f"UDP port {PORT} cannot be used: {error.strerror}"
        deadline, ask_at = time.monotonic() + within_s, 0.0
        while sockets and (now := time.monotonic()) < deadline:
            if now >= ask_at:
                ask_at = now + ASK_EVERY_S
                for sender, probe in sockets.items():
                    _ask(sender, probe, question)
            readable, _, _ = select.select([*sockets], [], [], min(ask_at, deadline) - now if ask_at > now else 0.0)
            for receiver in readable:
                _take(receiver, sockets[receiver], question)
    finally:
        for opened in sockets:
            opened.close()
    return probes


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
            opened.bind(("::", PORT))
            group = socket.inet_pton(socket.AF_INET6, GROUP6) + struct.pack("@I", index)
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
        else:
            own = socket.inet_aton(place.text)
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
            with suppress(OSError):
                opened.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
            opened.bind(("", PORT))
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + own)
    except OSError:
        opened.close()
        raise
    return opened


def send(sender: socket.socket, packet: bytes) -> None:
    """Say it to all on the network. Raises ``OSError``."""
    sender.sendto(packet, (GROUP6 if sender.family == socket.AF_INET6 else GROUP, PORT))


def _ask(sender: socket.socket, probe: Probe, question: bytes) -> None:
    try:
        send(sender, question)
    except OSError as error:
        probe.problem = f"multicast cannot be sent: {error.strerror}"


def _take(receiver: socket.socket, probe: Probe, question: bytes) -> None:
    try:
        data, source = receiver.recvfrom(PACKET_BYTES_MAX)
    except OSError:
        return
    if data == question:
        probe.own_heard = True
        return
    said = DNSIncoming(data)
    if not said.valid or said.is_query():
        return
    for record in said.answers():
        if isinstance(record, DNSPointer) and record.key == SERVICE and record.ttl:
            key_id = _key_id(record.alias)
            if key_id and len(probe.announced) < ANNOUNCED_MAX:
                probe.announced.add((key_id, source[0].partition("%")[0]))
        elif isinstance(record, DNSText) and record.key.endswith(f".{SERVICE}") and record.ttl:
            key_id, name = _key_id(record.name), _mesh_name(record.text)
            if key_id and name and len(probe.names) < ANNOUNCED_MAX:
                probe.names[key_id] = name


def _key_id(name: str) -> str:
    """That of the mesh whose router has a record of this name; empty where it is none of ours."""
    key_id, dash, _ = name.partition("-")
    return key_id if dash and len(key_id) <= ANNOUNCED_MAX and key_id.isalnum() else ""


def _mesh_name(text: bytes) -> str:
    """What a record says that its mesh is called; empty where it does not say so, or what no mesh can be called."""
    mark = f"{MESH}=".encode()
    while text:
        size = text[0]
        item, text = text[1 : size + 1], text[size + 1 :]
        name = item.removeprefix(mark).decode("ascii", "replace")
        if item.startswith(mark) and MESH_NAME.fullmatch(name):
            return name
    return ""
