"""How a journal that nobody has comes to another router."""

from __future__ import annotations

from mesh.store.redis.scripts.prelude import OTHERS, PRELUDE

KEEP = (
    PRELUDE
    + OTHERS
    + """
local ttl, holder, router, format, routers = ARGV[5], ARGV[6], ARGV[7], ARGV[8], base .. 'routers'
if call('TYPE', routers).ok ~= 'set' then call('UNLINK', routers) end
local function renew(id)
  local there = base .. 'r:' .. id .. ':'
  local lock = there .. 'lock'
  if call('PEXPIRE', lock, ttl) == 0 then
    call('SET', lock, holder, 'PX', ttl)
  elseif redis.pcall('GET', lock) ~= holder then
    redis.pcall('SET', lock, holder, 'PX', ttl)  -- where there is no room the old word counts on
  end
  return redis.pcall('SADD', routers, id) == 1
end
local is_back = renew(router)
for i = 9, #ARGV do
  if call('HGET', base .. 'r:' .. ARGV[i] .. ':meta', 'owner') == token then renew(ARGV[i]) end
end
local silent, odd, strange = {}, {}, 0
for _, id in ipairs(call('SMEMBERS', routers)) do
  if not is_id(id) then
    strange = strange + 1
  elseif id ~= router and #silent < 64 then
    local there = base .. 'r:' .. id .. ':'
    local left = call('PTTL', there .. 'lock')
    if left == -2 and call('EXISTS', there .. 'meta', there .. 'journal', there .. 'functions', there .. 'schedules',
        there .. 'apps', there .. 'moved') == 0 then
      call('SREM', routers, id)
    elseif left < ttl * 3 / 4 and call('EXISTS', there .. 'moved') == 0
        and (call('EXISTS', there .. 'journal', there .. 'functions') > 0
          or call('EXISTS', there .. 'schedules', there .. 'apps') > 0
            and redis.pcall('HEXISTS', there .. 'meta', 'merged') ~= 1) then
      local wrong = misfit(id)
      if not wrong and call('HGET', there .. 'meta', 'format') == format then
        silent[#silent + 1] = {id, math.max(left, 0), call('GET', there .. 'lock') or ''}
      elseif wrong and #odd < 8 then
        odd[#odd + 1] = 'router ' .. id .. ' (' .. wrong .. ')'
      end
    end
  end
end
return {'ok', silent, odd, strange, is_back and 1 or 0}
"""
)
"""Renew the lock, and those of the journals that are being adopted; which others nobody has, or may have soon.

Of these, none of which is empty: for how many ms more its lock holds, and who wrote that. Then those that make no
sense, in words, how many names there are that no router has, and whether the list of routers had lost this one.
"""

CLAIM = (
    PRELUDE
    + OTHERS
    + """
local router, id, ttl, holder, format, taken_from = ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local there = base .. 'r:' .. id .. ':'
if not is_id(id) or misfit(id) then return {'odd'} end
local found = call('HMGET', there .. 'meta', 'owner', 'format', 'boot', 'batches')
if found[1] ~= token then
  local held = call('GET', there .. 'lock')
  if call('PTTL', there .. 'lock') == -1 then held = nil end  -- no router wrote that
  if held and (held ~= taken_from or call('PTTL', there .. 'lock') > ttl / 2) then return {'held'} end
  if not found[1] or found[2] ~= format or call('EXISTS', there .. 'moved') > 0 then return {'held'} end
  call('HSET', there .. 'meta', 'owner', token, 'adopter', router)
  call('HINCRBY', there .. 'meta', 'epoch', 1)
  call('HDEL', there .. 'meta', 'bid')
end
call('SET', there .. 'lock', holder, 'PX', ttl)
local uses = call('ZRANGE', there .. 'functions', 0, -1, 'WITHSCORES')
for i = 1, #uses, 2 do
  if call('HEXISTS', base .. 'functions', uses[i]) == 1
      and call('ZADD', mine .. 'functions', 'NX', uses[i + 1], uses[i]) == 1 then
    redis.pcall('HINCRBY', base .. 'users', uses[i], 1)
  end
end
return {'ok', found[3] or '0', found[4] or '0', uses}
"""
)
"""Take over a journal that nobody has: ``held`` where somebody has, or where it is in another store now; ``odd`` where
it makes no sense.

``taken_from`` is not there any more: its word counts for half the time only.
Its functions are needed here from now on.
"""

ASIDE = (
    PRELUDE
    + """
local there = base .. 'r:' .. ARGV[5] .. ':'
if call('HGET', there .. 'meta', 'owner') ~= token then return {'ok'} end
local from, to = there .. 'journal', there .. 'journal:damaged'
if call('TYPE', to).ok ~= 'hash' then call('UNLINK', to) end
for i = 6, #ARGV do
  local row = call('HGET', from, ARGV[i])
  if row then
    call('HSET', to, ARGV[i], row)
    call('HDEL', from, ARGV[i])
  end
end
return {'ok'}
"""
)
"""Fields of a claimed journal that no router wrote."""

LOOK = (
    """
local base, call = ARGV[1], redis.call
"""
    + OTHERS
    + """
local odd, strange = {}, 0
for _, id in ipairs(redis.pcall('SMEMBERS', KEYS[1])) do
  local wrong = is_id(id) and misfit(id)
  if not is_id(id) then
    strange = strange + 1
  elseif wrong and #odd < 64 then
    odd[#odd + 1] = 'router ' .. id .. ' (' .. wrong .. ')'
  end
end
return {'ok', odd, strange}
"""
)
"""Which journals make no sense, in words, and how many names no router has."""

MOVE = (
    PRELUDE
    + OTHERS
    + """
local router, id = ARGV[5], ARGV[6]
local there = base .. 'r:' .. id .. ':'
if call('HGET', there .. 'meta', 'owner') ~= token then return {'lost', call('GET', there .. 'lock') or ''} end
local at = 7
local function take()
  at = at + 1
  return ARGV[at - 1]
end
local wrong = misfit(id)
if wrong then
  for i = at + 1, at + 3 * ARGV[at], 3 do
    if call('HEXISTS', mine .. 'journal', ARGV[i + 1]) == 1 then return {'ok'} end
  end
  return {'odd', wrong}
end
local left, came = 0, 0
for _ = 1, take() do
  local seq, to, row = take(), take(), take()
  if call('HDEL', there .. 'journal', seq) == 1 then
    left = left + 1
    if row ~= '' then came = came + call('HSET', mine .. 'journal', to, row) end
    call('DEL', there .. 'settled:' .. seq)
    for _, kept in ipairs(redis.pcall('SMEMBERS', there .. 'held:' .. seq)) do
      call('ZADD', base .. 'expiries', 0, kept)
    end
    call('DEL', there .. 'held:' .. seq)
  end
end
for _ = 1, take() do
  local task = take()
  call('HSET', mine .. 'marks', task, take())
  call('HDEL', there .. 'marks', task)
end
local adopted = {}
for _ = 1, take() do
  adopted[#adopted + 1] = take()
  adopted[#adopted + 1] = take()
end
each('HSET', base .. 'adopted', adopted, 1000)
for _ = 1, take() do
  local key = take()
  if call('EXISTS', there .. 'b:' .. key) == 1 then
    if call('EXISTS', mine .. 'b:' .. key) == 1 then
      call('UNLINK', there .. 'b:' .. key)
    else
      call('RENAME', there .. 'b:' .. key, mine .. 'b:' .. key)
    end
    call('HSET', base .. 'blob_at', key, router)
  end
end
for _ = 1, take() do
  local key = take()
  call('UNLINK', there .. 'b:' .. key)
  if call('HGET', base .. 'blob_at', key) == id then
    if call('EXISTS', mine .. 'b:' .. key) == 1 then call('HSET', base .. 'blob_at', key, router)
    else call('HDEL', base .. 'blob_at', key) end
  end
end
call('HINCRBY', meta, 'batches', came)
call('HINCRBY', there .. 'meta', 'batches', 0 - left)  -- for -0 is no number to Redis
return {'ok'}
"""
)
"""Batches of a claimed journal become this one's, with marks and large payloads. Done again, it does no more.

``odd`` where that journal makes no sense by now, and nothing was moved.
"""

LEAVE = (
    PRELUDE
    + OTHERS
    + """
local there = base .. 'r:' .. ARGV[5] .. ':'
local wrong = misfit(ARGV[5])
if wrong then return {'odd', wrong} end
if call('HGET', there .. 'meta', 'owner') ~= token then return {'ok'} end
if call('HLEN', there .. 'journal') > 0 then return {'more'} end
for _, digest in ipairs(call('ZRANGE', there .. 'functions', 0, -1)) do disuse(digest) end
for _, key in ipairs(call('SMEMBERS', there .. 'staged')) do call('UNLINK', there .. 's:' .. key) end
call('DEL', there .. 'functions', there .. 'nodes', there .. 'marks', there .. 'staged', there .. 'lock')
call('HSET', there .. 'meta', 'batches', 0, 'merged', 1)
call('HDEL', there .. 'meta', 'adopter')
for _, place in ipairs({'meta', 'schedules', 'positions', 'apps'}) do call('PEXPIRE', there .. place, ARGV[6]) end
if call('EXISTS', there .. 'schedules', there .. 'apps', there .. 'moved') == 0 then
  call('SREM', base .. 'routers', ARGV[5])
end
return {'ok'}
"""
)
"""A claimed journal is empty: its router may have it again, and begins with its periodic tasks alone.

Those are *merged* into the adopter's: they are offered to nobody again before that router has lived again. What is left
goes after ``ARGV[6]`` ms, and with it the last of that router, for names of routers may be used once and never again.
"""
