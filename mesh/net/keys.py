"""The mesh key: one secret of 32 bytes, its text and its file, and the key pair of each role derived from it."""

from __future__ import annotations

import base64
import hmac
import os
import re
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import zmq
from zmq.utils import z85

from mesh.errors import ConfigError, NoKey
from mesh.model import Role
from mesh.settings import command_of

_PREFIX = "mesh1"
_ROOT_BYTES = 32
_CHECK_BYTES = 5
_MESH_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class CurvePair:
    """A CURVE key pair, both halves as Z85 text."""

    public: bytes
    secret: bytes = field(repr=False)


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
        encoded = z85.encode(secret)
        return CurvePair(zmq.curve_public(encoded), encoded)


def new_key() -> MeshKey:
    """Make a key from the system's randomness."""
    return MeshKey(secrets.token_bytes(_ROOT_BYTES))


def parse_key(text: str) -> MeshKey:
    """Read the text form. Raises ``ConfigError``, which never repeats the text: it may be all but one letter secret."""
    parts = text.strip().split(":")
    if len(parts) != 3 or parts[0] != _PREFIX:
        raise ConfigError("this is not a mesh key: it should look like mesh1:<52 letters>:<8 letters>")
    try:
        root = base64.b32decode(parts[1].upper() + "=" * (-len(parts[1]) % 8))
    except ValueError:
        root = b""
    if len(root) != _ROOT_BYTES or not hmac.compare_digest(parts[2].encode(), _checksum(root).encode()):
        raise ConfigError("the mesh key is incomplete or has a wrong letter; copy it again, from mesh1: to its end")
    return MeshKey(root)


def key_path(mesh: str, environ: Mapping[str, str]) -> Path:
    """Where this user's key of ``mesh`` is kept. Raises ``ConfigError`` for a name that cannot be a file's."""
    check_mesh_name(mesh)
    config = environ.get("XDG_CONFIG_HOME")
    home = environ.get("HOME")
    base = Path(config) if config else (Path(home) if home else Path.home()) / ".config"
    return base / "taskmesh" / f"{mesh}.key"


def check_mesh_name(mesh: str) -> None:
    """Raise ``ConfigError`` unless ``mesh`` can be part of a file name and of an mDNS record."""
    if not _MESH_NAME.fullmatch(mesh):
        raise ConfigError(f"mesh name {mesh!r}: use 1 to 64 letters, digits, '-' and '_'")


def key_of_environment(environ: Mapping[str, str]) -> MeshKey | None:
    """The key in ``MESH_KEY``; None where there is none. Raises ``ConfigError`` for a bad one."""
    text = environ.get("MESH_KEY")
    try:
        return parse_key(text) if text else None
    except ConfigError as error:
        raise ConfigError(f"MESH_KEY: {error}") from None


def load(mesh: str, environ: Mapping[str, str]) -> MeshKey:
    """The key from ``MESH_KEY``, else from this user's file. Raises ``NoKey``, or ``ConfigError`` for a bad one."""
    given = key_of_environment(environ)
    if given is not None:
        return given
    path = key_path(mesh, environ)
    key = _read(path)
    if key is None:
        named = command_of(mesh)
        raise NoKey(
            f"no key of mesh {mesh!r}: neither MESH_KEY nor {path}. Who runs the mesh types `{named} key show "
            f"--secret`, which prints it, then you `{named} join KEY`"
        )
    return key


def load_or_create(mesh: str, environ: Mapping[str, str]) -> MeshKey:
    """Like ``load``, but make a key where there is none. Processes that start together end up with the same one."""
    given = key_of_environment(environ)
    if given is not None:
        return given
    path = key_path(mesh, environ)
    return _read(path) or save(path, new_key())


def save(path: Path, key: MeshKey) -> MeshKey:
    """Write ``key`` to ``path`` unless a key is there already; give back the one that is there now."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(key.text + "\n")
            file.flush()
            os.fsync(file.fileno())
        # link() fails where the file exists and shows it complete where it does not: a rename would replace the
        # key another process has just begun to use.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    kept = _read(path)
    if kept is None:
        raise NoKey(f"{path} was removed while this process started; start it again")
    return kept


def _read(path: Path) -> MeshKey | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the mesh key: {error.strerror}") from None
    with os.fdopen(descriptor) as file:
        found = os.fstat(file.fileno())
        if found.st_uid != os.getuid():
            raise ConfigError(
                f"{path} belongs to user {found.st_uid}, you are {os.getuid()}: type `sudo chown {os.getuid()} {path}`"
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise ConfigError(f"{path} can be read by others: type `chmod 600 {path}`, and think of a new key")
        try:
            return parse_key(file.read(1000))
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()


def _checksum(root: bytes) -> str:
    return _base32(blake2b(b"mesh/check/v1", key=root, digest_size=_CHECK_BYTES).digest())
