"""What is done in Redis as a whole or not at all: one Lua script for each.

A script that writes does nothing unless it is called by the router that owns the journal: ``meta`` has the owner's
token and its *epoch*, which grows with each owner. The lock beside it runs out when its holder no longer renews it. A
script that Redis refuses for want of memory has written nothing: its first write is one that is refused.
"""

from __future__ import annotations

from mesh.store.redis.scripts.adoption import ASIDE, CLAIM, KEEP, LEAVE, LOOK, MOVE
from mesh.store.redis.scripts.commit import COMMIT
from mesh.store.redis.scripts.dues import GRANT
from mesh.store.redis.scripts.journal import ACQUIRE, BOOT, FORGET, RECOUNT, REFOUND, RELEASE, RENEW
from mesh.store.redis.scripts.outcomes import FIND, PRUNE

__all__ = [
    "ACQUIRE",
    "ASIDE",
    "BOOT",
    "CLAIM",
    "COMMIT",
    "FIND",
    "FORGET",
    "GRANT",
    "KEEP",
    "LEAVE",
    "LOOK",
    "MOVE",
    "PRUNE",
    "RECOUNT",
    "REFOUND",
    "RELEASE",
    "RENEW",
]
