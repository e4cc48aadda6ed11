-- Replaces an entry by another one, or removes it, if it is still the one that the caller saw.
-- KEYS[1]  the key
-- ARGV[1]  what the caller saw: the first 39 bytes of the entry, or all of it if it was shorter
-- ARGV[2]  the new entry; empty to remove it
-- ARGV[3]  its time to live in milliseconds
-- Returns 1 if the entry was replaced, 0 if it was not.
local stored = redis.pcall('GETRANGE', KEYS[1], 0, 38)
if type(stored) ~= 'string' then
	return 0 -- not a string any more
end
if stored == ARGV[1] then
	if ARGV[2] == '' then
		redis.call('UNLINK', KEYS[1])
	else
		redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
	end
	return 1
end
if ARGV[2] ~= '' and stored == string.sub(ARGV[2], 1, 39) then
	return 1 -- this is the client's second copy of the command; the first one did it
end
return 0
