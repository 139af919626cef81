"""Who has a journal: what is written into its lock, and whether that process is still there."""

from __future__ import annotations

import os
import platform
import secrets
from pathlib import Path

import msgspec
from msgspec import Struct


class Holder(Struct, frozen=True):
    """A process that has a journal. ``where`` tells process ids of one host, boot and container from all others.

    ``connection``: the number of its connection to the server, 0 where that is not known.
    """

    token: str
    pid: int
    started: str
    where: str
    host: str
    connection: int = 0

    @property
    def text(self) -> bytes:
        """As it is written into the lock."""
        return msgspec.json.encode(self)

    @property
    def name(self) -> str:
        """For people."""
        return f"pid {self.pid} on {self.host}"


def this_holder() -> Holder:
    """This process, with a new token."""
    pid = os.getpid()
    return Holder(secrets.token_hex(16), pid, _started(pid), _where(), platform.node())


def read_holder(text: bytes) -> Holder | None:
    """Who wrote a lock; None where that was none of us."""
    try:
        return msgspec.json.decode(text, type=Holder)
    except msgspec.DecodeError:
        return None


def is_gone(holder: Holder) -> bool:
    """Whether this process can be seen not to be there any more."""
    return bool(holder.where) and holder.where == _where() and _started(holder.pid) != holder.started


def _where() -> str:
    """Empty where it cannot be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process started, in the kernel's count; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
