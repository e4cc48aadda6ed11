#!lua flags=allow-oom
-- KEYS[1] the position's key
-- ARGV[1] what the caller writes, '' to only look
-- ARGV[2...] what may be there: what the caller wrote last, and what it wrote without a reply; '' for "nothing"
-- Returns 1 when written, else what is there (nil: nothing).
-- allow-oom: a full Redis must not stop deletes.
local there = redis.call('GET', KEYS[1])
if ARGV[1] ~= '' then
  for i = 2, #ARGV do
    if there == ARGV[i] or (not there and ARGV[i] == '') then
      redis.call('SET', KEYS[1], ARGV[1])
      return 1
    end
  end
end
return there
