"""What a user of the server must be let do: asked at a start, for else a router is up and ends at its first commit."""

from __future__ import annotations

from mesh.errors import StoreError
from mesh.store.redis.link import Link

_HARMLESS = (  # each as it changes nothing of a key that is not there
    "DEL",
    "EXISTS",
    "GET",
    "HDEL x",
    "HEXISTS x",
    "HGET x",
    "HGETALL",
    "HKEYS",
    "HLEN",
    "HMGET x",
    "HSCAN 0",
    "PERSIST",
    "PEXPIRE 1",
    "PTTL",
    "RENAME",
    "SCARD",
    "SISMEMBER x",
    "SMEMBERS",
    "SREM x",
    "TYPE",
    "UNLINK",
    "ZCARD",
    "ZMSCORE x",
    "ZRANGE 0 -1",
    "ZRANGEBYSCORE 0 0",
    "ZREM x",
    "ZSCAN 0",
    "ZSCORE x",
    "HINCRBY x 1",
    "HSET x 1",
    "HSETNX x 1",
    "SADD x",
    "SET x",
    "ZADD 0 x",
)
NEEDED = ("EVAL", "EVALSHA", "INFO", *(line.split()[0] for line in _HARMLESS))
USEFUL = ("CLIENT|ID", "CLIENT|LIST", "CONFIG|GET", "MEMORY|USAGE")

_ASK = """
local missing, key = {}, KEYS[1]
for i = 1, #ARGV do
  local words = {}
  for word in string.gmatch(ARGV[i], '%S+') do words[#words + 1] = word end
  local command = table.remove(words, 1)
  if command == 'RENAME' then words = {key} end
  local found = redis.pcall(command, key, unpack(words))
  if type(found) == 'table' and found.err
      and (string.find(found.err, 'NOPERM', 1, true) or string.find(found.err, "can't run", 1, true)
        or string.find(found.err, "can't access", 1, true)) then
    missing[#missing + 1] = command
  end
  redis.pcall('DEL', key)
end
return {'ok', missing}
"""


def ask_for_rights(link: Link, base: str) -> None:
    """Raise ``StoreError`` naming what this user may not do to keys that begin with ``base``."""
    missing = [name.decode() for name in link.script(_ASK, [f"{base}rights"], _HARMLESS)[1]]
    if missing:
        raise StoreError(
            f"{link.name}: this user may not do all that a router must with keys that begin with {base}: "
            f"{', '.join(missing)}; let it by ACL SETUSER ({' '.join(f'+{name.lower()}' for name in missing)})"
        )
