"""Large payloads in Redis: a hash of parts for each, in a place of its own until a commit makes it the store's."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from hashlib import blake2b

import msgspec
from msgspec import Struct

from mesh.errors import StoreDamaged
from mesh.model import Blob, Buffer
from mesh.store.blob_file import PART_MAX, check_size, cut_parts
from mesh.store.redis.link import Link, Value
from mesh.store.redis.rows import is_router_id
from mesh.store.redis.sealing import Signer

PARTS_AT_ONCE = 4  # of at most 1 MiB, in one round trip

_HEADER = "h"


class _Header(Struct, frozen=True, array_like=True):
    key: str
    sizes: list[int]
    digest: bytes


class Payloads:
    """Of the router whose keys begin with ``mine``; ``base`` is what the keys of all routers begin with."""

    def __init__(self, link: Link, signer: Signer, base: str, mine: str) -> None:
        self._link = link
        self._signer = signer
        self._base = base
        self._mine = mine
        self._new: dict[str, None] = {}  # put since the last commit
        self._unwanted: dict[str, None] = {}  # put and taken back: they go with the next commit

    def put(self, blob: Blob, parts: Iterable[Buffer]) -> bool:
        """Write a payload where no commit has one of its key; whether there was none at all yet."""
        data = b"".join(parts)
        check_size(blob, len(data))
        if blob.key not in self._new and self._is_whole(blob.key):
            return False
        place = f"{self._mine}s:{blob.key}"
        header = _Header(blob.key, blob.sizes, blake2b(data, digest_size=32).digest())
        pieces: list[Value] = [self._signer.sign(msgspec.msgpack.encode(header)), *map(bytes, cut_parts(blob, [data]))]
        self._link.commands([("SADD", f"{self._mine}staged", blob.key), ("DEL", place)])
        for start in range(0, len(pieces), PARTS_AT_ONCE):
            names = [_HEADER if at == 0 else str(at - 1) for at in range(start, start + PARTS_AT_ONCE)]
            values = [value for item in zip(names, pieces[start : start + PARTS_AT_ONCE]) for value in item]
            self._link.command("HSET", place, *values)
        new = blob.key not in self._new
        self._new[blob.key] = None
        self._unwanted.pop(blob.key, None)
        return new

    def _is_whole(self, key: str) -> bool:
        place = f"{self._mine}b:{key}"
        try:
            return self._signer.body(self._link.command("HGET", place, _HEADER)) is not None
        except StoreDamaged:  # no payload at all: the one that comes takes its place
            self._link.command("UNLINK", place)
            return False

    def take_back(self, key: str) -> bool:
        """Forget a payload that was put since the last commit; whether it was."""
        if key not in self._new:
            return False
        del self._new[key]
        self._unwanted[key] = None
        return True

    def to_commit(self, held_back: Collection[str]) -> tuple[list[str], list[str]]:
        """What the next commit makes the store's, and what it removes."""
        return [key for key in self._new if key not in held_back], list(self._unwanted)

    def committed(self, put: Iterable[str], removed: Iterable[str]) -> None:
        """That was done."""
        for key in put:
            self._new.pop(key, None)
        for key in removed:
            self._unwanted.pop(key, None)

    def forget_new(self) -> None:
        """A start removes what no commit followed."""
        self._new.clear()
        self._unwanted.clear()

    def read(self, blob: Blob) -> list[bytes] | None:
        """A payload in parts; None when it is gone. Raises ``StoreDamaged``."""
        place, row = self._find(blob.key)
        if row is None:
            return None
        body = self._signer.body(row)
        header = None if body is None else msgspec.msgpack.decode(body, type=_Header)
        if header is None or header.key != blob.key or header.sizes != blob.sizes:
            raise self._damaged(blob, place)
        count = sum(-(-size // PART_MAX) for size in blob.sizes)
        parts: list[bytes] = []
        digest = blake2b(digest_size=32)
        for start in range(0, count, PARTS_AT_ONCE):
            names = map(str, range(start, min(start + PARTS_AT_ONCE, count)))
            for part in self._link.command("HMGET", place, *names):
                if part is None:
                    raise self._damaged(blob, place)
                digest.update(part)
                parts.append(part)
        if digest.digest() != header.digest:
            raise self._damaged(blob, place)
        return parts

    def _find(self, key: str) -> tuple[str, bytes | None]:
        """Where the payload is: with this router, committed or not yet, or with another."""
        places = [f"{self._mine}b:{key}", *([f"{self._mine}s:{key}"] if key in self._new else [])]
        *rows, router = self._link.commands(
            [*(("HGET", place, _HEADER) for place in places), ("HGET", f"{self._base}blob_at", key)]
        )
        for place, row in zip(places, rows):
            if row is not None:
                return place, row
        if router is None or not is_router_id(router):
            return places[0], None
        place = f"{self._base}r:{router.decode()}:b:{key}"
        return place, self._link.command("HGET", place, _HEADER)

    def _damaged(self, blob: Blob, place: str) -> StoreDamaged:
        return StoreDamaged(f"blob {blob.key}: {self._link.name} key {place} is not what was written; it is lost")
