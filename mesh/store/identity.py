"""Who a router is by its store, where no other place says it: by its machine and where the store is."""

from __future__ import annotations

import platform
from hashlib import blake2b
from pathlib import Path


def identity_at(place: str) -> str:
    """The same for each start on the same store, so that nodes find the socket of a restarted router where it was.

    Of two machines that have one name, as many have that were set up from one image, each has its own.
    """
    return blake2b(f"{this_machine()}:{place}".encode(), digest_size=6).hexdigest()


def this_machine() -> str:
    """What tells this machine from others."""
    try:
        machine = Path("/etc/machine-id").read_text().strip()
    except OSError:
        machine = ""
    return f"{machine}:{platform.node()}"
