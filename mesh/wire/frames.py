"""The header of an envelope: 16 bytes before its MessagePack body, big-endian.

magic "MT" | version 1 byte | flags 1 byte, zero | session 4 bytes | number 8 bytes
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from mesh.errors import ProtocolError
from mesh.messages import PROTOCOL
from mesh.model import Buffer

MAGIC = b"MT"
HEADER_BYTES = 16

FRAMES_MAX = 1_024
"""Frames of one message: the envelope and the parts of its payloads. Transports drop a message of more unread."""

_HEADER = struct.Struct(">2sBBIQ")


class Header(NamedTuple):
    """What every version of the protocol begins with; ``session`` and ``number`` are for ``mesh.core.links``."""

    version: int
    session: int
    number: int


def write_header(envelope: bytearray, session: int, number: int) -> None:
    """Fill in the first bytes of ``envelope``."""
    _HEADER.pack_into(envelope, 0, MAGIC, PROTOCOL, 0, session, number)


def read_header(envelope: Buffer) -> Header:
    """The header of any version. Raises ``ProtocolError`` where there is none.

    Whoever must answer a node of another version reads with this what to refuse.
    """
    try:
        magic, version, flags, session, number = _HEADER.unpack_from(envelope)
    except struct.error:
        raise ProtocolError(f"truncated: {memoryview(envelope).nbytes} bytes, a header has {HEADER_BYTES}") from None
    if magic != MAGIC:
        raise ProtocolError(f"wrong magic {magic.hex()}: this is not the protocol of mesh")
    if version == PROTOCOL and flags:
        raise ProtocolError(f"flags {flags:#04x} have no meaning in protocol {PROTOCOL}")
    return Header(version, session, number)


def check_version(header: Header) -> None:
    """Raise ``ProtocolError`` unless the other end speaks our version."""
    if header.version != PROTOCOL:
        raise ProtocolError(f"mesh speaks protocol {PROTOCOL}, the other end {header.version}")
