#!lua flags=no-writes,allow-oom,allow-stale
-- ARGV[1...] commands, each a JSON list of its words; none is run
-- Returns 1 for each that the caller's rights allow, 0 for the others; nothing where the server can not tell.
if not redis.acl_check_cmd then return {} end
local allowed = {}
for i = 1, #ARGV do
  local known, may = pcall(redis.acl_check_cmd, unpack(cjson.decode(ARGV[i])))
  allowed[i] = known and may and 1 or 0
end
return allowed
