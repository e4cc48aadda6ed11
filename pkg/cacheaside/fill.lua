-- Replaces an entry by another one, or its header, or removes it, if it is still the one that the caller saw.
-- KEYS[1]  the key
-- ARGV[1]  what the caller saw: the first 39 bytes of the entry, or all of it if it was shorter
-- ARGV[2]  the new entry, or the new header; empty to remove the entry
-- ARGV[3]  its time to live in milliseconds; 0: none; keep: ARGV[2] is a header, the rest and the time to live stay
-- Returns 1 if the entry was replaced, 0 if it was not.
local stored = redis.pcall('GETRANGE', KEYS[1], 0, 38)
if type(stored) ~= 'string' then
	return 0 -- not a string any more
end
if stored == ARGV[1] then
	if ARGV[2] == '' then
		redis.call('UNLINK', KEYS[1])
	elseif ARGV[3] == 'keep' then
		redis.call('SETRANGE', KEYS[1], 0, ARGV[2])
	elseif ARGV[3] == '0' then
		redis.call('SET', KEYS[1], ARGV[2])
	else
		redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
	end
	return 1
end
if ARGV[2] ~= '' and stored == string.sub(ARGV[2], 1, 39) then
	return 1 -- this is the client's second copy of the command; the first one did it
end
return 0
