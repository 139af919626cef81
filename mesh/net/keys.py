"""The mesh key: one secret of 32 bytes, the key pair of each role derived from it, and what is handed out of it.

A *role key* is the part of it that lets nodes in as clients, or as workers, and no more.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import zmq
from zmq.utils import z85

from mesh.errors import ConfigError, NoKey
from mesh.model import Role
from mesh.net.private_files import create_private, read_private, replace_private
from mesh.settings import command_of

_PREFIX = "mesh1"
_SUFFIX = ".key"
_ROOT_BYTES = 32
_CURVE_BYTES = 32
_KEY_ID_BYTES = 4
_CHECK_BYTES = 5
_FILE_BYTES_MAX = 1_000
_ROLES = {f"{_PREFIX}-{role}": role for role in (Role.CLIENT, Role.WORKER)}
_INCOMPLETE = "the key is incomplete or has a wrong letter; copy it again, from {prefix}: to its end"
MESH_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class CurvePair:
    """A CURVE key pair, both halves as Z85 text."""

    public: bytes
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """What one connection to a router takes: a key pair of its own, and the public key of the router."""

    own: CurvePair
    router: bytes


@dataclass(frozen=True, slots=True)
class MeshKey:
    """The secret of one mesh. Whoever holds it may do anything in that mesh."""

    root: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """The form people copy: ``mesh1:<secret>:<checksum>``."""
        return f"{_PREFIX}:{_base32(self.root)}:{_checksum(self.root)}"

    @property
    def key_id(self) -> str:
        """Eight hex digits that tell meshes apart and give nothing away."""
        return blake2b(b"kid", key=self.root).hexdigest()[:8]

    def role(self, role: Role) -> CurvePair:
        """The key pair that proves ``role`` in this mesh."""
        secret = blake2b(b"mesh/curve/v1/" + role.value.encode(), key=self.root, digest_size=32).digest()
        return _pair(secret)

    @property
    def store(self) -> bytes:
        """The secret by which routers know what one of them wrote into a store that others can write to."""
        return blake2b(b"mesh/store/v1", key=self.root, digest_size=32).digest()

    def entry(self, role: Role, command: str = "mesh") -> Entry:
        """How a node of ``role`` comes in. A client does as an admin: who holds all of the key may do all."""
        return Entry(self.role(Role.ADMIN if role is Role.CLIENT else role), self.router.public)

    def export(self, role: Role) -> RoleKey:
        """What lets nodes in as ``role``, and nothing else."""
        return RoleKey(role, self.router, self.role(role))

    @property
    def router(self) -> RouterKey:
        """By what nodes know the routers of this mesh."""
        return RouterKey(self.key_id, self.role(Role.ROUTER).public)


@dataclass(frozen=True, slots=True)
class RouterKey:
    """The public key of a mesh's routers, and the id of the mesh key it comes from. No secret."""

    key_id: str
    public: bytes

    @property
    def text(self) -> str:
        return _seal("router", self.data)

    @property
    def data(self) -> bytes:
        return bytes.fromhex(self.key_id) + z85.decode(self.public)


@dataclass(frozen=True, slots=True)
class RoleKey:
    """Lets nodes in as ``role``; its holder can be neither a router nor of another role.

    ``own`` is derived from the mesh key, or made on the node and enrolled.
    """

    role: Role
    router: RouterKey
    own: CurvePair

    @property
    def text(self) -> str:
        """The form people copy: ``mesh1-<role>:<router's public key and this secret>:<checksum>``."""
        return _seal(self.role.value, self.router.data + z85.decode(self.own.secret))

    @property
    def key_id(self) -> str:
        """That of the mesh key."""
        return self.router.key_id

    def entry(self, role: Role, command: str = "mesh") -> Entry:
        """How a node of ``role`` comes in. Raises ``NoKey`` for another role than this key's, with what to type.

        ``command``: as ``command_of`` gives it for the mesh.
        """
        if role is not self.role:
            what, source = (
                ("is not the whole key of the mesh", "key show --secret")
                if role is Role.ADMIN
                else (f"makes no {role}", f"key export --role {role}")
            )
            raise NoKey(
                f"this machine has a {self.role}'s key, which {what}: get another with "
                f"`{command} {source}` where the mesh key is, then `{command} join --force KEY`"
            )
        return Entry(self.own, self.router.public)


AnyKey = MeshKey | RoleKey


def new_key() -> MeshKey:
    """Make a key from the system's randomness."""
    return MeshKey(secrets.token_bytes(_ROOT_BYTES))


def new_role_key(role: Role, router: RouterKey) -> RoleKey:
    """Make a key that a node has for itself: its public half is to be enrolled."""
    return RoleKey(role, router, _pair(secrets.token_bytes(_CURVE_BYTES)))


def parse_key(text: str) -> AnyKey:
    """Read the text form. Raises ``ConfigError``, which never repeats the text: it may be all but one letter secret."""
    parts = text.strip().split(":")
    if len(parts) == 3 and parts[0] in _ROLES:
        data = _open(parts, _KEY_ID_BYTES + 2 * _CURVE_BYTES)
        secret_at = _KEY_ID_BYTES + _CURVE_BYTES
        return RoleKey(_ROLES[parts[0]], _router_key(data), _pair(data[secret_at:]))
    if len(parts) != 3 or parts[0] != _PREFIX:
        raise ConfigError(
            "this is not a mesh key: it should look like mesh1:<52 letters>:<8 letters>, or begin with mesh1-client: "
            "or mesh1-worker:"
        )
    root = _from_base32(parts[1])
    if len(root) != _ROOT_BYTES or not hmac.compare_digest(parts[2].encode(), _checksum(root).encode()):
        raise ConfigError(_INCOMPLETE.format(prefix=_PREFIX))
    return MeshKey(root)


def parse_router_key(text: str) -> RouterKey:
    """Read what ``RouterKey.text`` gave. Raises ``ConfigError``."""
    parts = text.strip().split(":")
    if len(parts) != 3 or parts[0] != f"{_PREFIX}-router":
        raise ConfigError("this is no router's public key: it should look like mesh1-router:<58 letters>:<8 letters>")
    return _router_key(_open(parts, _KEY_ID_BYTES + _CURVE_BYTES))


def node_key_text(public: bytes) -> str:
    """The form in which a node's public key is copied: a shell has nothing to say about it."""
    return _seal("node", z85.decode(public))


def parse_node_key(text: str) -> bytes:
    """Read what ``node_key_text`` gave. Raises ``ConfigError``."""
    parts = text.strip().split(":")
    if len(parts) != 3 or parts[0] != f"{_PREFIX}-node":
        raise ConfigError("this is no node's public key: it should look like mesh1-node:<52 letters>:<8 letters>")
    return z85.encode(_open(parts, _CURVE_BYTES))


def whole_key(key: AnyKey, what: str) -> MeshKey:
    """``key`` where it is the whole key of a mesh. Raises ``NoKey``: ``what`` takes that."""
    if isinstance(key, MeshKey):
        return key
    raise NoKey(f"{what} takes the whole key of the mesh, and this machine has a {key.role}'s")


def key_path(mesh: str, environ: Mapping[str, str]) -> Path:
    """Where this user's key of ``mesh`` is kept. Raises ``ConfigError`` for a name that cannot be a file's."""
    check_mesh_name(mesh)
    config = environ.get("XDG_CONFIG_HOME")
    home = environ.get("HOME")
    base = Path(config) if config else (Path(home) if home else Path.home()) / ".config"
    return base / "taskmesh" / f"{mesh}{_SUFFIX}"


def check_mesh_name(mesh: str) -> None:
    """Raise ``ConfigError`` unless ``mesh`` can be part of a file name and of an mDNS record."""
    if not MESH_NAME.fullmatch(mesh):
        raise ConfigError(f"mesh name {mesh!r}: use 1 to 64 letters, digits, '-' and '_'")


def key_of_environment(environ: Mapping[str, str]) -> AnyKey | None:
    """The key in ``MESH_KEY``; None where there is none. Raises ``ConfigError`` for a bad one."""
    text = environ.get("MESH_KEY")
    try:
        return parse_key(text) if text else None
    except ConfigError as error:
        raise ConfigError(f"MESH_KEY: {error}") from None


def load(mesh: str, environ: Mapping[str, str]) -> AnyKey:
    """The key from ``MESH_KEY``, else from this user's file. Raises ``NoKey``, or ``ConfigError`` for a bad one."""
    given = key_of_environment(environ)
    if given is not None:
        return given
    path = key_path(mesh, environ)
    key = read_key(path)
    if key is None:
        named = command_of(mesh)
        raise NoKey(
            f"no key of mesh {mesh!r} on this machine: neither MESH_KEY nor {path}. Who runs the mesh types "
            f"`{named} key show --secret`, which prints it, then you `{named} join KEY`"
        )
    return key


def load_or_create(mesh: str, environ: Mapping[str, str]) -> AnyKey:
    """Like ``load``, but make a key where there is none. Processes that start together end up with the same one."""
    given = key_of_environment(environ)
    if given is not None:
        return given
    path = key_path(mesh, environ)
    return read_key(path) or save(path, new_key())


def save(path: Path, key: AnyKey) -> AnyKey:
    """Write ``key`` to ``path`` unless a key is there already; give back the one that is there now."""
    create_private(path, key.text + "\n")
    kept = read_key(path)
    if kept is None:
        raise NoKey(f"{path} was removed while this process started; start it again")
    return kept


def replace_key(path: Path, key: AnyKey) -> AnyKey:
    """Write ``key`` to ``path``, whatever is there; give it back."""
    replace_private(path, key.text + "\n")
    return key


def read_key(path: Path) -> AnyKey | None:
    """The key in a file; None where there is none. Raises ``ConfigError``."""
    text = read_private(path, _FILE_BYTES_MAX)
    try:
        return None if text is None else parse_key(text)
    except ConfigError as error:
        instead = f". `{command_of(path.stem)} join --force` replaces what is in it" if path.suffix == _SUFFIX else ""
        raise ConfigError(f"{path} is damaged: {error}{instead}") from None


def _pair(secret: bytes) -> CurvePair:
    encoded = z85.encode(secret)
    return CurvePair(zmq.curve_public(encoded), encoded)


def _router_key(data: bytes) -> RouterKey:
    return RouterKey(data[:_KEY_ID_BYTES].hex(), z85.encode(data[_KEY_ID_BYTES : _KEY_ID_BYTES + _CURVE_BYTES]))


def _seal(kind: str, data: bytes) -> str:
    prefix = f"{_PREFIX}-{kind}"
    return f"{prefix}:{_base32(data)}:{_seal_check(prefix, data)}"


def _open(parts: list[str], length: int) -> bytes:
    """What ``_seal`` was given. Raises ``ConfigError``."""
    prefix, body, check = parts
    data = _from_base32(body)
    if len(data) != length or not hmac.compare_digest(check.encode(), _seal_check(prefix, data).encode()):
        raise ConfigError(_INCOMPLETE.format(prefix=prefix))
    return data


def _seal_check(prefix: str, data: bytes) -> str:
    return _base32(blake2b(prefix.encode() + data, digest_size=_CHECK_BYTES, person=b"mesh/check/v1").digest())


def _from_base32(text: str) -> bytes:
    try:
        return base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except ValueError:
        return b""


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()


def _checksum(root: bytes) -> str:
    return _base32(blake2b(b"mesh/check/v1", key=root, digest_size=_CHECK_BYTES).digest())
