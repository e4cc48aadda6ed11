#!lua flags=allow-oom
-- KEYS[1] the position's key
-- ARGV[1] what the caller wrote last, '' for "nothing is there"
-- ARGV[2] what the caller writes now, '' to only look
-- Returns 1 when written, else what is there (nil: nothing).
-- allow-oom: a full Redis must not stop deletes.
local there = redis.call('GET', KEYS[1])
if ARGV[2] ~= '' then
  -- A caller that did not get the reply sends the same bytes again.
  if there == ARGV[1] or there == ARGV[2] or (not there and ARGV[1] == '') then
    redis.call('SET', KEYS[1], ARGV[2])
    return 1
  end
end
return there
