"""The routers that welcomed a node of this user on this machine: where they were, for the next start.

A file beside the key, of one mesh. It is a convenience: what cannot be read is removed, what cannot be written is let
be, and two processes that write at once lose at most what one of them will say again. Nothing in it is believed: who
connects to such a router checks that it holds the key.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mesh.errors import ConfigError, NoKey
from mesh.net.interfaces import is_for_others
from mesh.net.keys import key_path, load

ROUTERS_MAX = 64
ENDPOINTS_MAX = 16  # of one router
AGE_S_MAX = 30 * 86_400.0  # a router that nobody met for so long is not knocked at any more
SAID_AGAIN_S = 3_600.0  # what is known already is written anew only after this
FILE_BYTES_MAX = 1 << 20

log = logging.getLogger("mesh.known")


@dataclass(frozen=True, slots=True)
class KnownRouter:
    """A router and its addresses on the network, best first."""

    router_id: str
    endpoints: tuple[str, ...]


class _Entry(msgspec.Struct, frozen=True):
    router_id: str
    endpoints: list[str]
    met_at: float  # UTC seconds


class _File(msgspec.Struct, frozen=True):
    key_id: str  # another key is another mesh, whatever its name
    routers: list[_Entry]  # the last met first


def known_path(mesh: str, environ: Mapping[str, str]) -> Path:
    """Where the file is. Raises ``ConfigError`` for a mesh name that cannot be a file's."""
    return key_path(mesh, environ).with_suffix(".routers.json")


def remember(mesh: str, environ: Mapping[str, str], routers: Sequence[KnownRouter]) -> None:
    """Keep that these were met just now. Addresses that lead nowhere from other hosts are left out."""
    key_id = _key_id(mesh, environ)
    if key_id is None:
        return
    path, now = known_path(mesh, environ), time.time()
    entries = {entry.router_id: entry for entry in _read(path, key_id, now)}
    fresh: dict[str, _Entry] = {}
    for router in routers:
        endpoints = [endpoint for endpoint in router.endpoints if is_for_others(endpoint)][:ENDPOINTS_MAX]
        known = entries.pop(router.router_id, None)
        if known is not None and (not endpoints or _says_the_same(known, endpoints, now)):
            entries[router.router_id] = known
        elif endpoints:
            fresh[router.router_id] = _Entry(router.router_id, endpoints, now)
    if fresh:
        _write(path, _File(key_id, [*fresh.values(), *entries.values()][:ROUTERS_MAX]))


def recall(mesh: str, environ: Mapping[str, str]) -> list[KnownRouter]:
    """Those that were met last come first; none where there is no key, or another one since."""
    key_id = _key_id(mesh, environ)
    if key_id is None:
        return []
    entries = _read(known_path(mesh, environ), key_id, time.time())
    return [KnownRouter(entry.router_id, tuple(entry.endpoints)) for entry in entries]


def _says_the_same(known: _Entry, endpoints: Sequence[str], now: float) -> bool:
    return known.endpoints == endpoints and 0 <= now - known.met_at < SAID_AGAIN_S


def _key_id(mesh: str, environ: Mapping[str, str]) -> str | None:
    try:
        return load(mesh, environ).key_id
    except (NoKey, ConfigError):  # who connects says what is wrong with it
        return None


def _read(path: Path, key_id: str, now: float) -> list[_Entry]:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX)
    except OSError:
        return []
    try:
        found = msgspec.json.decode(content, type=_File)
        if not all(is_for_others(endpoint) for entry in found.routers for endpoint in entry.endpoints):
            raise msgspec.ValidationError("it names addresses that are none of other hosts")
    except msgspec.DecodeError as error:  # removed, so that this is said once
        log.warning("%s cannot be read and is removed, routers are looked for anew: %s", path, error)
        path.unlink(missing_ok=True)
        return []
    if found.key_id != key_id:
        return []
    return [entry for entry in found.routers[:ROUTERS_MAX] if entry.endpoints and now - entry.met_at < AGE_S_MAX]


def _write(path: Path, content: _File) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(content))
            draft.rename(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
    except OSError as error:  # a home that is read only, say
        log.debug("routers are not remembered in %s: %s", path, error)
