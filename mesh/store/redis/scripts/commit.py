"""One commit."""

from __future__ import annotations

from mesh.store.redis.scripts.prelude import PRELUDE

COMMIT = (
    PRELUDE
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
