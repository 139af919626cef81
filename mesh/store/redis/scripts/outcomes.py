"""What there is of outcomes and functions, and how long."""

from __future__ import annotations

from mesh.store.redis.scripts.prelude import PRELUDE

FIND = """
local there = {}
for first = 1, #ARGV, 200 do
  local found = redis.call('HMGET', KEYS[1], unpack(ARGV, first, math.min(first + 199, #ARGV)))
  for i, row in ipairs(found) do
    if row then there[#there + 1] = ARGV[first + i - 1] end
  end
end
return {'ok', there}
"""
"""Which of these fields a hash has."""

PRUNE = (
    PRELUDE
    + """
local now, limit = ARGV[5], ARGV[6]
local pruned = 0
for _, id in ipairs(call('ZRANGEBYSCORE', base .. 'expiries', '-inf', '(' .. now, 'LIMIT', 0, limit)) do
  local row = call('HGET', base .. 'outcomes', id)
  local router, batch, expires, key
  if row then router, batch, expires, key = head(row) end
  if not row then
    call('ZREM', base .. 'expiries', id)
  elseif expires >= tonumber(now) then
    call('ZADD', base .. 'expiries', expires, id)
  elseif call('HEXISTS', base .. 'r:' .. router .. ':journal', number(batch)) == 1 then
    call('ZREM', base .. 'expiries', id)
    call('SADD', base .. 'r:' .. router .. ':held:' .. number(batch), id)
  else
    call('ZREM', base .. 'expiries', id)
    call('HDEL', base .. 'outcomes', id)
    if key ~= '' then drop_blob(router, key) end
    pruned = pruned + 1
  end
end
return {'ok', pruned}
"""
)
"""Forget outcomes that expired. One whose batch is open is set aside, and looked at again when that is finished."""
