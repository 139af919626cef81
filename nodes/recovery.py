"""The machine of a router, with what its store has from its lives before."""

from __future__ import annotations

import logging
import os
import platform
import secrets
from collections.abc import Iterator, Sequence
from importlib.metadata import version

from mesh.core.router import RouterMachine
from mesh.messages import Submit
from mesh.net.runtime_dir import RuntimeDir
from mesh.runtime.restoring import restore
from mesh.settings import Settings
from mesh.store.base import Store, StoredBatch
from mesh.store.identity import identity_at
from mesh.store.redis.store import RedisStore
from mesh.wire.codec import decode_body

log = logging.getLogger("mesh.router")

KEPT_EVERY = 200  # batches between two words to the store in a start: their decoding takes time


def recovered(store: Store, settings: Settings, *, name: str | None, on_lan: bool) -> RouterMachine:
    """The machine of a router that begins with what its store has. Raises ``StoreError``."""
    found = store.recover()
    for line in store.salvaged:
        log.warning("salvaged: %s", line)
    machine = RouterMachine(
        _router_id(store),
        name or f"router@{platform.node()}",
        settings,
        version=version("taskmesh"),
        durability=store.level,
        boot=found.boot,
        next_seq=found.next_seq,
        shared=isinstance(store, RedisStore),
    )
    others = on_lan or has_neighbours(settings.mesh, machine.router_id)
    restore(machine, found, _decoded(store, found.batches), others=others)
    return machine


def has_neighbours(mesh: str, router_id: str) -> bool:
    """Whether other routers of this mesh run here, for this user."""
    here = RuntimeDir(os.environ).routers(mesh)
    return any(record.router_id != router_id for record in here)


def _decoded(store: Store, found: Sequence[StoredBatch]) -> Iterator[tuple[int, float, Submit, set[str]]]:
    for number, batch in enumerate(found, 1):
        if isinstance(store, RedisStore) and not number % KEPT_EVERY:
            store.keep()
        yield batch.seq, batch.accepted_at, decode_body(batch.raw), batch.settled


def _router_id(store: Store) -> str:
    """Of a store that says none, for it ends with its router, that of this one life."""
    return store.router_id or identity_at(f"{store.url}:{secrets.token_hex(8)}")
