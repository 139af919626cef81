"""Asks by multicast who announces a router, from each address of this host: does it go out, and does anything come in?

For people: where nodes look for routers is ``mesh.net.mdns``. Imported only where it is needed.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from zeroconf import DNSIncoming, DNSPointer, DNSText  # type: ignore[attr-defined]  # it has them

from mesh.net.heard import MESH, SERVICE
from mesh.net.interfaces import LanAddress
from mesh.net.keys import MESH_NAME
from mesh.net.mdns import MDNS_PORT
from mesh.net.mdns_socket import PACKET_BYTES_MAX, new_question, open_at, send, texts_of

ASK_EVERY_S = 0.6
ANNOUNCED_MAX = 64  # remembered of one look
KEY_ID_CHARS_MAX = 64  # ours has 8; another version may have more


@dataclass(slots=True)
class Look:
    """What came of one address. ``announced``: key ids of meshes, and the addresses from which they were said.

    ``names``: those of the meshes, by key id.
    """

    place: LanAddress
    own_heard: bool = False
    announced: set[tuple[str, str]] = field(default_factory=set)
    names: dict[str, str] = field(default_factory=dict)
    problem: str = ""


def ask(places: Sequence[LanAddress], within_s: float) -> list[Look]:
    """Ask from each of ``places``, and listen for that long; at once where there are none."""
    looks = [Look(place) for place in places]
    sockets: dict[socket.socket, Look] = {}
    question = new_question()
    try:
        for look in looks:
            try:
                sockets[open_at(look.place)] = look
            except OSError as error:
                look.problem = f"UDP port {MDNS_PORT} cannot be used: {error.strerror}"
        deadline, ask_at = time.monotonic() + within_s, 0.0
        while sockets and (now := time.monotonic()) < deadline:
            if now >= ask_at:
                ask_at = now + ASK_EVERY_S
                for sender, look in sockets.items():
                    _ask(sender, look, question)
            readable, _, _ = select.select([*sockets], [], [], min(ask_at, deadline) - now if ask_at > now else 0.0)
            for receiver in readable:
                _take(receiver, sockets[receiver], question)
    finally:
        for opened in sockets:
            opened.close()
    return looks


def _ask(sender: socket.socket, look: Look, question: bytes) -> None:
    try:
        send(sender, question)
    except OSError as error:
        look.problem = f"multicast cannot be sent: {error.strerror}"


def _take(receiver: socket.socket, look: Look, question: bytes) -> None:
    try:
        data, source = receiver.recvfrom(PACKET_BYTES_MAX)
    except OSError:
        return
    if data == question:
        look.own_heard = True
        return
    said = DNSIncoming(data)
    if not said.valid or said.is_query():
        return
    for record in said.answers():
        if isinstance(record, DNSPointer) and record.key == SERVICE and record.ttl:
            key_id = _key_id(record.alias)
            if key_id and len(look.announced) < ANNOUNCED_MAX:
                look.announced.add((key_id, source[0].partition("%")[0]))
        elif isinstance(record, DNSText) and record.key.endswith(f".{SERVICE}") and record.ttl:
            key_id, name = _key_id(record.name), texts_of(record.text).get(MESH, "")
            if key_id and MESH_NAME.fullmatch(name) and len(look.names) < ANNOUNCED_MAX:
                look.names[key_id] = name


def _key_id(name: str) -> str:
    """That of the mesh whose router has a record of this name; empty where it is none of ours."""
    key_id, dash, _ = name.partition("-")
    return key_id if dash and len(key_id) <= KEY_ID_CHARS_MAX and key_id.isalnum() else ""
