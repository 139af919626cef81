"""Who has a journal, from when to when."""

from __future__ import annotations

from mesh.store.redis.scripts.prelude import NUMBERS, PRELUDE

ACQUIRE = (
    NUMBERS
    + """
local meta, token, lock, ttl, holder, taken_from = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local format, routers, router, salvage, boot, ms = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11]
local call = redis.call
local function kind(key) return call('TYPE', key).ok end

if kind(lock) == 'string' then
  local held = call('GET', lock)
  if held ~= holder and held ~= taken_from then
    return {'held', held, call('PTTL', lock), kind(meta) == 'hash' and call('HGET', meta, 'adopter') or ''}
  end
end
local wrong, found = {}, false
for i = 12, #ARGV, 2 do
  found = kind(ARGV[i])
  if found ~= 'none' and found ~= ARGV[i + 1] then wrong[#wrong + 1] = ARGV[i] end
end
if #wrong > 0 and salvage ~= '1' then return {'kinds', wrong} end
local lost_meta = false
for _, key in ipairs(wrong) do
  lost_meta = lost_meta or key == meta
  call('RENAME', key, key .. ':damaged:' .. ms)
end

found = call('HGET', meta, 'format')
if found and found ~= format then return {'format', found} end
local anew = {epoch = ms, commits = ms, boot = boot, seq = 0, batches = 0}
local numbers = {}
for field, value in pairs(anew) do
  if lost_meta or not is_count(field, call('HGET', meta, field)) then numbers[#numbers + 1] = field end
end
if #numbers > 0 and salvage ~= '1' then return {'numbers', numbers} end
for _, field in ipairs(numbers) do call('HSET', meta, field, anew[field]) end

call('SET', lock, holder, 'PX', ttl)
call('SADD', routers, router)
for _, place in ipairs({'meta', 'schedules', 'positions', 'apps'}) do
  call('PERSIST', string.sub(meta, 1, -5) .. place)
end
if call('HGET', meta, 'owner') ~= token then
  call('HINCRBY', meta, 'epoch', 1)
  call('HSET', meta, 'owner', token, 'format', format)
  call('HDEL', meta, 'adopter', 'bid', 'merged')
end
return {'ok', call('HMGET', meta, 'epoch', 'commits', 'seq', 'boot'), wrong, numbers}
"""
)
"""Take the journal: ``held`` while another has it, who is not ``taken_from``; ``format`` where it is of another.

``kinds`` where keys are of another type than a router writes, ``numbers`` where those in ``meta`` are none: with
``salvage`` the first are set aside, and the second begin anew above all that can have been.
"""

REFOUND = """
local meta, token, epoch, lock, ttl, holder = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local base, mine, id, format = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local call = redis.call
local found = call('HMGET', meta, 'owner', 'epoch')
if found[1] and found[1] ~= token and tonumber(found[2] or 0) >= tonumber(epoch) then
  return {'lost', call('GET', lock) or ''}
end
call('SET', lock, holder, 'PX', ttl)
call('SADD', base .. 'routers', id)
call('HSET', meta, 'owner', token, 'epoch', epoch, 'format', format, 'seq', ARGV[10], 'boot', ARGV[11],
  'commits', ARGV[12], 'batches', 0)
call('HDEL', meta, 'adopter', 'serial')
for _, seq in ipairs(call('HKEYS', mine .. 'journal')) do
  call('DEL', mine .. 'settled:' .. seq)
  for _, kept in ipairs(call('SMEMBERS', mine .. 'held:' .. seq)) do call('ZADD', base .. 'expiries', 0, kept) end
  call('DEL', mine .. 'held:' .. seq)
end
for _, seq in ipairs(call('SMEMBERS', mine .. 'early')) do call('DEL', mine .. 'settled:' .. seq) end
for _, where in ipairs({'journal', 'marks', 'nodes', 'schedules', 'positions', 'apps', 'early'}) do
  call('UNLINK', mine .. where)
end
for _, digest in ipairs(call('ZRANGE', mine .. 'functions', 0, -1)) do
  if call('HEXISTS', base .. 'functions', digest) == 0 then call('ZREM', mine .. 'functions', digest) end
end
return {'ok'}
"""
"""A server that has come back with less than it had acknowledged: what is left of the journal goes, for its router is
about to write it anew. Done again, it does no more."""

BOOT = (
    PRELUDE
    + """
local boots = call('HGET', meta, 'booted_by')
if boots ~= ARGV[5] then
  count('boot', call('HGET', meta, 'boot'))
  call('HSET', meta, 'booted_by', ARGV[5])
  call('HINCRBY', meta, 'boot', 1)
end
for _, key in ipairs(call('SMEMBERS', mine .. 'staged')) do call('UNLINK', mine .. 's:' .. key) end
call('DEL', mine .. 'staged')
for _, early in ipairs(call('SMEMBERS', mine .. 'early')) do
  if call('HEXISTS', mine .. 'journal', early) == 0 then call('DEL', mine .. 'settled:' .. early) end
end
call('DEL', mine .. 'early')
return {'ok', unpack(call('HMGET', meta, 'boot', 'seq', 'batches', 'commits'))}
"""
)
"""Count a start, and remove what no commit followed. ``ARGV[5]`` makes one start of a repeated call."""

RECOUNT = (
    PRELUDE
    + """
call('HSET', meta, 'batches', ARGV[5])
return {'ok'}
"""
)
"""So many batches are left in the journal."""

RENEW = (
    PRELUDE
    + """
if call('PEXPIRE', mine .. 'lock', ARGV[5]) == 0 then call('SET', mine .. 'lock', ARGV[6], 'PX', ARGV[5]) end
return {'ok', call('HLEN', base .. 'outcomes'), call('HLEN', mine .. 'journal'), call('HGET', meta, 'commits') or '0'}
"""
)

RELEASE = """
if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] then
  redis.call('DEL', ARGV[2])
  redis.call('HDEL', KEYS[1], 'bid')
  local mine = string.sub(KEYS[1], 1, -5)
  local left = redis.call('EXISTS', mine .. 'journal', mine .. 'functions', mine .. 'schedules', mine .. 'apps',
    mine .. 'moved')
  if left == 0 then
    redis.call('SREM', ARGV[3], ARGV[4])
    redis.call('PEXPIRE', KEYS[1], ARGV[5])
  end
end
return {'ok'}
"""
"""Let go of the journal. Where it has nothing that others adopt it is listed no more, and goes after ``ARGV[5]`` ms."""

FORGET = """
local meta, token, base, mine, id, own = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local call = redis.call
local found = call('HMGET', meta, 'owner', 'boot', 'commits')
if found[1] ~= token or found[2] or found[3] or call('EXISTS', mine .. 'moved') == 1 then return {'ok'} end
call('DEL', meta, mine .. 'lock')
call('SREM', base .. 'routers', id)
if call('HGET', base .. 'names', own) == id then call('HDEL', base .. 'names', own) end
return {'ok'}
"""
"""Forget a journal that was made for what did not come."""
