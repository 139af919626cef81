"""Who may come in over TCP: whoever proves a role with a mesh key that counts, and the enrolled nodes.

A *user* names who came in: libzmq tells it with each message of a connection, as ``User-Id``. It is the role, or for an
enrolled node the role, the name and the public key: a name that is enrolled anew with another key is another user.
"""

from __future__ import annotations

from collections.abc import Iterable

from zmq.utils import z85

from mesh.model import Role
from mesh.net.enrolment import EnrolledNode
from mesh.net.keys import MeshKey

_SHARED = (Role.WORKER, Role.CLIENT, Role.ADMIN)


class Roster:
    """The users of one router; ``domain`` is what its socket says of itself when it asks: its mesh key's id."""

    def __init__(self) -> None:
        self._shared: dict[tuple[bytes, bytes], str] = {}  # by domain and public key
        self._enrolled: dict[bytes, str] = {}  # by public key
        self._domains: set[bytes] = set()
        self._roles: dict[str, Role] = {}

    def set_keys(self, keys: Iterable[MeshKey]) -> None:
        """These mesh keys count, and no others."""
        pairs = [(domain_of(key), role, key.role(role)) for key in keys for role in _SHARED]
        self._shared = {(domain, z85.decode(pair.public)): role.value for domain, role, pair in pairs}
        self._domains = {domain for domain, _, _ in pairs}
        self._roles |= {role.value: role for role in _SHARED}

    def set_nodes(self, nodes: Iterable[EnrolledNode]) -> None:
        """These nodes are enrolled, and no others."""
        known = [(z85.decode(node.public), _user(node), node.role) for node in nodes]
        self._enrolled = {public: user for public, user, _ in known}
        self._roles = {role.value: role for role in _SHARED} | {user: role for _, user, role in known}

    def user(self, domain: bytes, public: bytes) -> str | None:
        """Who has this public key; None for a stranger."""
        if domain not in self._domains:
            return None
        return self._shared.get((domain, public)) or self._enrolled.get(public)

    def role(self, user: str | None) -> Role | None:
        """What a user may be; None for one that may not come in (any more)."""
        return None if user is None else self._roles.get(user)


def domain_of(key: MeshKey) -> bytes:
    """What a socket with this key calls itself when it asks who may come in."""
    return key.key_id.encode()


def _user(node: EnrolledNode) -> str:
    return f"{node.role} {node.name} {node.public.decode()}"
