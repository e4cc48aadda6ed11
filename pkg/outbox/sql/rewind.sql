-- Where the rows of the last $1 seconds begin, and how far back the table holds every row.
--   $1  how long ago, in seconds  $2  how long a transaction may have taken, in seconds  $3  how long rows are kept, in seconds
-- created_at is when a row's transaction began, so a row that was committed after the given time may be older by as much as its
-- transaction took. Rows are pruned in the order of txid, and none that is younger than the retention.
SELECT (SELECT txid FROM cache_outbox.events WHERE created_at >= now() - make_interval(secs => $1::float8 + $2::float8)
        ORDER BY txid, id LIMIT 1) AS first,
       state.pruned_below,
       state.pruned_below = '0' OR $1::float8 <= $3::float8
           OR coalesce((SELECT created_at <= now() - make_interval(secs => $1::float8)
                        FROM cache_outbox.events WHERE txid >= state.pruned_below ORDER BY txid, id LIMIT 1), false) AS reaches,
       coalesce((SELECT min(created_at) FROM cache_outbox.events), now()) AS oldest
FROM cache_outbox.state;
