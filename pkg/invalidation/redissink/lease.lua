#!lua flags=allow-oom
-- KEYS[1] the lease's key
-- ARGV[1] the caller's nonce
-- ARGV[2] what the caller stores, which begins with its nonce; '' to give the lease up
-- ARGV[3] how long it holds, in milliseconds
-- ARGV[4] a lease of somebody else that may be taken over, '' for none
-- Returns 1 when the caller holds the lease, or gave it up; else whose it is (nil: nobody's).
-- allow-oom: a full Redis must not stop deletes.
local there = redis.pcall('GET', KEYS[1])
if type(there) == 'table' then
  if not string.find(there.err, 'WRONGTYPE', 1, true) then
    return there
  end
  there = false -- the key is the daemon's own, and this is nobody's lease
end
local mine = there and string.sub(there, 1, #ARGV[1]) == ARGV[1]
if ARGV[2] == '' then
  if mine then
    redis.call('DEL', KEYS[1])
    return 1
  end
elseif not there or mine or there == ARGV[4] then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return 1
end
return there
