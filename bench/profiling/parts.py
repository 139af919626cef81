"""Puts counters around what talks to others in the processes that connect to a router: clients and agents.

They count where they find ``BENCH_COUNTERS`` in their environment; all others have no line of this in them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import mesh.runtime.channels as channels
from bench.profiling.counters import COUNTERS, Counters
from mesh.net.dealer_transport import DealerTransport


def count_if_asked() -> Counters | None:
    """Count in this process, where its environment says so: encoding, decoding and socket calls, without waiting."""
    directory = os.environ.get(COUNTERS)
    if not directory:
        return None
    counters = Counters(Path(directory))
    count(counters, "wire", DealerTransport, "receive", "send")
    count(counters, "wire", channels, "decode_from_router", "encode")
    return counters


def count(counters: Counters, part: str, owner: Any, *names: str) -> None:
    """Count these functions of a class, an object or a module as ``part``."""
    for name in names:
        setattr(owner, name, counters.counted(part, getattr(owner, name)))
