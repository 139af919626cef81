"""The nodes that have keys of their own, and the file in which a router finds who they are.

A line for each: name, role and public key. No line is secret, but who may write here lets in whom he likes.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mesh.errors import ConfigError
from mesh.model import Role
from mesh.net.keys import key_path, node_key_text, parse_node_key
from mesh.net.private_files import read_private, replace_private

NODES_MAX = 10_000
_LINE_BYTES_MAX = 256
_NAME = re.compile(r"[A-Za-z0-9@._-]{1,64}")
_ROLES = {role.value: role for role in (Role.CLIENT, Role.WORKER)}


@dataclass(frozen=True, slots=True)
class EnrolledNode:
    """A node that comes in with a key of its own; ``public`` is that key's public half, as Z85."""

    name: str
    role: Role
    public: bytes


def enrolment_path(mesh: str, environ: Mapping[str, str]) -> Path:
    """Where the nodes of ``mesh`` are listed that this user's routers let in. Raises ``ConfigError``."""
    return key_path(mesh, environ).with_suffix(".authorized_nodes")


def make_node(name: str, role: str, public: str) -> EnrolledNode:
    """A node by what is written of it. Raises ``ConfigError``."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"node name {name[:80]!r}: use 1 to 64 letters, digits and any of @ . _ -")
    if role not in _ROLES:
        raise ConfigError(f"role {role[:80]!r} of node {name}: it is worker or client")
    return EnrolledNode(name, _ROLES[role], parse_node_key(public))


def read_nodes(path: Path) -> list[EnrolledNode]:
    """The nodes listed in a file, none where it is missing. Raises ``ConfigError``."""
    nodes: dict[str, EnrolledNode] = {}
    owners: dict[bytes, EnrolledNode] = {}
    for number, line in enumerate(_lines(path), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            if len(words) != 3:
                raise ConfigError("a line has a name, a role and a public key")
            node = make_node(*words)
        except ConfigError as error:
            raise ConfigError(f"{path}, line {number}: {error}") from None
        earlier = nodes.get(node.name) or owners.get(node.public)
        if earlier is not None:
            what = "name" if earlier.name == node.name else f"key, as that of {earlier.name},"
            raise ConfigError(f"{path}, line {number}: this {what} stands there already: delete one of the two lines")
        nodes[node.name] = owners[node.public] = node
    if len(nodes) > NODES_MAX:
        raise ConfigError(f"{path} lists more than {NODES_MAX} nodes")
    return list(nodes.values())


def enroll(path: Path, node: EnrolledNode, *, replace: bool = False) -> None:
    """Add ``node``. Raises ``ConfigError`` where another name has its key.

    Also where its name has another key, unless it is to ``replace`` that.
    """
    with _alone(path):
        nodes = {known.name: known for known in read_nodes(path)}
        if nodes.get(node.name, node) != node and not replace:
            raise ConfigError(f"node {node.name} is enrolled already, with another key or role: --force replaces that")
        for known in nodes.values():
            if known.public == node.public and known.name != node.name:
                raise ConfigError(f"this is the key of node {known.name}: each has its own; or revoke that one first")
        _write(path, (nodes | {node.name: node}).values())


def revoke(path: Path, name: str) -> list[str]:
    """Remove the node of this name, with all that have its key; their names. What is wrong in other lines stays.

    Raises ``ConfigError`` where there is none, and where routers cannot read what is left.
    """
    with _alone(path):
        lines = _lines(path)
        entries = [line.split() if not line.lstrip().startswith("#") else [] for line in lines]
        publics = {word for words in entries if words[:1] == [name] for word in words[2:]}
        out = [words[:1] == [name] or not publics.isdisjoint(words[2:]) for words in entries]
        if not any(out):
            raise ConfigError(f"no node {name[:80]!r} is enrolled in {path}")
        replace_private(path, "".join(f"{line}\n" for line, goes in zip(lines, out, strict=True) if not goes))
        try:
            read_nodes(path)
        except ConfigError as error:
            raise ConfigError(
                f"node {name[:80]} is off the list, but routers that run go on with the list from before until this "
                f"is mended: {error}"
            ) from None
        return [words[0] for words, goes in zip(entries, out, strict=True) if goes]


class EnrolmentFile:
    """What a router has last read; it looks again where the file is another than then."""

    def __init__(self, path: Path) -> None:
        """Raises ``ConfigError`` where the file is not as it should be: a router does not start on it."""
        self.path = path
        self._seen = self._look()
        self.nodes = read_nodes(path)

    def changed(self) -> bool:
        """Whether ``nodes`` are others now. Raises ``ConfigError``, once for each change, and keeps those it has."""
        seen = self._look()
        if seen == self._seen:
            return False
        self._seen = seen
        before, self.nodes = self.nodes, read_nodes(self.path)
        return before != self.nodes

    def _look(self) -> tuple[int, ...] | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


def _lines(path: Path) -> list[str]:
    return (read_private(path, NODES_MAX * _LINE_BYTES_MAX) or "").splitlines()


def _write(path: Path, nodes: Iterable[EnrolledNode]) -> None:
    lines = [f"{node.name} {node.role} {node_key_text(node.public)}\n" for node in nodes]
    if len(lines) > NODES_MAX:
        raise ConfigError(f"{path} lists {NODES_MAX} nodes already, and no more are read")
    replace_private(path, "# name role public-key: who may come in; `mesh node` writes it\n" + "".join(lines))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Nobody else changes the file meanwhile."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
