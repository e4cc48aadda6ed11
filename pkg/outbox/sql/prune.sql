-- Looks at the oldest rows and deletes those that are applied and old enough. Raising pruned_below belongs to the same
-- transaction: whoever does not find a row can tell from it that the row was there.
--   $1  no row is left before this one      $2  everything before this transaction is applied
--   $3  how long rows are kept, in seconds  $4  how many rows to look at
WITH oldest AS MATERIALIZED (
    SELECT txid, id, created_at
    FROM cache_outbox.events
    WHERE txid >= $1::xid8 AND txid < $2::xid8
    ORDER BY txid, id
    LIMIT $4::bigint
), gone AS (
    DELETE FROM cache_outbox.events e
    USING oldest o
    WHERE (e.txid, e.id) = (o.txid, o.id) AND o.created_at < now() - make_interval(secs => $3::float8)
    RETURNING e.txid
), newest AS (
    SELECT (txid::text::numeric + 1)::text::xid8 AS below FROM gone ORDER BY txid DESC LIMIT 1
), marked AS (
    UPDATE cache_outbox.state SET pruned_below = newest.below FROM newest WHERE pruned_below < newest.below
)
SELECT (SELECT count(*) FROM gone) AS deleted, (SELECT txid FROM oldest ORDER BY txid LIMIT 1) AS first;
