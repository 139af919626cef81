"""What is done in Redis as a whole or not at all: one Lua script for each.

A script that writes does nothing unless it is called by the router that owns the journal: ``meta`` has the owner's
token and its *epoch*, which grows with each owner. The lock beside it runs out when its holder no longer renews it. A
script that Redis refuses for want of memory has written nothing: its first write is one that is refused.
"""

from __future__ import annotations

from hashlib import sha1

from mesh.store.redis.kinds import DIGITS

_NUMBERS = f"""
local digits = {{{", ".join(f"{name} = {most}" for name, most in DIGITS.items())}}}
local function is_count(field, value)
  return not value or (#value <= digits[field] and string.match(value, '^%d+$') ~= nil)
end
"""

_PRELUDE = (
    _NUMBERS
    + """
local meta, token, epoch, base, mine = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local function call(command, key, ...)
  local found = redis.pcall(command, key, ...)
  if type(found) ~= 'table' or not found.err then return found end
  if string.find(found.err, 'WRONGTYPE', 1, true) then error('DAMAGED{ ' .. key .. '}', 0) end
  if command == 'HINCRBY' and string.find(found.err, 'integer', 1, true) then
    error('DAMAGED{' .. ... .. ' ' .. key .. '}', 0)
  end
  return redis.call(command, key, ...)  -- which fails as it did
end

local function count(field, value)
  if not is_count(field, value) then error('DAMAGED{' .. field .. ' ' .. meta .. '}', 0) end
  return tonumber(value or 0)
end

local function stranger()
  local found = call('HMGET', meta, 'owner', 'epoch')
  if found[1] == token then return nil end
  if not found[1] or count('epoch', found[2]) < tonumber(epoch) then return {'gone'} end
  return {'lost', call('GET', mine .. 'lock') or ''}
end
local no = stranger()
if no then return no end

local function each(command, key, values, step)
  for first = 1, #values, step do
    call(command, key, unpack(values, first, math.min(first + step - 1, #values)))
  end
end

local function drop_blob(router, key)
  call('UNLINK', base .. 'r:' .. router .. ':b:' .. key)
  if call('HGET', base .. 'blob_at', key) == router then call('HDEL', base .. 'blob_at', key) end
end

local function head(row)
  if #row < 46 then return '', 0, 0, '' end
  local router, batch, expires, length = struct.unpack('<c12ddH', row, 17)
  return router, batch, expires, string.sub(row, 47, 46 + length)
end

local function span(row)
  if row and #row >= 52 then return struct.unpack('<c12ddd', row, 17) end
end

local function disuse(digest)
  if call('HINCRBY', base .. 'users', digest, -1) > 0 then return end
  local by, _, _, key = head(call('HGET', base .. 'functions', digest) or '')
  if key ~= '' then drop_blob(by, key) end
  call('HDEL', base .. 'functions', digest)
  call('HDEL', base .. 'users', digest)
end

local function number(value) return string.format('%.0f', value) end
"""
)

_OTHERS = """
local function is_id(id) return #id == 12 and not string.find(id, '[^0-9a-f]') end

local shared = {expiries = 'zset', adopted = 'hash', blob_at = 'hash', users = 'hash', functions = 'hash'}
local own = {meta = 'hash', lock = 'string', journal = 'hash', marks = 'hash', nodes = 'hash', functions = 'zset',
  schedules = 'hash', positions = 'hash', apps = 'hash', staged = 'set'}

local function other_than(kinds, place)
  for name, kind in pairs(kinds) do
    local found = call('TYPE', place .. name).ok
    if found ~= 'none' and found ~= kind then return name .. ' is a ' .. found end
  end
end

local function misfit(id)
  local there = base .. 'r:' .. id .. ':'
  local wrong = other_than(shared, base) or other_than(own, there)
  if wrong then return wrong end
  local found = call('HMGET', there .. 'meta', 'owner', 'epoch', 'boot', 'batches')
  if not found[1] and call('EXISTS', there .. 'journal') == 1 then return 'meta names no owner' end
  for i = 2, 4 do
    local value = found[i]
    if value and (#value > 15 or not string.match(value, '^%-?%d+$')) then return 'meta has no numbers' end
  end
end
"""
"""What is asked of a journal of another router, before anything in it is changed: a script that fails in its middle has
written half. ``misfit`` says in a few words why it is none that a router wrote."""

ACQUIRE = (
    _NUMBERS
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
    _PRELUDE
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
    _PRELUDE
    + """
call('HSET', meta, 'batches', ARGV[5])
return {'ok'}
"""
)
"""So many batches are left in the journal."""

RENEW = (
    _PRELUDE
    + """
if call('PEXPIRE', mine .. 'lock', ARGV[5]) == 0 then call('SET', mine .. 'lock', ARGV[6], 'PX', ARGV[5]) end
return {'ok', call('HLEN', base .. 'outcomes'), call('HLEN', mine .. 'journal'), call('HGET', meta, 'commits') or '0'}
"""
)

KEEP = (
    _PRELUDE
    + _OTHERS
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
    _PRELUDE
    + _OTHERS
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
    _PRELUDE
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
    + _OTHERS
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

MOVE = (
    _PRELUDE
    + _OTHERS
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
    _PRELUDE
    + _OTHERS
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

GRANT = (
    _PRELUDE
    + """
local router, bid = ARGV[5], ARGV[6]
local dues = base .. 'dues'
call('HSET', meta, 'bid', bid)
local answers = {'ok'}
for i = 7, #ARGV, 4 do
  local field, first, row, damaged = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3]
  local found, word = call('HGET', dues, field), 'granted'
  local by, its_bid, from, to = span(found ~= damaged and found)
  if by and (its_bid == 0 and to or from - 1) >= first then
    word = 'behind'
  elseif by and its_bid ~= 0 and by ~= router
      and call('HGET', base .. 'r:' .. by .. ':meta', 'bid') == number(its_bid) then
    word = 'held'
  end
  if word == 'granted' then call('HSET', dues, field, row) end
  answers[#answers + 1], answers[#answers + 2] = word, found or ''
end
return answers
"""
)
"""Let this router fire due times: for each field of ``dues`` a row, the first time in it, and a row that is none.

For each comes a word, and the row that was there. ``behind``: due times are fired, or are not to be, up to the last of
a row that is fired, or up to the first of one that is not, for what was left out before that was so on purpose.
``held``: that row is of the bid that its router has out.
"""

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

PRUNE = (
    _PRELUDE
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

COMMIT = (
    _PRELUDE
    + """
local n, ttl, holder, grows, last_seq = tonumber(ARGV[5]), ARGV[6], ARGV[7], ARGV[8], tonumber(ARGV[9])
local router, serial = ARGV[10], ARGV[11]
local journal, outcomes = mine .. 'journal', base .. 'outcomes'
local found = call('HMGET', meta, 'commits', 'seq', 'serial', 'batches')
local commits, seq = count('commits', found[1]), count('seq', found[2])
count('batches', found[4])
if commits == n and found[3] == serial then return {'ok'} end
if commits >= n then return {'ahead', commits} end
if commits < n - 1 then return {'behind', commits} end

local at = 13
local new = tonumber(ARGV[12])
for i = 1, new do
  if call('HEXISTS', journal, ARGV[at + 2 * i - 2]) == 1 then return {'there', ARGV[at + 2 * i - 2]} end
end

if grows == '1' then call('SET', mine .. 'lock', holder, 'PX', ttl) else call('PEXPIRE', mine .. 'lock', ttl) end
local batches = 0
for i = 1, new do
  batches = batches + call('HSETNX', journal, ARGV[at], ARGV[at + 1])
  at = at + 2
end
if last_seq > seq then seq = last_seq end

local ops, earlier = {}, {}

function ops.put(count)
  for i = at, at + count - 1 do
    local key = ARGV[i]
    if call('EXISTS', mine .. 'b:' .. key) == 1 then
      call('UNLINK', mine .. 's:' .. key)
    elseif call('EXISTS', mine .. 's:' .. key) == 1 then
      call('RENAME', mine .. 's:' .. key, mine .. 'b:' .. key)
      call('HSET', base .. 'blob_at', key, router)
    end
    call('SREM', mine .. 'staged', key)
  end
  return count
end

function ops.unput(count)
  for i = at, at + count - 1 do
    call('UNLINK', mine .. 's:' .. ARGV[i])
    call('SREM', mine .. 'staged', ARGV[i])
  end
  return count
end

function ops.set(count)
  local values = {}
  for i = at + 1, at + 2 * count do values[#values + 1] = ARGV[i] end
  each('HSET', mine .. ARGV[at], values, 1000)
  return 2 * count + 1
end

function ops.del(count)
  local values = {}
  for i = at + 1, at + count do values[#values + 1] = ARGV[i] end
  each('HDEL', mine .. ARGV[at], values, 1000)
  return count + 1
end

function ops.outcomes(count)
  local known, values, expiries = {}, {}, {}
  for first = at, at + 2 * count - 2, 2000 do
    local ids = {}
    for i = first, math.min(first + 1998, at + 2 * count - 2), 2 do ids[#ids + 1] = ARGV[i] end
    for i, row in ipairs(call('HMGET', outcomes, unpack(ids))) do
      if row then known[ids[i]] = row end
    end
  end
  for id, row in pairs(known) do
    if head(row) ~= router then earlier[#earlier + 1] = id end
  end
  local last = 0
  for i = at, at + 2 * count - 2, 2 do
    local id, row = ARGV[i], ARGV[i + 1]
    local from, _, expires, key = head(row)
    local first = known[id]
    if not first then
      known[id] = row
      values[last + 1], values[last + 2] = id, row
      expiries[last + 1], expiries[last + 2] = expires, id
      last = last + 2
    elseif key ~= '' then
      local by, _, _, kept = head(first)
      if by ~= from or kept ~= key then drop_blob(from, key) end
    end
  end
  if call('EXISTS', base .. 'adopted') == 1 then
    for i = at, at + 2 * count - 2, 2 do call('HDEL', base .. 'adopted', ARGV[i]) end
  end
  each('HSET', outcomes, values, 1000)
  each('ZADD', base .. 'expiries', expiries, 1000)
  return 2 * count
end

function ops.settle(count)
  for i = at, at + 2 * count - 2, 2 do
    local batch = ARGV[i]
    local early = tonumber(batch) > seq
    if early then call('SADD', mine .. 'early', batch) end
    if early or call('HEXISTS', journal, batch) == 1 then call('SADD', mine .. 'settled:' .. batch, ARGV[i + 1]) end
  end
  return 2 * count
end

function ops.finish(count)
  for i = at, at + count - 1 do
    batches = batches - call('HDEL', journal, ARGV[i])
    call('DEL', mine .. 'settled:' .. ARGV[i])  -- small: another thread would cost more
    for _, id in ipairs(call('SMEMBERS', mine .. 'held:' .. ARGV[i])) do call('ZADD', base .. 'expiries', 0, id) end
    call('DEL', mine .. 'held:' .. ARGV[i])
  end
  return count
end

function ops.forget(count)
  for i = at, at + count - 1 do
    local row = call('HGET', outcomes, ARGV[i])
    if row then
      local by, _, _, key = head(row)
      if key ~= '' then drop_blob(by, key) end
      call('HDEL', outcomes, ARGV[i])
      call('ZREM', base .. 'expiries', ARGV[i])
    end
  end
  return count
end

function ops.unblob(count)
  for i = at, at + count - 1 do drop_blob(router, ARGV[i]) end
  return count
end

function ops.fired(count)
  call('HDEL', meta, 'bid')  -- it is over: nothing that is put back holds an entry by it
  for i = at, at + 2 * count - 2, 2 do
    local by, bid, first, last = span(call('HGET', base .. 'dues', ARGV[i]))
    local _, _, _, now = span(ARGV[i + 1])
    if not by or bid ~= 0 or last < now then call('HSET', base .. 'dues', ARGV[i], ARGV[i + 1]) end
  end
  return 2 * count
end

function ops.disused(count)
  local routers = call('SMEMBERS', base .. 'routers')
  for i = at, at + count - 1 do
    local kept = false
    for _, id in ipairs(routers) do
      kept = kept or call('HEXISTS', base .. 'r:' .. id .. ':schedules', ARGV[i]) == 1
    end
    if not kept then call('HDEL', base .. 'dues', 'due:' .. ARGV[i], 'queued:' .. ARGV[i]) end
  end
  return count
end

local function use(digest, used_at)
  if call('ZADD', mine .. 'functions', used_at, digest) == 1 then call('HINCRBY', base .. 'users', digest, 1) end
end

function ops.save(count)
  for i = at, at + 2 * count - 2, 2 do
    local old = call('HGET', base .. 'functions', ARGV[i])
    call('HSET', base .. 'functions', ARGV[i], ARGV[i + 1])
    if old then
      local by, _, _, key = head(old)
      local now_by, _, _, now_key = head(ARGV[i + 1])
      if key ~= '' and (by ~= now_by or key ~= now_key) then drop_blob(by, key) end
    end
  end
  return 2 * count
end

function ops.use(count)
  for i = at, at + 2 * count - 2, 2 do
    if call('HEXISTS', base .. 'functions', ARGV[i]) == 1 then use(ARGV[i], ARGV[i + 1]) end
  end
  return 2 * count
end

function ops.unsave(count)
  for i = at, at + count - 1 do
    if call('ZREM', mine .. 'functions', ARGV[i]) == 1 then disuse(ARGV[i]) end
  end
  return count
end

while ARGV[at] do
  local op, size = ops[ARGV[at]], tonumber(ARGV[at + 1])
  at = at + 2
  at = at + op(size)
end
call('HSET', meta, 'commits', n, 'seq', seq, 'serial', serial)
call('HINCRBY', meta, 'batches', batches)
return {'ok', earlier}
"""
)
"""One commit, the ``n``th of this journal: one that is said twice, for its answer was lost, is done once.

``serial`` tells it from another that was to be the ``n``th, was given up, and reached the server late: ``ahead``. It
says which tasks other routers had finished before, but where it was done before its answer was lost: a repeat returns
``ok`` and no such list, and who repeats it reads what these tasks ended with.
"""


def sha_of(script: str) -> str:
    """By what Redis knows a script that it has seen."""
    return sha1(script.encode(), usedforsecurity=False).hexdigest()
