"""Task ids: 36 characters in the shape of a UUID of version 8, cheap to make, never made twice and not to be guessed.

    ssssssss-bbbb-8brr-8rrr-rrrrrrrrrrrr

s: the second in which the block of this id was drawn, b: the number of the block in this process, r: 68 bits of the
system's randomness, for who knows an id may cancel its task and read its result. What is made one after the other
stands together in a store, whose commits then write few pages.
"""

from __future__ import annotations

import os
import time
from itertools import count

from mesh.api.forking import on_fork_in_child

_BLOCK = 64  # ids that stand together
_BLOCKS = 16  # drawn at once: each draw lets go of the interpreter's lock, and the connection takes few tasks then
_TAIL = b"rr-8rrr-rrrrrrrrrrrr"
_SIZE = 36
_RANDOM = [at + _SIZE - len(_TAIL) for at, digit in enumerate(_TAIL) if digit == ord("r")]  # where random digits stand


class TaskIds:
    """Makes task ids; any thread may call it."""

    __slots__ = ("__weakref__", "_left", "_numbers")

    def __init__(self) -> None:
        self._numbers = count()
        self.renew()
        on_fork_in_child(self.renew)

    def renew(self) -> None:
        """Draw anew: a forked child would give out what its parent does."""
        self._left: list[str] = []

    def __call__(self) -> str:
        try:
            return self._left.pop()
        except IndexError:
            drawn = _draw(next(self._numbers))
        task_id = drawn.pop()
        self._left = drawn  # two threads that come here at once lose a block, and share none
        return task_id


def _draw(number: int) -> list[str]:
    second = f"{int(time.time()) & 0xFFFF_FFFF:08x}"
    digits = os.urandom(_BLOCKS * _BLOCK * len(_RANDOM) // 2).hex().encode()
    rows = bytearray()
    for block in reversed(range(number * _BLOCKS, (number + 1) * _BLOCKS)):  # they are taken from the end
        place = f"{block & 0xF_FFFF:05x}"
        rows += (f"{second}-{place[:4]}-8{place[4]}".encode() + _TAIL) * _BLOCK
    count = _BLOCKS * _BLOCK
    for column, at in enumerate(_RANDOM):  # a column at a time: each id by itself costs more
        rows[at::_SIZE] = digits[column * count : (column + 1) * count]
    text = rows.decode()
    return [text[at : at + _SIZE] for at in range(0, len(text), _SIZE)]
