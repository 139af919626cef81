"""Which verbs a session may send, and what its key must allow besides.

A HELLO opens a session of the role that its key allows, and a connection keeps its key: so who has a session is asked
for its role only. What changes other people's tasks without naming them takes the key of an admin, which the whole
mesh key is; who came in by this user's own socket has no key, and may do all.
"""

from __future__ import annotations

from mesh.messages import (
    AskLease,
    Cancel,
    Claim,
    Credit,
    Declare,
    Fire,
    GetFunction,
    Message,
    PutFunction,
    Query,
    Released,
    Schedule,
    Settled,
    Submit,
    Unwatch,
    Watch,
)
from mesh.model import Role

CLIENT_VERBS: frozenset[type[Message]] = frozenset({Submit, Watch, Unwatch, Cancel, Query, PutFunction, Schedule})
WORKER_VERBS: frozenset[type[Message]] = frozenset(
    {Credit, Settled, Released, GetFunction, AskLease, Declare, Fire, Claim}
)
ADMIN_QUERIES = frozenset({"purge"})


def may_be(key: Role | None, role: Role) -> bool:
    """Whether a key of the role ``key`` (None: no key was needed) opens a session of ``role``."""
    return key is None or key is Role.ADMIN or key is role


def may_ask(key: Role | None, what: str) -> bool:
    """Whether such a key may send this QUERY in a client's session."""
    return what not in ADMIN_QUERIES or key is None or key is Role.ADMIN
