"""Has an interface send finished frames, ``offload.py INTERFACE``: a bad cable carries none that a card must finish."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
import sys

SIOCETHTOOL = 0x8946
TX_CHECKSUMS, TSO, GSO = 0x17, 0x1F, 0x24  # ETHTOOL_S…


def main(interface: str) -> None:
    with socket.socket() as any_socket:
        for feature in (TSO, GSO, TX_CHECKSUMS):
            value = array.array("B", struct.pack("II", feature, 0))
            fcntl.ioctl(any_socket, SIOCETHTOOL, struct.pack("16sP", interface.encode(), value.buffer_info()[0]))


if __name__ == "__main__":
    main(sys.argv[1])
