"""What several scripts begin with."""

from __future__ import annotations

from collections.abc import Mapping

from mesh.store.redis.kinds import DIGITS, some_kinds

NUMBERS = f"""
local digits = {{{", ".join(f"{name} = {most}" for name, most in DIGITS.items())}}}
local function is_count(field, value)
  return not value or (#value <= digits[field] and string.match(value, '^%d+$') ~= nil)
end
"""

PRELUDE = (
    NUMBERS
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


def _table(name: str, kinds: Mapping[str, str]) -> str:
    fields = ", ".join(f"{key} = '{kind}'" for key, kind in kinds.items())
    return f"local {name} = {{{fields}}}\n"


_SHARED = ("expiries", "adopted", "blob_at", "users", "functions")
_OWN = ("meta", "lock", "journal", "marks", "nodes", "functions", "schedules", "positions", "apps", "staged")

OTHERS = (
    _table("shared", some_kinds(_SHARED, shared=True))
    + _table("own", some_kinds(_OWN, shared=False))
    + """
local function is_id(id) return #id == 12 and not string.find(id, '[^0-9a-f]') end

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
)
"""What is asked of a journal of another router, before anything in it is changed: a script that fails in its middle has
written half. ``misfit`` says in a few words why it is none that a router wrote."""
