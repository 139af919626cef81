"""Task ids: 36 characters in the shape of a UUID of version 8, cheap to make and never made twice.

    ssssssss-rrrr-8rrr-rrrr-rrrrnnnnnnnn

s: seconds when the series began, r: 58 random bits of the series, n: a counter. One series serves a process until its
counter is used up; a forked child begins its own.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable

from mesh.api.forking import on_fork_in_child

# The counter runs from 2**32 to 2**33, so that cutting "0x1" off hex() leaves eight digits: half the price of "%08x".
_COUNTER_START = 1 << 32
_COUNTER_END = 2 << 32


class TaskIds:
    """Makes task ids; any thread may call it."""

    __slots__ = ("__weakref__", "_series")

    def __init__(self) -> None:
        self.renew()
        on_fork_in_child(self.renew)

    def renew(self) -> None:
        """Begin a new series."""
        # Prefix and counter travel as one object: a thread between the two would pair an old prefix with a new number.
        self._series: tuple[str, Callable[[], int]] = (_new_prefix(), itertools.count(_COUNTER_START).__next__)

    def __call__(self) -> str:
        prefix, advance = self._series
        number = advance()
        if number >= _COUNTER_END:
            self.renew()
            return self()
        return prefix + hex(number)[3:]


def _new_prefix() -> str:
    random = secrets.randbits(58)
    digits = f"{random:015x}"  # the leading digit holds two bits; with the variant bits it becomes 8, 9, a or b
    return (
        f"{int(time.time()) & 0xFFFF_FFFF:08x}-{digits[1:5]}-8{digits[5:8]}-"
        f"{0x8 | int(digits[0], 16):x}{digits[8:11]}-{digits[11:15]}"
    )
