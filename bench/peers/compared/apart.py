"""A network of one's own that has the loopback interface and nothing else, for peers that listen to every interface.

Linux only, by its namespaces. Where the kernel does not give one to users other than root, that is an ``OSError``.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path

NEW_USER, NEW_NET = 0x10000000, 0x40000000
SET_FLAGS, UP_AND_RUNNING = 0x8914, 0x1 | 0x40

_libc = ctypes.CDLL(None, use_errno=True)


def leave_network() -> None:
    """Move this process, which must have one thread only, into a new one. Its children are born there."""
    user, group = os.geteuid(), os.getegid()
    _call("unshare", NEW_NET if user == 0 else NEW_USER | NEW_NET)
    if user != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sH14x", b"lo", UP_AND_RUNNING))


def join_network(pid: int) -> None:
    """Move this process, which must have one thread only, to where that process is."""
    kinds = (("net", NEW_NET),) if os.geteuid() == 0 else (("user", NEW_USER), ("net", NEW_NET))
    for name, kind in kinds:
        with open(f"/proc/{pid}/ns/{name}") as namespace:
            _call("setns", namespace.fileno(), kind)


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}: this system gives no network of its own to this user")
