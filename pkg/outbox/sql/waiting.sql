-- Rows that are committed and were not passed by the position, up to a bound, and their size.
--   $1  the position's snapshot  $2  its target, NULL for none  $3, $4  its cursor on the way to the target
--   $5  where the snapshot begins  $6  how many rows to count
SELECT count(*), coalesce(sum(size), 0)::bigint
FROM (
    SELECT pg_column_size(e.*) AS size
    FROM cache_outbox.events e
    WHERE e.txid >= $5::xid8
      AND NOT pg_visible_in_snapshot(e.txid, $1::text::pg_snapshot)
      AND ($2::text IS NULL OR (e.txid, e.id) > ($3::xid8, $4::bigint) OR NOT pg_visible_in_snapshot(e.txid, $2::text::pg_snapshot))
    LIMIT $6::bigint
) waiting;
