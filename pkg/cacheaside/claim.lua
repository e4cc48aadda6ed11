-- Replaces a value that is not a string by a lease.
-- KEYS[1]  the key
-- ARGV[1]  the lease
-- ARGV[2]  its time to live in milliseconds
-- Returns 1 if the lease was stored, 0 if the key is gone or holds a string.
local kind = redis.call('TYPE', KEYS[1])
if type(kind) == 'table' then
	kind = kind.ok
end
if kind == 'none' or kind == 'string' then
	return 0
end
redis.call('UNLINK', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
