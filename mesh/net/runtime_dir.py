"""Where routers of this user on this host can be found, without any network: a private directory of small files.

A router holds a lock on its file for as long as it lives, so a file that can be locked is a dead router's, even
when its process id belongs to somebody else by now.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path

from mesh.errors import ConfigError
from mesh.net.keys import check_mesh_name
from mesh.net.sockets import IPC_PATH_BYTES_MAX

RUN, TMP = Path("/run/user"), Path("/tmp")


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterRecord:
    """What a router tells about itself. ``lan``: what other hosts may connect to; ``started_at``: UTC seconds."""

    mesh: str
    router_id: str
    pid: int
    ipc: str | None
    tcp: str | None
    key_id: str | None
    started_at: float
    lan: tuple[str, ...] = ()


class Publication:
    """A router's file; it stands while this object, and the process, lives."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def withdraw(self) -> None:
        """Remove the file."""
        if self._descriptor >= 0:
            _unlink_if_same(self._path, self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


class RuntimeDir:
    """This user's runtime directory: ``MESH_RUNTIME_DIR``, ``$XDG_RUNTIME_DIR/taskmesh`` or ``/tmp/taskmesh-<uid>``.

    Made where it is missing. Raises ``ConfigError`` when it belongs to, or is open to, somebody else.

    cron and some ssh sessions do not set ``XDG_RUNTIME_DIR``, so where it has its usual value, or none, routers are
    looked for in both places.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        chosen = environ.get("MESH_RUNTIME_DIR")
        system = environ.get("XDG_RUNTIME_DIR")
        if chosen:
            self.path = Path(chosen)
        elif system and Path(system).is_dir():
            self.path = Path(system) / "taskmesh"
        else:
            self.path = _in_tmp()
        _make_private(self.path)
        usual = [_in_run(), _in_tmp()]
        self.places = [self.path, *(path for path in usual if path != self.path)] if self.path in usual else [self.path]
        """Where routers of this user may be found, this directory first."""

    def ipc_endpoint(self, mesh: str, router_id: str) -> str:
        """The address for a router's local socket: in this directory where the name fits, else in a shorter one."""
        check_mesh_name(mesh)
        name = f"{mesh}.{router_id}"
        path = self.path / f"{name}.ipc"
        if len(bytes(path)) > IPC_PATH_BYTES_MAX:
            digest = blake2b(bytes(path), digest_size=8).hexdigest()
            path = _in_tmp() / f"{digest}.ipc"
            _make_private(path.parent)
        return f"ipc://{path}"

    def publish(self, record: RouterRecord) -> Publication:
        """Let the processes of this user find a router."""
        check_mesh_name(record.mesh)
        path = self.path / f"{record.mesh}.{record.router_id}.json"
        draft = self.path / f".{path.name}.{secrets.token_hex(4)}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(descriptor, json.dumps(asdict(record)).encode())
            os.rename(draft, path)
        except BaseException:
            os.close(descriptor)
            draft.unlink(missing_ok=True)
            raise
        return Publication(path, descriptor)

    def routers(self, mesh: str) -> list[RouterRecord]:
        """The routers of ``mesh`` that live, oldest first; files of dead ones are removed."""
        check_mesh_name(mesh)
        there = [place for place in self.places if place == self.path or _is_private(place)]
        found = [_read(path) for place in there for path in place.glob(f"{mesh}.*.json")]
        return sorted((r for r in found if r is not None and r.mesh == mesh), key=lambda r: r.started_at)


def _read(path: Path) -> RouterRecord | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None  # withdrawn meanwhile
    with os.fdopen(descriptor) as file:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                record = RouterRecord(**json.loads(file.read(10_000)))
                return replace(record, lan=tuple(record.lan))
            except (ValueError, TypeError):
                return None  # of another version
        _unlink_if_same(path, descriptor)
        return None


def _unlink_if_same(path: Path, descriptor: int) -> None:
    """A router that came back under the same id may have put a new file there."""
    try:
        if os.path.samestat(os.stat(path), os.fstat(descriptor)):
            path.unlink()
    except FileNotFoundError:
        return


def _in_run() -> Path:
    return RUN / str(os.getuid()) / "taskmesh"


def _in_tmp() -> Path:
    return TMP / f"taskmesh-{os.getuid()}"


def _is_private(path: Path) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & 0o077


def _make_private(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = os.lstat(path)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot make the runtime directory: {error.strerror}; set MESH_RUNTIME_DIR"
        ) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise ConfigError(f"{path} is not a directory of user {os.getuid()}: remove it, or set MESH_RUNTIME_DIR")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigError(f"{path} is open to other users: type `chmod 700 {path}`")
