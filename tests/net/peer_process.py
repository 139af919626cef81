"""The other end, in a process that can be killed: ``router`` echoes, ``dealer`` says hello and reads, or floods.

With ``PEER_HEARTBEAT_MS`` a router's heartbeats are that far apart, instead of two seconds.
"""

from __future__ import annotations

import os
import sys
import time

import zmq

from mesh.model import Role
from mesh.net import sockets
from mesh.net.dealer_transport import DealerTransport
from mesh.net.keys import parse_key
from mesh.net.router_transport import RouterTransport


def router(key_text: str, ipc: str, stall_s: str = "0") -> None:
    """Echo for ever, after taking nothing for ``stall_s``."""
    if interval_ms := int(os.environ.get("PEER_HEARTBEAT_MS", "0")):
        sockets._ROUTER |= heartbeats(interval_ms)
    transport = RouterTransport(ipc=ipc, tcp="tcp://127.0.0.1:*", key=parse_key(key_text), outbox_bytes_max=1 << 20)
    print(*transport.endpoints, flush=True)
    time.sleep(float(stall_s))
    while True:
        for peer, frames, _ in transport.receive(1.0).messages:
            transport.send(peer, frames)


def heartbeats(interval_ms: int) -> dict[zmq.SocketOption, int]:
    """Options of a router whose peers are lost after three heartbeats of this interval."""
    silence_ms = 3 * interval_ms
    return {zmq.HEARTBEAT_IVL: interval_ms, zmq.HEARTBEAT_TIMEOUT: silence_ms, zmq.HEARTBEAT_TTL: silence_ms}


def dealer(key_text: str, endpoint: str, flood_bytes: str = "0") -> None:
    """Say hello and read for ever; with ``flood_bytes`` write as much as goes instead."""
    transport = DealerTransport(outbox_bytes_max=8 << 20)
    peer = transport.connect(endpoint, parse_key(key_text), Role.WORKER)
    while not transport.receive(1.0).connected:
        pass
    transport.send(peer, [b"hello"])
    print("up", flush=True)
    flood, written = bytes(int(flood_bytes)), 1
    while True:
        transport.receive(0.0 if flood else 1.0)
        while flood and written - transport.counters.sent < 100:
            transport.send(peer, [flood])
            written += 1


if __name__ == "__main__":
    {"router": router, "dealer": dealer}[sys.argv[1]](*sys.argv[2:])
