"""One router per store file: a lock that the kernel gives back when its holder dies."""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path

from mesh.errors import StoreLocked


class FileLock:
    """Held from construction to ``release``. Raises ``StoreLocked`` naming the process that holds it.

    ``moving``: to move this store and no other, or to replace it.
    """

    def __init__(self, path: Path, *, moving: bool = False) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 200, 0).decode(errors="replace").strip() or "an unknown process"
            os.close(self._fd)
            way_out = (
                "a router runs on it, or it is being moved: stop that first"
                if moving
                else "one router uses a store at a time: stop that one, or give this one another --store"
            )
            raise StoreLocked(f"{path}: this store is in use by {holder}; {way_out}") from None
        with suppress(OSError):  # who it is is for people; a full disk must not keep a router from its store
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock back. The file stays: removing it would let two processes lock two files of one name."""
        os.ftruncate(self._fd, 0)
        os.close(self._fd)


def holder_of(path: Path) -> str | None:
    """Who holds the lock, without touching it; None for nobody. The kernel knows, and the file says a name."""
    try:
        inode, text = path.stat().st_ino, path.read_text(errors="replace").strip()
        locks = Path("/proc/locks").read_text()
    except OSError:
        return None
    held = any(line.split()[1] == "FLOCK" and line.split()[5].endswith(f":{inode}") for line in locks.splitlines())
    return (text or "an unknown process") if held else None
