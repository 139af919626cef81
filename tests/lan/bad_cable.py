"""A cable that delays and loses: ``bad_cable.py PORT TAP DELAY_S JITTER_S LOSS``, where the bridge is.

It carries frames between a host's end of the cable and a tap that is plugged into the bridge in its place. The kernel's
own netem would do, but not every kernel has it.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import socket
import struct
import sys
import time
from contextlib import suppress

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
ETH_P_ALL = 0x0003
FRAME_BYTES_MAX = 65_536
FRAMES_MAX = 20_000  # on their way; beyond, they are lost as in any full queue


def main(port: str, tap: str, delay_s: float, jitter_s: float, loss: float) -> None:
    host = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    host.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    host.bind((port, 0))
    host.setblocking(False)
    bridge = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(bridge, TUNSETIFF, struct.pack("16sH", tap.encode(), IFF_TAP | IFF_NO_PI))
    print("ready", flush=True)
    chance = random.Random(0)
    on_the_way: list[tuple[float, int, bool, bytes]] = []
    number = 0
    while True:
        patience = max(0.0, on_the_way[0][0] - time.monotonic()) if on_the_way else None
        readable, _, _ = select.select([host, bridge], [], [], patience)
        for end in readable:
            with suppress(OSError):  # the cable is pulled
                frame = host.recv(FRAME_BYTES_MAX) if end is host else os.read(bridge, FRAME_BYTES_MAX)
                if chance.random() >= loss and len(on_the_way) < FRAMES_MAX:
                    number += 1
                    due = time.monotonic() + delay_s + chance.uniform(-jitter_s, jitter_s)
                    heapq.heappush(on_the_way, (due, number, end is host, frame))
        while on_the_way and on_the_way[0][0] <= time.monotonic():
            _, _, to_bridge, frame = heapq.heappop(on_the_way)
            with suppress(OSError):
                if to_bridge:
                    os.write(bridge, frame)
                else:
                    host.send(frame)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(float, sys.argv[3:6]))
