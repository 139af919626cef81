"""What carries no MAC in Redis: of which type each key is, and the numbers in a router's ``meta``.

Who can write to the server can put anything there. So types are looked at when a journal is taken, and each number is
read here, or in a script by the same rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from mesh.errors import StoreDamaged

WAY_OUT = "start the router once with --salvage, which sets them aside and goes on with the rest"
FORMAT = 2  # of keys and rows: ``meta`` says which a journal has
DIGITS = {"epoch": 15, "commits": 15, "seq": 15, "batches": 15, "boot": 9}
"""Of the numbers in ``meta``: so many digits a script can count with, and messages can carry."""

_SHARED = {
    "keys": "hash",
    "outcomes": "hash",
    "expiries": "zset",
    "functions": "hash",
    "users": "hash",
    "blob_at": "hash",
    "adopted": "hash",
    "names": "hash",
    "dues": "hash",
    "routers": "set",
}
_SET_ASIDE = ("journal", "marks", "nodes", "schedules", "positions", "apps")
_OWN = {
    "meta": "hash",
    "lock": "string",
    "moved": "string",
    **dict.fromkeys(_SET_ASIDE, "hash"),
    **{f"{place}:damaged": "hash" for place in _SET_ASIDE},
    "functions": "zset",
    "staged": "set",
    "early": "set",
}
_NUMBER = re.compile(rb"\d+")


def some_kinds(names: Iterable[str], *, shared: bool) -> dict[str, str]:
    """The types of these keys, of all routers or of each."""
    return {name: (_SHARED if shared else _OWN)[name] for name in names}


def kinds(base: str, mine: str) -> dict[str, str]:
    """The type of each key that has a fixed name, of all routers and of the one whose keys begin with ``mine``."""
    return {base + name: kind for name, kind in _SHARED.items()} | {mine + name: kind for name, kind in _OWN.items()}


def read_count(value: bytes | int | None, field: str, where: str) -> int:
    """A number in ``meta``. Raises ``StoreDamaged`` where it is none that a router can have written."""
    if value is None:
        return 0
    text = b"%d" % value if isinstance(value, int) else value
    if not _NUMBER.fullmatch(text) or len(text) > DIGITS[field]:
        raise StoreDamaged(f"{where}: {wrong_number(field)}; {WAY_OUT}")
    return int(text)


def wrong_number(field: str) -> str:
    """In words."""
    return f"field {field} is not a number that a router wrote"


def wrong_kind(key: str) -> str:
    """In words."""
    return f"key {key} is not of the type that a router writes"
