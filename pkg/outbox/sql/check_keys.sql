-- Some keys of the newest rows. A long key does not come: it is no use for a sample, and much to send.
--   $1  of how many rows  $2  how many of each  $3  how long, in bytes
SELECT key
FROM (SELECT keys FROM cache_outbox.events ORDER BY txid DESC, id DESC LIMIT $1::bigint) newest
CROSS JOIN LATERAL unnest(newest.keys[:$2::int]) AS key
WHERE octet_length(key) <= $3::int;
