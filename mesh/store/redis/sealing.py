"""Who can write to Redis must not be able to make workers run code: every row carries a MAC.

The key of the rows is random and made once for each mesh and server. It lies in Redis, sealed with the mesh key, so
that all routers of the mesh find it, and so that a new mesh key takes one seal and no row to be written anew.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping, Sequence
from hashlib import blake2b

MAC_BYTES = 16
_KEY_BYTES = 32
_NONCE_BYTES = 16

StoreKeys = Sequence[tuple[str, bytes]]
"""The mesh keys that count, the newest first: id, and the secret that is derived from it for stores."""


def new_row_key() -> bytes:
    """A key for the rows of a mesh, from the system's randomness."""
    return secrets.token_bytes(_KEY_BYTES)


def seal(row_key: bytes, secret: bytes) -> bytes:
    """The key of the rows, for whoever has ``secret``."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    hidden = bytes(a ^ b for a, b in zip(row_key, _pad(nonce, secret), strict=True))
    return nonce + hidden + _tag(nonce + hidden, secret)


def unseal(sealed: bytes, secret: bytes) -> bytes | None:
    """What ``seal`` was given; None where it was changed, or sealed with another secret."""
    nonce, hidden = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:-MAC_BYTES]
    tag = sealed[-MAC_BYTES:]
    if len(hidden) != _KEY_BYTES or not hmac.compare_digest(tag, _tag(nonce + hidden, secret)):
        return None
    return bytes(a ^ b for a, b in zip(hidden, _pad(nonce, secret), strict=True))


def find_row_key(sealed: Mapping[str, bytes], keys: StoreKeys) -> bytes | None:
    """The key of the rows, by any of the mesh keys that count."""
    for key_id, secret in keys:
        row_key = unseal(sealed[key_id], secret) if key_id in sealed else None
        if row_key is not None:
            return row_key
    return None


class Signer:
    """Signs and checks rows of one kind: a row of another kind, or of another router, is none of it."""

    def __init__(self, row_key: bytes, kind: str) -> None:
        self._key = blake2b(f"mesh/store/row/{kind}".encode(), key=row_key, digest_size=32).digest()

    def sign(self, body: bytes) -> bytes:
        """The row of ``body``."""
        return blake2b(body, key=self._key, digest_size=MAC_BYTES).digest() + body

    def body(self, row: object) -> bytes | None:
        """What ``sign`` was given; None where the row was changed, or made by somebody without the key."""
        if not isinstance(row, bytes) or len(row) < MAC_BYTES:
            return None
        body = row[MAC_BYTES:]
        mac = blake2b(body, key=self._key, digest_size=MAC_BYTES).digest()
        return body if hmac.compare_digest(mac, row[:MAC_BYTES]) else None


def _pad(nonce: bytes, secret: bytes) -> bytes:
    return blake2b(b"pad" + nonce, key=secret, digest_size=_KEY_BYTES).digest()


def _tag(data: bytes, secret: bytes) -> bytes:
    return blake2b(b"tag" + data, key=secret, digest_size=MAC_BYTES).digest()
