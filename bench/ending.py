"""Processes of a measurement live no longer than who started them, however that one ends."""

from __future__ import annotations

import os
from collections.abc import Mapping

from nodes.supervised import end_with

STARTER = "BENCH_STARTER"


def started_here(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a process that is to end with this one."""
    return {**(os.environ if environ is None else environ), STARTER: str(os.getpid())}


def end_with_starter() -> None:
    """Have the kernel end this process when its starter is gone; raises ``ConfigError`` when it is gone already."""
    end_with(int(os.environ.get(STARTER, os.getppid())))


def end_with_parent(pid: int) -> None:
    """The same in a child that Python has forked, or had forked by a server that ends by itself."""
    if os.getppid() == pid:
        end_with(pid)
