"""Which router fires a due time."""

from __future__ import annotations

from mesh.store.redis.scripts.prelude import PRELUDE

GRANT = (
    PRELUDE
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
