#!lua flags=allow-oom
-- KEYS[1] the hash of parked keys
-- ARGV[1] how many it may hold
-- ARGV[2] what is remembered of each that is not parked yet
-- ARGV[3...] the keys to park
-- Returns how many it holds, or -1 where the keys do not all fit, and how many were added.
local held, added = redis.call('HLEN', KEYS[1]), 0
for i = 3, #ARGV do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 0 then
    if held + added >= tonumber(ARGV[1]) then return {-1, added} end
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[2])
    added = added + 1
  end
end
return {held + added, added}
