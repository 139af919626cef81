"""Payloads there and back, for every entrant alike: several under way at a time, the largest alone."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from importlib import import_module
from time import perf_counter
from typing import Any

from bench import rss
from bench.workloads import MIB, PAYLOADS, echoes, under_way

KINDS = ("bytes", "numpy")
LARGE_BYTES = 10 * MIB  # from here on also in seconds
SETTLE_S = 0.05  # what is freed after the last result is freed by then

Wait = Callable[[], Any]


def echo_all(
    submit: Callable[[Any], Wait], kind: str, sizes: Sequence[str], bulk_bytes: int, router_pid: int = 0
) -> dict[str, float]:
    """MB/s of each size, of large ones seconds too; MiB of the process ``router_pid`` (0: none) at the peak and after.

    ``submit`` sends a payload and gives back what waits for it. Raises ``AssertionError`` when another payload comes
    back.
    """
    found: dict[str, float] = {}
    for name in sizes:
        size = PAYLOADS[name]
        payload = _payload(kind, size)
        _echo(submit, payload, 1)
        time.sleep(SETTLE_S if router_pid else 0.0)
        before = _begin(router_pid)
        count = echoes(size, bulk_bytes)
        took_s = _echo(submit, payload, count)
        found[f"{name}_mb_per_s"] = count * size / took_s / 1e6
        if size >= LARGE_BYTES:
            found[f"{name}_s"] = took_s / count
        if router_pid:
            time.sleep(SETTLE_S)
            # Where it has less than before, it has given back what was not of these payloads: of them it keeps nothing.
            kept = max(0, rss.resident_bytes(router_pid) - before)
            # The kernel counts what is resident roughly, so a peak read after it may still be less.
            peak = max(kept, rss.peak_bytes(router_pid) - before)
            found[f"{name}_router_peak_mib"], found[f"{name}_router_kept_mib"] = peak / MIB, kept / MIB
    return found


def _begin(router_pid: int) -> int:
    if not router_pid:
        return 0
    rss.forget_peak(router_pid)
    return rss.resident_bytes(router_pid)


def _echo(submit: Callable[[Any], Wait], payload: Any, count: int) -> float:
    waiting: deque[Wait] = deque()
    limit = under_way(len(memoryview(payload).cast("B")))
    began = perf_counter()
    for _ in range(count):
        if len(waiting) >= limit:
            _check(waiting.popleft()(), payload)
        waiting.append(submit(payload))
    while waiting:
        _check(waiting.popleft()(), payload)
    return perf_counter() - began


def _check(returned: Any, payload: Any) -> None:
    """Its type, its length and its ends: to compare all of it would be measured too."""
    ours, theirs = memoryview(payload).cast("B"), memoryview(returned).cast("B")
    assert type(returned) is type(payload), f"a {type(returned).__name__} came back"
    assert len(ours) == len(theirs) and ours[:8] == theirs[:8] and ours[-8:] == theirs[-8:], "another payload came back"


def _payload(kind: str, size: int) -> Any:
    text = bytes(range(256)) * (size // 256)
    return import_module("numpy").frombuffer(text, dtype="u1").copy() if kind == "numpy" else text
