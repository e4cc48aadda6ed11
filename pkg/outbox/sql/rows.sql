-- What committed between two snapshots, from a cursor on, in the order of the index.
--   $1  transactions that ran in the first snapshot and had ended in the second
--   $2, $3  the cursor among those; the id on its own, because the index can only begin in the middle of a transaction that way
--   $4, $5  the cursor among the transactions that began after the first snapshot
--   $6  where these end in the second snapshot
--   $7  the second snapshot: this statement's own is newer, and sees more
--   $8  how many
SELECT txid, id, keys, created_at
FROM (
    (SELECT old.*
     FROM unnest($1::xid8[]) AS late (txid)
     CROSS JOIN LATERAL (
         SELECT e.txid, e.id, e.keys, e.created_at
         FROM cache_outbox.events e
         WHERE e.txid = late.txid AND e.id > CASE WHEN late.txid = $2::xid8 THEN $3::bigint ELSE 0 END
         ORDER BY e.txid, e.id
         LIMIT $8::bigint) old
     ORDER BY old.txid, old.id
     LIMIT $8::bigint)
    UNION ALL
    (SELECT e.txid, e.id, e.keys, e.created_at
     FROM cache_outbox.events e
     WHERE (e.txid, e.id) > ($4::xid8, $5::bigint) AND e.txid < $6::xid8
       AND pg_visible_in_snapshot(e.txid, $7::text::pg_snapshot)
     ORDER BY e.txid, e.id
     LIMIT $8::bigint)
) both_parts
ORDER BY txid, id
LIMIT $8::bigint;
