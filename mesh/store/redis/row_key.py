"""The row key on the server: found by the mesh keys, sealed anew for new ones, and put back where it was lost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from contextlib import suppress

from mesh.errors import ConfigError, StoreFull
from mesh.store.redis.link import Link, as_text
from mesh.store.redis.sealing import StoreKeys, find_row_key, new_row_key, seal

log = logging.getLogger("mesh.store")


class RowKey:
    """Of the mesh whose keys begin with ``base``. ``meta``: where that is, rows were signed before.

    ``value`` is what the rows are signed with, empty until it was found. ``keys``, of each method, reads the mesh keys
    that count.
    """

    def __init__(self, link: Link, base: str, meta: str) -> None:
        self._link = link
        self._base = base
        self._meta = meta
        self._place = f"{base}keys"
        self._keys_seen: list[str] = []
        self._no_keys = ""  # why they could not be read
        self.value = b""

    def find(self, keys: Callable[[], StoreKeys]) -> bool:
        """Find it, or make one; whether it is another than before. The one from before is put back where it was lost.

        Raises ``ConfigError`` where no key of the mesh opens it, or what it signed is there and it is not.
        """
        sealed = self._sealed()
        ours = keys()
        if not ours:
            raise ConfigError(f"{self._link.name}: a store on Redis takes the whole key of the mesh")
        row_key = find_row_key(sealed, ours)
        if row_key is None:
            self._refuse(sealed, ours)
            key_id, secret = ours[0]
            self._link.command("HSETNX", self._place, key_id, seal(self.value or new_row_key(), secret))
            return self.find(keys)  # another router may have been first
        self._reseal(row_key, sealed, ours)
        is_another = row_key != self.value
        self.value = row_key
        return is_another

    def _refuse(self, sealed: Collection[str], ours: StoreKeys) -> None:
        """Raise ``ConfigError`` unless a row key may be put there."""
        if not sealed and not self.value and self._link.command("EXISTS", self._meta, *places_of(self._base)):
            raise ConfigError(without_key(self._link.name, self._base))
        if sealed:
            raise ConfigError(
                f"{self._link.name} key {self._place}: what is there was written with another key of mesh "
                f"(of {', '.join(sorted(sealed))}, here: {', '.join(key_id for key_id, _ in ours)}): "
                "give this router that key, or its store another ?prefix="
            )

    def look_again(self, keys: Callable[[], StoreKeys]) -> bool:
        """Let in who has a new key of the mesh; False where another router has begun there since, with another key."""
        try:
            ours = keys()
        except ConfigError as error:  # somebody is at work on the file: what was found at the start still counts
            if str(error) != self._no_keys:
                log.error("the mesh key cannot be read, the one from before counts for the store: %s", error)
            self._no_keys = str(error)
            return True
        self._no_keys = ""
        if not ours:
            return True
        is_hash = self._link.command("TYPE", self._place) in (b"hash", b"none")
        sealed = self._sealed() if is_hash else {}
        if find_row_key(sealed, ours) not in (None, self.value):
            return False
        if [key_id for key_id, _ in ours] != self._keys_seen:
            self._reseal(self.value, sealed, ours)
        elif find_row_key(sealed, ours[:1]) is None and (not sealed or any(key_id in sealed for key_id, _ in ours)):
            self._put_back(sealed, ours)  # where all are others' our keys do not count any more
        return True

    def _sealed(self) -> dict[str, bytes]:
        found = self._link.command("HGETALL", self._place)
        return {as_text(key_id): row for key_id, row in found.items()}

    def _reseal(self, row_key: bytes, sealed: Collection[str], ours: StoreKeys) -> None:
        """Let in who has the newest key of the mesh, and those no more whose key does not count."""
        for key_id, secret in ours:
            if key_id not in sealed:
                self._link.command("HSET", self._place, key_id, seal(row_key, secret))
        live = [key_id for key_id, _ in ours]
        gone = [key_id for key_id in sealed if key_id not in live]
        if gone:
            self._link.command("HDEL", self._place, *gone)
        self._keys_seen = live

    def _put_back(self, sealed: Collection[str], ours: StoreKeys) -> None:
        """Somebody has deleted it, or written another thing into its place."""
        row = [value for key_id, secret in ours for value in (key_id, seal(self.value, secret))]
        with suppress(StoreFull):  # the next look does it
            self._link.commands([*([] if sealed else [("DEL", self._place)]), ("HSET", self._place, *row)])
            log.error("%s key %s: the key of the rows was gone, and is put back", self._link.name, self._place)


def places_of(base: str) -> list[str]:
    """Where something is that all routers of a mesh share, if there are any: also what is not signed."""
    names = ("routers", "outcomes", "expiries", "functions", "users", "adopted", "dues", "blob_at")
    return [base + name for name in names]


def without_key(url: str, base: str) -> str:
    """What to say where those are, and the key of the rows is not."""
    return (
        f"{url} key {base}keys is gone, while other keys of this mesh are there: what those are signed with is lost. A "
        "router of the mesh that runs puts it back within seconds: try again then. Where none runs, put it back from a "
        "copy of the server's data, or give the store another ?prefix= and begin anew"
    )
